"""`benchmarks.soak`: memory that grows is noticed, memory that does not is called flat."""

import gc
import json
import math
import mmap
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from benchmarks import soak
from partialsym import GResNet, save_model
from partialsym.runs.run import Run

AT = np.arange(20.0)
SHORT = replace(soak.CONFIG, training=replace(soak.CONFIG.training, epochs=1))


def pages(size):
    """So many resident bytes, none of them memory that earlier tests have freed."""
    held = mmap.mmap(-1, size)
    held[:: mmap.PAGESIZE] = bytes(size // mmap.PAGESIZE)
    return held


def autoregressive(rho, generator):
    noise = generator.standard_normal(20)
    values = [noise[0] / math.sqrt(1 - rho**2)]
    for step in noise[1:]:
        values.append(rho * values[-1] + step)
    return values


@pytest.mark.parametrize("rise", [-3.0, 0.0, 0.25])
def test_a_line_has_its_slope_and_no_interval_to_speak_of(rise):
    assert soak.slope(AT, 600 + rise * AT)[:3] == pytest.approx([rise] * 3, abs=1e-9)


def test_without_autocorrelation_it_is_least_squares_with_students_interval():
    values = 600 + 0.5 * AT + (-1) ** AT
    ours, theirs = soak.slope(AT, values), stats.linregress(AT, values)
    half = stats.t.ppf(0.975, 18) * theirs.stderr
    assert ours == pytest.approx((theirs.slope, theirs.slope - half, theirs.slope + half, 0), rel=1e-3)


def test_residuals_that_follow_one_another_widen_the_interval():
    values = np.repeat([1.0, -1.0, 1.0, -1.0, 1.0], 4)  # 4 of the 19 pairs of neighbours differ
    ours, theirs = soak.slope(AT, values), stats.linregress(AT, values)
    assert ours.value == pytest.approx(0, abs=1e-12)
    rest = values - values.mean()
    rho = (20 * (rest[1:] @ rest[:-1]) / (rest @ rest) + 2) / 16
    assert 0.5 < rho == pytest.approx(ours.autocorrelation)
    wider = math.sqrt((1 + rho) / (1 - rho))
    assert ours.high == pytest.approx(stats.t.ppf(0.975, 18) * theirs.stderr * wider, rel=1e-3)


@pytest.mark.parametrize(("rho", "share", "plain"), [(0.0, 0.95, 0.98), (0.5, 0.87, 0.8), (0.8, 0.8, 0.55)])
def test_the_interval_holds_the_truth_where_a_plain_one_does_not(rho, share, plain):
    generator = np.random.default_rng(0)
    held = held_plainly = 0
    for _ in range(1000):
        values = autoregressive(rho, generator)
        ours, theirs = soak.slope(AT, values), stats.linregress(AT, values)
        held += ours.low <= 0 <= ours.high
        held_plainly += abs(theirs.slope) <= soak.STUDENT * theirs.stderr
    assert held / 1000 >= share
    assert held_plainly / 1000 <= plain


def test_another_number_of_means_is_refused():
    with pytest.raises(ValueError, match="19 places and 20 means: must be 20 of each"):
        soak.slope(AT[1:], AT)


def test_the_first_fifth_is_no_part_of_the_slope_and_units_are_those_asked_for():
    at = np.arange(250.0)
    rss = np.where(at < 50, 100 + 10 * at, 600 + 0.01 * at)
    found = soak.grown(at, rss, 3600)
    assert found["slope"]["value"] == pytest.approx(36)
    assert found["slope"]["low"] == pytest.approx(36)
    assert found["samples"] == 250
    assert found["blocks"][0] == pytest.approx({"at": 4.5, "mean": 145, "least": 100, "most": 190})
    assert soak.grown(at, np.where(at < 60, 100, 600), 3600)["slope"]["value"] > 100  # a start that takes longer is


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="24 samples of RSS: must be at least 25"):
        soak.grown(range(24), range(24), 1)


def test_resident_memory_is_that_of_this_process(monkeypatch):
    gc.collect()
    before = soak.resident()
    held = pages(2**28)
    now = soak.resident()
    assert now - before == pytest.approx(1e-6 * len(held), rel=0.1)
    assert soak.resident(peak=True) >= now
    held.close()
    assert soak.resident() - before < 30
    monkeypatch.setattr(soak, "Path", lambda name: Path("/nowhere"))
    with pytest.raises(OSError, match=r"no /proc/self/status on .*: RSS is read on Linux alone"):
        soak.resident()


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(21.0, 40.0, "grows"), (-300.0, -1.0, "flat"), (-1.0, 19.0, "flat"), (19.0, 21.0, "undecided")],
)
def test_what_cannot_be_told_is_not_called_flat(low, high, verdict):
    assert soak.verdict({"low": low, "high": high}) == verdict


def test_the_picture_shows_both_phases():
    found = soak.grown(range(25), np.linspace(600, 624, 25), 1)
    figure = soak.picture({phase: found | {"unit": f"MB of {phase}"} for phase in soak.PHASES})
    left, right = figure.axes
    assert [axes.get_xlabel() for axes in (left, right)] == ["minutes of training", "thousands of predictions"]
    assert "+1.0 MB of training, 95 %: [+1.0, +1.0], flat" in {text.get_text() for text in figure.texts}
    means, line = left.lines
    assert list(line.get_ydata()) == pytest.approx(list(range(605, 625)))
    assert list(means.get_xdata()) == pytest.approx([i / 60 for i in range(25)])


@pytest.fixture
def run(tmp_path):
    model = GResNet("SE2", samples=4, width=4, hidden=8, kernel_size=5, num_classes=2)
    save_model(model, tmp_path / "run" / "model", classes=["6", "9"], mean=(0.2,), std=(0.3,), size=(28, 28))
    return Run(tmp_path / "run")


def leaking(function, size):
    """`function`, of which every call keeps so many bytes."""
    kept = []

    def leak(*args, **options):
        kept.append(pages(size))
        return function(*args, **options)

    return leak


@pytest.mark.long
def test_predictions_that_leak_are_noticed_and_others_are_not(run, tmp_path, monkeypatch):
    files = soak.pictures(tmp_path / "images")
    assert len(files) > soak.TOGETHER
    gc.collect()  # what earlier tests have left would go meanwhile
    clean = soak.predicting(run, files, 1700)
    assert (clean["predictions"], clean["alone"], clean["samples"]) == (1700, 100, 25)
    monkeypatch.setattr(soak, "logits", leaking(soak.logits, 2**20))
    leak = soak.predicting(run, files, 1700)
    planted = 5e-6 * 2**20 / 68 * 1e5  # MB in 100,000 predictions: five calls a round of 68
    assert leak["slope"]["value"] == pytest.approx(planted, rel=0.1)
    assert soak.verdict(leak["slope"]) == "grows"
    assert abs(clean["slope"]["value"]) < planted / 50


@pytest.fixture
def clock(monkeypatch):
    """On which a training takes a second, however long it took."""
    ran, inner = [], soak.train

    def train(*arguments, **options):
        ran.append(inner(*arguments, **options))
        return ran[-1]

    monkeypatch.setattr(soak, "train", train)
    monkeypatch.setattr(soak, "time", SimpleNamespace(monotonic=lambda: float(len(ran))))


@pytest.mark.long
def test_training_that_leaks_is_noticed_and_other_training_is_not(tmp_path, monkeypatch, clock):
    soak.training(tmp_path / "before", 8, SHORT)
    _, clean = soak.training(tmp_path / "clean", 20, SHORT)
    monkeypatch.setattr(soak, "train", leaking(soak.train, 2**25))
    run, leak = soak.training(tmp_path / "leak", 20, SHORT)
    planted = 1e-6 * 2**25 * leak["runs"] / leak["seconds"] * 3600  # MB in an hour
    assert leak["slope"]["value"] == pytest.approx(planted, rel=0.3)
    assert soak.verdict(leak["slope"]) == "grows"
    assert abs(clean["slope"]["value"]) < planted / 4
    assert leak["steps"] == leak["runs"] * run.history()[-1]["step"]
    assert [folder.name for folder in run.folder.parent.iterdir()] == [f"seed{leak['runs'] - 1}"]


@pytest.mark.long
def test_the_whole_of_it_writes_a_record_and_a_picture(tmp_path, monkeypatch, capsys):
    out = tmp_path / "results" / "soak.json"
    monkeypatch.setattr("sys.argv", ["soak", "--minutes", "0.1", "--predictions", "1700", "--out", str(out)])
    status = soak.main()
    report = json.loads(out.read_text(encoding="utf-8"))
    assert status == ("grows" in {soak.verdict(report[phase]["slope"]) for phase in soak.PHASES})
    assert report["training"]["runs"] >= 1
    assert report["predicting"]["predictions"] == 1700
    assert report["peak"] >= max(block["most"] for phase in soak.PHASES for block in report[phase]["blocks"]) - 5
    assert {"versions", "machine", "git", "config", "format"} <= report.keys()
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert sorted(file.name for file in out.parent.iterdir()) == ["soak.json", "soak.png"]
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == list(soak.PHASES)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--minutes", "0"], "minutes is 0.0: must be positive and finite"),
        (["--predictions", "10"], "predictions is 10: must be at least 1700"),
    ],
)
def test_what_cannot_be_is_refused_before_it_trains(given, said, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["soak", *given])
    with pytest.raises(SystemExit):
        soak.main()
    assert said in capsys.readouterr().err
