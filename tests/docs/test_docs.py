"""The documentation: it builds without a warning, its links lead somewhere, and it names what there is."""

import ast
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import partialsym as ps

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EQUATIONS = DOCS / "equations.md"
REFERENCE = re.compile(r"^::: (\S+)$", re.MULTILINE)
NAMES = sorted(set(dir(ps)) - {"__version__", "models"})


class Page(HTMLParser):
    """What a page links to or loads, by (tag, attribute, address), and its anchors."""

    def __init__(self, file):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.links += [(tag, key, attrs[key]) for key in ("href", "src") if attrs.get(key)]
        if "id" in attrs:
            self.anchors.add(attrs["id"])


def build(out, config=ROOT / "mkdocs.yml"):
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--site-dir",
        str(out),
        "--config-file",
        str(config),
    ]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    out = tmp_path_factory.mktemp("site")
    done = build(out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site):
    return {file: Page(file) for file in site.rglob("*.html") if file.name != "404.html"}


def test_every_page_is_there_and_every_link_leads_somewhere(site, pages):
    assert len(pages) > 20
    for file, page in pages.items():
        for tag, _, address in page.links:
            url = urlsplit(address)
            if url.scheme in ("http", "https", "mailto", "data"):
                continue
            target = (file.parent / unquote(url.path)).resolve() if url.path else file
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{file.relative_to(site)}: {address}"
            if url.fragment and tag == "a" and target in pages and not url.fragment.startswith("__"):
                assert unquote(url.fragment) in pages[target].anchors, f"{file.relative_to(site)}: {address}"


def test_nothing_is_loaded_from_elsewhere(site, pages):
    for file, page in pages.items():
        loaded = [a for tag, key, a in page.links if tag in ("link", "script", "img", "iframe") and key]
        assert loaded
        assert [a for a in loaded if urlsplit(a).netloc] == [], file.relative_to(site)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet.name


def test_the_first_page_shows_the_pictures_once(site, pages):
    sources = [a for tag, key, a in pages[site / "index.html"].links if (tag, key) == ("img", "src")]
    assert [s for s in sources if s.endswith(("responses.png", "subsets.png"))] == sources[-2:]
    for picture in sources[-2:]:
        assert (site / picture).read_bytes() == (ROOT / picture).read_bytes()
    assert not [*DOCS.rglob("responses.png"), *DOCS.rglob("subsets.png")]


def test_a_warning_fails_the_build(tmp_path):
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# A\n\n[nowhere](nowhere.md) [else](#else)\n", encoding="utf-8")
    rules = re.search(r"^validation:\n(  .*\n)+", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    (tmp_path / "mkdocs.yml").write_text(f"site_name: A\n{rules[0]}", encoding="utf-8")
    done = build(tmp_path / "out", tmp_path / "mkdocs.yml")
    assert done.returncode == 1
    assert done.stderr.count("WARNING") == 2
    recipe = re.search(r"^check:.*\n(\t.*\n)+", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[0]
    assert re.search(r"mkdocs build --strict$", recipe, re.MULTILINE)  # with --quiet it counts no warnings


def documented():
    """What the reference shows: (page, object)."""
    for file in sorted((DOCS / "api").glob("*.md")):
        for path in REFERENCE.findall(file.read_text(encoding="utf-8")):
            module, name = path.rsplit(".", 1)
            yield file, path, getattr(import_module(module), name)


def test_every_public_name_is_in_the_reference_once_and_in_its_list():
    shown = [thing for _, _, thing in documented()]
    for name in NAMES:
        thing = getattr(ps, name)
        assert sum(thing is other for other in shown) == 1, name
        assert f"`{name}`" in (DOCS / "api" / "index.md").read_text(encoding="utf-8"), name


def test_the_reference_is_rendered(site, pages):
    for file, path, _ in documented():
        page = pages[site / "api" / f"{file.stem}.html"]
        assert path in page.anchors, path
    text = (site / "api" / "groups.html").read_text(encoding="utf-8")
    assert "[*n, 2, 2]" in text  # and not in italics
    assert "&gt;&gt;&gt; group" not in re.sub(r"<(code|pre).*?</\1>", "", text, flags=re.DOTALL)


def test_the_tests_of_the_equations_exist():
    found = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", EQUATIONS.read_text(encoding="utf-8"))
    assert len(found) > 35
    for file, name in found:
        tree = ast.parse(next((ROOT / "tests").rglob(file)).read_text(encoding="utf-8"))
        assert not name or name in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)], (file, name)


def test_the_classes_of_the_equations_exist():
    rows = [row.split(" | ") for row in EQUATIONS.read_text(encoding="utf-8").splitlines() if row.count(" | ") == 3]
    named = [name for _, _, code, _ in rows for name in re.findall(r"`([\w.]+)[^`]*`", code)]
    assert len(named) > 35
    for name in named:
        head, *rest = name.split(".")
        thing = getattr(ps, head) if head in NAMES else import_module(f"partialsym.{head}")
        for part in rest:
            assert hasattr(thing, part) or part in getattr(thing, "__annotations__", {}), name
            thing = getattr(thing, part, None)
