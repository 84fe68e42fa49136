"""Questions with known answers, put to real digits and real trainings: minutes, so `make test-slow` alone."""

import os
from pathlib import Path

import pytest

from benchmarks.folders import write_folder
from partialsym.ask import METHODS, answer, schedule
from partialsym.ask.planning import Length, Plan, Seconds
from partialsym.config import DataConfig
from partialsym.report import gather, judge

pytestmark = pytest.mark.long
STEPS = 160


@pytest.fixture
def root():
    """Where MNIST is."""
    folder = Path(os.environ.get("PARTIALSYM_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not (folder / "mnist.npz").exists():
        pytest.skip("MNIST is not on this machine: set PARTIALSYM_DATA")
    return str(folder)


@pytest.fixture
def make(root, tmp_path):
    """A folder of such images, as the data of a question."""

    def made(kind, *, train=400, test=1000, seed=0, **options):
        path = tmp_path / f"{kind}-{seed}"
        write_folder(kind, path, train, test, seed, root)
        return DataConfig(source="folder", root=str(path), **options)

    return made


@pytest.fixture
def fixed(monkeypatch):
    """The same training whatever the machine's speed: `fixed(steps)`."""

    def fix(steps, train, group="SE2"):
        length = Length(4, max(1, steps * 64 // (4 * train)), None)
        methods = tuple(METHODS[group])
        seconds = dict.fromkeys(methods, Seconds(0.0, 0.0))
        plan = Plan(8, None, methods, 64, (length,), seconds, dict.fromkeys(methods, 1))
        monkeypatch.setattr(answer, "plan", lambda *_, **__: plan)
        monkeypatch.setattr(schedule, "MOST_SEEDS", 0)  # no more than are asked for

    return fix


def answers(data, group, out, seeds=3):
    """question → answer."""
    _, runs, _ = answer.ask(data, group, budget=1e6, out=out, seeds=seeds, workers=2)
    found = judge(gather(runs, data.root)).verdict
    return {finding.question: finding.answer for finding in found.findings}


def test_digits_turned_through_a_circle_are_symmetric(fixed, make, tmp_path):
    fixed(STEPS * 3 // 2, 360)
    found = answers(make("digits-turned"), "SE2", tmp_path / "out", seeds=5)  # which vary much: three are too few
    assert found["Rotation"] == "helps"


def test_sixes_against_turned_sixes_are_not(fixed, root, tmp_path):
    fixed(STEPS, 360)
    data = DataConfig("MNIST6-180", root=root, train_images=360)
    found = answers(data, "SE2", tmp_path / "out")
    assert found["Rotation"] == "costs"
    assert found["All of SE(2), or a part"] == "a part is better"


def test_upright_6_against_9_is_not_called_symmetric(fixed, make, tmp_path):
    """A 9 is no turned 6 in handwriting: a network blind to rotation still tells most of them apart."""
    fixed(STEPS, 360)
    assert answers(make("digits-69"), "SE2", tmp_path / "out")["Rotation"] != "helps"


def test_mirrored_pairs_are_not_symmetric(fixed, make, tmp_path):
    fixed(2 * STEPS, 360, "Mirror")
    assert answers(make("digits-mirrored"), "Mirror", tmp_path / "out")["Mirroring"] == "costs"


def test_shuffled_labels_are_no_evidence(fixed, make, tmp_path):
    fixed(30, 180, "Mirror")
    silent = 0
    for seed in range(20):
        data = make("digits-shuffled", train=200, test=200, seed=seed, size=14)
        silent += set(answers(data, "Mirror", tmp_path / f"out{seed}").values()) == {"not enough evidence"}
    assert silent >= 19
