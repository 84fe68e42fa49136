"""Nothing from a run, a class name or a file name becomes markup, script or formula."""

import base64
import csv
import hashlib
import io
import json
import re
from pathlib import Path

import pytest
from fake_results import result
from jinja2 import UndefinedError
from reports import BREAK, HOSTILE, behaved, read, write_hostile, write_run

from partialsym.report import page as pages, report
from partialsym.report.page import TEMPLATES


@pytest.fixture
def hostile(tmp_path):
    return write_hostile(tmp_path)


def test_texts_are_shown_and_add_no_tag(tmp_path, hostile):
    tame = write_hostile(tmp_path / "tame", "text", [f"k{i}" for i in range(len(HOSTILE))])
    page = read(report(hostile, tmp_path / "x.html", asked=f"{BREAK}?"))
    assert page.tags == read(report(tame, tmp_path / "y.html", asked="?")).tags
    for text in (f"{BREAK}?", f"Which symmetries does {BREAK}data have?", f"torch {BREAK}", f"\u202e={BREAK}"):
        assert text in page.text
    assert [of["name"] for of in page.data["images"][0]["classes"]] == list(HOSTILE)


def test_json_has_nothing_that_html_reads():
    text = TEMPLATES.from_string("{{ data|tojson }}").render(data={BREAK: list(HOSTILE)})
    assert re.search(r"[<>&\u2028\u2029]|[^\x20-\x7e]", text) is None
    assert json.loads(text) == {BREAK: list(HOSTILE)}


def test_only_the_pages_own_style_and_script_are_not_escaped():
    assert TEMPLATES.from_string("{{ text }}").render(text="<'\"&") == "&lt;&#39;&#34;&amp;"
    with pytest.raises(UndefinedError, match="'text' is undefined"):
        TEMPLATES.from_string("{{ text }}").render()
    package = Path(pages.__file__).parent
    texts = "".join(file.read_text(encoding="utf-8") for file in package.rglob("*") if file.suffix in (".py", ".html"))
    assert re.findall(r"([\w.]+) *\| *safe\b|(Markup)|autoescape (\w+)", texts) == [
        ("style", "", ""),
        ("script", "", ""),
    ]


def test_the_policy_allows_the_pages_own_style_and_script_alone(tmp_path, hostile):
    page = read(report(hostile, tmp_path / "x.html"))
    rules = dict(rule.strip().split(" ", 1) for rule in page.policy.split(";"))

    def hashed(kind):
        return f"'sha256-{base64.b64encode(hashlib.sha256(page.raw[kind].encode()).digest()).decode()}'"

    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": hashed("style"),
        "script-src": hashed("script module"),
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_nothing_is_loaded(tmp_path, hostile):
    page = read(report(hostile, tmp_path / "x.html"))
    svgs = [base64.b64decode(load.removeprefix("data:image/svg+xml;base64,"), validate=True) for load in page.loads]
    assert len(svgs) > 5
    for svg in svgs:
        assert not re.search(r"""(?:href|src)=["'](?!#)|url\((?!#)|<script|@import""", svg.decode())
    assert "http" not in re.sub(r"http://www\.w3\.org/2000/svg", "", page.raw["script module"] + page.raw["style"])


def test_no_cell_of_a_table_is_a_formula(tmp_path, hostile):
    page = read(report(hostile, tmp_path / "x.html"))
    rows = list(csv.DictReader(io.StringIO(page.data["files"]["responses.csv"])))
    assert {row["true_class"] for row in rows} == {*HOSTILE[:-1], "'=1+1"}
    for text in page.data["files"].values():
        cells = {cell for row in csv.reader(io.StringIO(text)) for cell in row}
        assert not [cell for cell in cells if cell[:1] in "=+@\t\r" and cell]
        assert [cell for cell in cells if cell[:1] == "-"] == []


def test_a_negative_number_stays_one(tmp_path):
    content = result()
    content["seconds"] = -1.5
    text = read(report([write_run(tmp_path, content)], tmp_path / "x.html")).data["files"]["accuracy.csv"]
    assert next(csv.DictReader(io.StringIO(text)))["seconds"] == "-1.5"


def test_half_a_character_pair_is_written(tmp_path):
    run = write_run(tmp_path, result(), behaved(("a\udcff", "b")))
    page = read(report([run], tmp_path / "x.html"))
    assert "a?" in page.text
    assert page.data["images"][0]["classes"][0]["name"] == "a\udcff"
    assert ",a?," in (report([run], tmp_path / "out").parent / "responses.csv").read_text(encoding="utf-8")
