"""On a GPU: one device for all of a layer's tensors, and a training step that waits once.

The GPU is emulated, see emulated_cuda.py: no test here says anything of a real one's numbers or speed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import cuda_guard
import emulated_runs
import pytest
import torch
from helpers import few
from training import TINY

import partialsym as ps
from partialsym.data.reading.loader import Loader
from partialsym.training.callbacks.divergence import copies
from partialsym.training.callbacks.progress import EVERY, ProgressBar
from partialsym.training.module import ClassifierModule, Mean

GUARD = [["wait", "aten._local_scalar_dense.default", "divergence.py"]]
LOOK = "signal.py"  # at the range of the images, where there is no training


class Found(dict):
    """What came of the runs of emulated_runs.py, in processes of their own: the guard must not reach other tests."""

    def __init__(self, folder):
        self.folder = folder

    def __missing__(self, name):
        networks = set(emulated_runs.NETWORKS_OF_ALL)
        groups = [set(emulated_runs.RUNS) - networks | set(emulated_runs.FEW), networks - set(emulated_runs.FEW)]
        names = next(group for group in groups if name in group)
        file, here = self.folder / f"{len(self)}.json", Path(__file__).parents[1] / "support"
        code = "import ctypes, sys; ctypes.CDLL(sys.argv[1]); import emulated_runs; emulated_runs.main(*sys.argv[2:])"
        paths = os.pathsep.join([str(Path(ps.__file__).parents[1]), str(here)])
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", code, str(cuda_guard.compiled()), str(file), *sorted(names)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert not done.returncode, done.stderr[-3000:]
        self |= json.loads(file.read_text())
        return self[name]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return Found(tmp_path_factory.mktemp("cuda"))


def of(found, name):
    """What came of a run; a mismatch of devices in it fails the test."""
    assert "error" not in found[name], found[name]["where"]
    return found[name]


def blocking(waits):
    return [[kind, operator, where.split(":")[0]] for kind, operator, where in waits if kind != "copy"]


@pytest.mark.parametrize("name", few(emulated_runs.NETWORKS_OF_ALL, *emulated_runs.FEW))
def test_a_network_learns_without_a_mismatch_and_without_waiting(found, name):
    for precision, seen in of(found, name).items():
        if precision == "seconds":
            continue
        assert seen["train"] == []
        looks = [where for _, _, where in blocking(seen["eval"])]
        assert looks.count(LOOK) == 1
        assert set(looks) <= {LOOK, "augerino.py", "base.py"}  # copies of weight 0 are left out; ⌈rθ⌉ is a number
        assert max(seen["differences"]) < 1e-9


def test_of_a_step_in_training_only_the_guard_waits(found):
    """Below the progress bar, which reads once at the first step."""
    for name in ("whole_training", "penalties_and_skipping", "augerino_in_training"):
        first, *steps = of(found, name)["steps"]
        assert len(steps) >= 2
        for step in steps:
            assert blocking(step) == GUARD, name
        others = [wait for wait in blocking(first) if wait not in GUARD]
        assert (name == "whole_training") == bool(others)
    assert 0 <= of(found, "whole_training")["result"]["test"] <= 1


def test_a_step_that_looks_at_its_batch_is_found(found):
    for step in of(found, "planted_wait")["steps"]:
        planted = [wait for wait in blocking(step) if wait not in GUARD]
        assert [kind for kind, *_ in planted] == ["wait", "blocking copy"]


def test_mistakes_are_refused(found):
    seen = of(found, "mismatches")
    assert len(seen["refused"]) == 7
    assert all("expected all tensors to be on the same device" in message for message in seen["refused"].values())
    assert seen["device"] == "cuda:0"


def test_waits_are_counted(found):
    seen = of(found, "waits")
    assert {name: len(waits) for name, waits in seen["waits"].items()} == dict.fromkeys(seen["waits"], 1)
    assert len(seen["waits"]) == 13
    assert [kind for kind, *_ in seen["free"]] == ["copy"]


def test_streamed_batches_are_pinned_and_copied_without_waiting(found):
    seen = of(found, "streaming")
    assert seen["pinned"] == [True, False]
    assert blocking(seen["waits"]) == []
    assert len(seen["waits"]) == len(seen["devices"])
    assert set(seen["devices"]) == {"cuda:0"}
    assert all(seen["same"])
    assert not Loader([0, 1], [0, 1], 0).pin_memory


def test_everything_that_reads_a_model_runs_where_it_is(found):
    seen = of(found, "evaluating")
    assert set(seen["devices"]) == {"cuda:0"}
    assert seen["frozen"] < 1e-5
    assert seen["saved"]
    assert {where for *_, where in blocking(seen["recalibrating"])} == {LOOK, "base.py"}  # θ, which is proportional


def test_groups_are_on_the_processor_and_layers_where_they_are_made(found):
    seen = of(found, "made_under_a_default_device")
    for name in emulated_runs.GROUPS:
        assert seen[name][:3] == ["cpu"] * 3
        assert set(seen[name][3:]) == {"cuda:0"}
    assert seen["nets"] == ["cuda:0"]


def test_what_has_moved_answers_where_it_is(found):
    seen = of(found, "moved")
    assert set(seen["devices"]) == {"cuda:0"}
    assert seen["waits"] == []


def test_a_mean_leaves_out_what_is_not_finite():
    losses = [2.0, torch.nan, 3.0, torch.inf, -torch.inf]
    mean = Mean()
    for loss, weight in zip(losses, (1, 5, 3, 7, 9), strict=True):
        mean.update(torch.tensor(loss), weight)
    assert float(mean.compute()) == (2 + 3 * 3) / 4
    assert float(mean.weight) == 4
    none = Mean()
    none.update(torch.tensor(torch.nan), 2)
    assert not none.weight


def test_copies_are_copies():
    tensors = [torch.arange(3), torch.randn(2, 2), torch.tensor(1.5), torch.tensor(4), torch.randn(0)]
    made = copies(tensors)
    assert all(torch.equal(a, b) and a is not b and a.dtype == b.dtype for a, b in zip(made, tensors, strict=True))
    tensors[1].zero_()
    assert made[1].any()
    assert copies([]) == []


def test_the_progress_bar_reads_every_so_many_steps():
    class Trainer:
        callback_metrics, global_step, is_last_batch = {}, 0, False

    fit = ClassifierModule(ps.GResNet("T2", width=2, hidden=2, kernel_size=3), TINY.training, (), 2)
    trainer, bar = Trainer(), ProgressBar()
    read = []
    for step in range(1, 2 * EVERY + 3):
        trainer.global_step, trainer.is_last_batch = step, step == 2 * EVERY + 2
        trainer.callback_metrics = {"loss": torch.tensor(float(step))}
        read.append(bar.get_metrics(trainer, fit)["loss"])
    assert list(dict.fromkeys(read)) == [f"{step:.3f}" for step in (1, EVERY, 2 * EVERY, 2 * EVERY + 2)]
