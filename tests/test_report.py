"""A report is self-contained, escaped and all or nothing."""

import base64
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from made_up import LAYERS, history, result

from partialsym.page import spread, undecided
from partialsym.report import report
from partialsym.run import Run


def write_run(root, content, folder="e2"):
    run = Run(root / folder / f"seed{content['config']['seed']}")
    run.folder.mkdir(parents=True)
    run.write_history(history())
    run.write_result(content)
    return run


class Page(HTMLParser):
    """Checks nesting and collects what a page loads and says."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.loads, self.text = [], [], [], ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_report_holds_the_numbers(tmp_path, out):
    runs = [write_run(tmp_path, result(seed=s, test=t, p=0.4, response=True)) for s, t in ((0, 0.9), (1, 0.92))]
    path = report(runs, out)
    page = Page(path.read_text(encoding="utf-8"))
    for text in (
        "91.00 ± 1.41",
        "75.00 ± 0.00",
        "12,345",
        "60.0 ± 0.0",
        "abc123, with changes",
        "torch 2.13.0",
        "0.125",
    ):
        assert text in page.text
    assert "e2, seed 1: lifting P(m) .40" in page.text
    assert "Deterministic 92.00 %, sampled 75.00 %" in page.text
    assert sorted(file.name for file in out.iterdir()) == [
        "index.html",
        "responses.png",
        "subsets.png",
        "training.png",
    ]


def test_report_is_self_contained_and_escaped(tmp_path, out):
    hostile = '<script>alert("1")</script>&$x'
    content = result(run="a")
    content["config"]["name"] = hostile
    run = write_run(tmp_path, content, folder="hostile")
    page = Page(report([run], out).read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert hostile in page.text
    assert "<b>cpu</b>" in page.text
    assert page.loads
    for load in page.loads:
        svg = base64.b64decode(load.removeprefix("data:image/svg+xml;base64,"), validate=True).decode()
        assert not re.search(r"""(?:href|src)=["'](?!#)""", svg)
        assert "<script" not in svg


def test_report_of_one_seed_has_no_spread(tmp_path, out):
    text = Page(report([write_run(tmp_path, result("T2", run="plain"))], out).read_text(encoding="utf-8")).text
    assert "90.00" in text
    assert "90.00 ±" not in text
    assert "Undecided" not in text
    assert not (out / "responses.png").exists()


def test_unfinished_run_is_refused_and_nothing_written(tmp_path, out):
    done = write_run(tmp_path, result())
    with pytest.raises(FileNotFoundError, match="has not finished"):
        report([done, Run(tmp_path / "e2" / "seed7")], out)
    with pytest.raises(ValueError, match="no runs"):
        report([], out)
    assert not out.exists()


def test_same_name_with_other_settings_is_another_method(tmp_path, out):
    runs = [write_run(tmp_path / "a", result("E2")), write_run(tmp_path / "b", result("SE2"))]
    assert "e2 (2)" in Page(report([*runs, runs[0]], out).read_text(encoding="utf-8")).text
    again = write_run(tmp_path / "c", result("E2"))
    with pytest.raises(ValueError, match="seed 0 of 'e2'"):
        report([runs[0], again], out)


def test_a_result_older_than_a_setting_is_of_the_method_with_its_default(tmp_path, out):
    old = result("E2")
    del old["config"]["model"]["network"]
    del old["config"]["training"]["compile"]
    runs = [write_run(tmp_path / "a", old), write_run(tmp_path / "b", result("E2", seed=1))]
    assert "e2 (2)" not in Page(report(runs, out).read_text(encoding="utf-8")).text


def test_numbers_in_words():
    assert spread([1.0]) == "1.00"
    assert spread([1.0, 3.0], 1) == "2.0 ± 1.4"
    assert undecided(result(p=0.29)) == []
    assert undecided(result(p=0.7)) == [f"{layer} P(m) .70" for layer in LAYERS]


def test_no_pyplot():
    code = "import sys, partialsym.report; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
