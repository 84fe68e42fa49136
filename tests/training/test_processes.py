"""Several processes that train together: what one would see, learn and keep."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from processes import (
    ended,
    forget_bounds,
    forget_statistics,
    kill_the_second,
    signal_the_second,
    signal_the_second_before_the_first_step,
    spoil_the_second,
    start,
    together,
)
from training import TINY, same, weights
from waiting import HANG

from partialsym._utils.signals import Preemption
from partialsym.config import ConfigError, DataConfig, Experiment, TrainerConfig, TrainingConfig
from partialsym.densities import Uniform
from partialsym.runs.run import Run
from partialsym.training.callbacks.checkpoint import RunCallback
from partialsym.training.fit import run_folder

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


# Its losses have one sum, however they are grouped. At this seed weights that differ by 1e-7 give losses that differ by
# less than 1e-5; at others a gradient that is nearly 0 where θ is at its bound makes 1e-3 of it.
PAIRS = replace(TINY, seed=1, data=DataConfig("digits-6-180"))


def on(processes, config=PAIRS, **training):
    training = {"precision": "32", **training}
    return replace(config, training=replace(config.training, **training), trainer=TrainerConfig(processes))


def mean(seen, key="losses"):
    return torch.tensor([one[key] for one in seen]).mean(0)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return together(on(1), tmp_path_factory.mktemp("alone"))[0]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    out = tmp_path_factory.mktemp("pair")
    return together(on(2), out), out


def images(seen, count):
    """Of each epoch, what a process saw of the split with so many images."""
    return [index for length, index in seen["images"] if length == count]


@pytest.mark.slow
def test_two_processes_see_every_image_once_an_epoch(alone, pair):
    train, validation = sorted({length for length, _ in alone["images"]}, reverse=True)
    steps = len(alone["losses"]) // PAIRS.training.epochs
    for epoch in range(PAIRS.training.epochs):
        batches = [images(one, train)[epoch * steps : (epoch + 1) * steps] for one in pair[0]]
        both = [sorted(a + b) for a, b in zip(*batches, strict=True)]
        assert both == [sorted(batch) for batch in images(alone, train)[epoch * steps : (epoch + 1) * steps]]
        flat = [i for batch in both for i in batch]
        assert len(set(flat)) == len(flat) == train // PAIRS.training.batch_size * PAIRS.training.batch_size
    per_epoch = [i for one in pair[0] for batch in images(one, validation) for i in batch]
    assert sorted(per_epoch) == sorted(list(range(validation)) * PAIRS.training.epochs)


def assert_learned_alike(seen, alone, rel=1e-4):
    """The processes are one in θ and metrics, which are those of one process; its losses are their mean."""
    assert all(one["epochs"] == seen[0]["epochs"] for one in seen)
    assert mean(seen).tolist() == pytest.approx(alone["losses"], rel=rel)
    for ours, theirs in zip(seen[0]["epochs"], alone["epochs"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
def test_two_processes_draw_the_same_elements_and_learn_what_one_does(alone, pair):
    seen, out = pair
    assert seen[0]["elements"] == seen[1]["elements"]
    assert_learned_alike(seen, alone)
    run = run_folder(PAIRS, out)
    assert run.history() == seen[0]["epochs"]
    assert run.result()["config"]["trainer"]["devices"] == 2


@pytest.mark.long
def test_four_processes_learn_what_one_does(alone, tmp_path):
    assert_learned_alike(together(on(4), tmp_path), alone)


@pytest.mark.long
@pytest.mark.parametrize("forget", [forget_statistics, forget_bounds])
def test_processes_that_do_not_share_statistics_or_bounds_learn_something_else(forget, alone, tmp_path):
    with pytest.raises(AssertionError):
        assert_learned_alike(together(on(2), tmp_path, forget), alone)


@pytest.mark.long
def test_elements_drawn_independently_differ_between_processes_and_all_learn_from_all(pair, tmp_path):
    config = on(2, elements="independent")
    first, second = together(config, tmp_path / "whole")
    assert all(a != b for a, b in zip(first["elements"], second["elements"], strict=True))
    assert len({str(step) for one in (first, second) for step in one["elements"]}) == 2 * len(first["elements"])
    assert first["epochs"] == second["epochs"]
    assert [sorted(images) for _, images in first["images"]] == [sorted(images) for _, images in pair[0][0]["images"]]
    assert ended(start(config, tmp_path / "cut", signal_the_second)) == [1, 1]
    together(config, tmp_path / "cut", resume=True)
    assert same(*(weights(run_folder(PAIRS, tmp_path / name)) for name in ("whole", "cut")))


@pytest.mark.long
def test_a_signal_to_one_process_stops_all_at_one_step_and_they_go_on_bit_for_bit(pair, tmp_path):
    assert ended(start(on(2), tmp_path, signal_the_second)) == [1, 1]
    held = torch.load(run_folder(PAIRS, tmp_path).checkpoint, weights_only=True)
    assert held["global_step"] == 5  # within the second epoch of three steps
    rest = together(on(2), tmp_path, resume=True)
    for resumed, whole in zip(rest[0]["epochs"], pair[0][0]["epochs"][1:], strict=True):
        assert resumed.pop("train_loss") == pytest.approx(whole["train_loss"], rel=1e-6)  # a sum, grouped otherwise
        assert resumed.items() <= whole.items()
    assert same(weights(run_folder(PAIRS, tmp_path)), weights(run_folder(PAIRS, pair[1])))


@pytest.mark.long
def test_a_signal_to_one_process_before_the_first_step_stops_all(pair, tmp_path):
    assert ended(start(on(2), tmp_path, signal_the_second_before_the_first_step)) == [1, 1]
    assert not run_folder(PAIRS, tmp_path).checkpoint.exists()
    together(on(2), tmp_path, resume=True)
    assert same(weights(run_folder(PAIRS, tmp_path)), weights(run_folder(PAIRS, pair[1])))


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_a_killed_process_ends_all_and_any_number_goes_on(processes, alone, tmp_path):
    assert ended(start(on(2), tmp_path, kill_the_second)) == [1, -9]
    rest = together(on(processes), tmp_path, resume=True)
    assert [row["epoch"] for row in rest[0]["epochs"]] == [2, 3]
    for ours, theirs in zip(rest[0]["epochs"], alone["epochs"][1:], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.long
def test_a_step_that_is_not_finite_in_one_process_is_skipped_by_all(tmp_path):
    first, second = together(on(2, diverged="skip"), tmp_path, spoil_the_second)
    assert first["epochs"] == second["epochs"]
    assert run_folder(PAIRS, tmp_path).result()["diverged"] == 1


def command(tmp_path, processes):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(on(processes).to_dict()))
    return ["fit", "--config", str(path), "--out", str(tmp_path), "--progress", "false"]


@pytest.mark.long
@pytest.mark.parametrize("launcher", [[], ["torch.distributed.run", "--nproc-per-node", "2", "-m"]])
def test_lightning_and_torchrun_start_the_processes(launcher, pair, tmp_path):
    arguments = [sys.executable, "-m", *launcher, "partialsym.cli.main", *command(tmp_path, 2)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test accuracy") == 1
    assert run_folder(PAIRS, tmp_path).history() == run_folder(PAIRS, pair[1]).history()


@pytest.mark.long
def test_a_launcher_of_another_number_of_processes_is_refused_in_a_line(tmp_path):
    torchrun = ["torch.distributed.run", "--nproc-per-node", "4", "-m"]
    arguments = [sys.executable, "-m", *torchrun, "partialsym.cli.main", *command(tmp_path, 2)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=HANG)
    assert done.returncode != 0
    assert "partialsym: trainer" in done.stderr


@pytest.mark.long
def test_a_process_killed_under_lightnings_launcher_ends_the_command_in_a_line(tmp_path):
    code = (
        "import sys; from processes import kill_the_second; kill_the_second();"
        "from partialsym.cli.main import main; sys.exit(main())"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    arguments = [sys.executable, str(script), *command(tmp_path, 2)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=HANG, env=environment)
    assert done.returncode in (1, -9)
    assert "Traceback" not in done.stderr
    assert "another process of the training has ended" in done.stderr


def test_a_bound_of_theta_looks_at_the_gradient_of_all_processes():
    density = Uniform()
    for others, passes in ((3.0, True), (0.5, False)):
        density.raw.grad, density.all_reduce = None, lambda gradient, others=others: gradient + others
        (-density.theta()).backward()  # alone it leads out
        assert bool(density.raw.grad) is passes


def test_a_signal_while_processes_agree_waits_for_the_next_step(tmp_path):
    preemption, run, saved = Preemption("it"), Run(tmp_path), []

    def agree(decision, all):
        preemption.caught = signal.SIGTERM  # the others have been told already
        return decision

    strategy = SimpleNamespace(reduce_boolean_decision=agree)
    trainer = SimpleNamespace(is_last_batch=False, strategy=strategy, save_checkpoint=saved.append)
    keeper = RunCallback(run, preemption)
    keeper.on_train_batch_end(trainer)
    assert saved == []
    with pytest.raises(KeyboardInterrupt):
        keeper.on_train_batch_end(trainer)
    assert saved == [run.checkpoint]


def test_a_batch_that_processes_cannot_share_is_refused():
    with pytest.raises(ConfigError, match=r"training\.batch_size is 10: must be a multiple of 4"):
        Experiment("x", training=TrainingConfig(batch_size=10), trainer=TrainerConfig(devices=2, num_nodes=2))
    with pytest.raises(ConfigError, match=r"training\.compile is 'always': must be auto or never"):
        Experiment("x", training=TrainingConfig(compile="always"), trainer=TrainerConfig(2))
    with pytest.raises(ConfigError, match=r"trainer\.devices is 0: must be at least 1"):
        TrainerConfig(devices=0)
