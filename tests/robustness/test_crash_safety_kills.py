"""Real processes, killed at random moments and at every step of every file they write; real disks that refuse."""

import ctypes
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch
import waiting
import yaml
from faults import APART, RENAME, SMALL, SYNC_FOLDER, Faults, train_until, train_until_call
from training import run, same, weights

from partialsym._utils.signals import GO_ON
from partialsym.runs.verify import examine
from partialsym.training.fit import run_folder

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

MOMENTS = 20
CONFIG = replace(SMALL, training=replace(SMALL.training, epochs=4, select="best"))
SHORT = replace(CONFIG, training=replace(CONFIG.training, epochs=2))


@pytest.fixture(scope="module")
def processes():
    """Processes forked from one that has imported everything: each trains from its first millisecond on."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["partialsym.training.fit", "partialsym.data.sources.digits", "sklearn.datasets"])
    return context


def start(processes, out, call=None):
    """A process that trains, and kills itself at its call of so many functions."""
    process = processes.Process(target=train_until_call, args=(call, CONFIG, out, out.with_suffix(".calls")))
    process.start()
    return process


@pytest.fixture(scope="module")
def whole(processes, tmp_path_factory):
    """A run that nothing happened to, in a process of its own, and how many functions it calls."""
    out = tmp_path_factory.mktemp("whole") / "run"
    process = start(processes, out)
    process.join()
    assert process.exitcode == 0
    return run_folder(CONFIG, out), int(out.with_suffix(".calls").read_text())


def assert_equal(found, whole):
    assert same(weights(found), weights(whole))
    assert found.history() == whole.history()
    assert {**found.result(), **dict.fromkeys(APART)} == {**whole.result(), **dict.fromkeys(APART)}
    assert examine(found).faults == []


def state(held):
    """How far a run had come, as its folder shows."""
    if held.finished:
        return "finished"
    if (held.folder / "model" / "model.json").exists():
        return "model written"
    if not held.checkpoint.exists():
        return "no checkpoint"
    return f"epoch {torch.load(held.checkpoint, weights_only=True)['epoch'] + 1} saved"


def test_a_process_killed_at_random_moments_ends_with_the_same_weights(tmp_path, processes, whole, capsys):
    expected, calls = whole
    moments = random.Random(20)
    states = Counter()
    for i in range(MOMENTS):
        out, moment = tmp_path / str(i), moments.randrange(calls)
        process = start(processes, out, moment)
        process.join()
        held = run_folder(CONFIG, out)
        states[state(held)] += 1
        resumed = start(processes, out)
        resumed.join()
        assert resumed.exitcode == 0, f"killed in call {moment}: {state(held)}"
        assert_equal(held, expected)
    with capsys.disabled():
        print(f"\n{MOMENTS} kills in {calls} calls: {dict(states)}")  # noqa: T201
    assert len(states) >= 4
    assert states["finished"] < MOMENTS / 4


def test_one_run_killed_again_and_again_ends_with_the_same_weights(tmp_path, processes, whole):
    expected, calls = whole
    moments, kills = random.Random(3), 0
    held = run_folder(CONFIG, tmp_path / "run")
    while not held.finished:
        moment = moments.randrange(calls // 3, 2 * calls // 3)
        process = start(processes, tmp_path / "run", moment if kills < MOMENTS else None)
        process.join()
        kills += process.exitcode != 0
    assert kills > 2
    assert_equal(held, expected)


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """Every step of the writer in a run, in order."""
    with pytest.MonkeyPatch.context() as patch:
        counted = Faults(patch)
        done = run(tmp_path_factory.mktemp("counted"), SHORT)
    assert counted.steps.count(RENAME) >= 11
    return counted.steps, done


def test_a_process_killed_at_every_step_of_the_writer(tmp_path, processes, steps):
    """The files it leaves are whole, and resuming ends with the same weights."""
    kinds, expected = steps
    for at, kind in enumerate(kinds):
        out = tmp_path / str(at)
        process = processes.Process(target=train_until, args=(at, SHORT, out))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"step {at}, {kind}"
        held = run_folder(SHORT, out)
        assert not (held.folder / "config.yaml").exists() or examine(held).faults == [], f"step {at}, {kind}"
        assert_equal(run(out, SHORT, resume=True), expected)


def test_a_writer_that_fails_at_every_step(tmp_path, steps):
    """The error comes through, the last good checkpoint is intact, nothing half written stays."""
    kinds, expected = steps
    for at, kind in enumerate(kinds):
        out = tmp_path / str(at)
        held = run_folder(SHORT, out)
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, at)
            if kind == SYNC_FOLDER:  # nothing is lost by it but safety from a power failure
                run(out, SHORT)
            else:
                with pytest.raises(OSError, match="No space left on device"):
                    run(out, SHORT)
        assert len(faults.steps) > at
        assert not list(out.rglob("*.tmp")), f"step {at}, {kind}"
        assert not (held.folder / "config.yaml").exists() or examine(held).faults == [], f"step {at}, {kind}"
        assert_equal(run(out, SHORT, resume=True), expected)


def command(tmp_path, config=CONFIG):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.to_dict()))
    args = [sys.executable, "-m", "partialsym.cli.main", "fit", "--config", str(tmp_path / "config.yaml")]
    return [*args, "--out", str(tmp_path), "--resume"]


def waits(tmp_path):
    """A process that trains, and waits in its second epoch."""
    code, environment = waiting.command(tmp_path, 1, *command(tmp_path)[3:])
    process = subprocess.Popen(code, stderr=subprocess.PIPE, text=True, env=environment)
    waiting.arrived(tmp_path, [process])
    return process


def lines(error):
    assert "Traceback" not in error
    return error.splitlines()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_a_real_process_exits_with_75(tmp_path, number):
    process = waits(tmp_path)
    held = run_folder(CONFIG, tmp_path)
    process.send_signal(number)
    waiting.let_go(tmp_path)
    _, error = process.communicate(timeout=waiting.HANG)
    assert process.returncode == 75, error
    assert lines(error)[-1].endswith(f"is stopped by {number.name}; {GO_ON} where it was.")
    assert not held.finished
    done = subprocess.run(command(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_equal(held, run(tmp_path / "whole", CONFIG))


def test_a_second_process_is_refused_while_the_first_trains(tmp_path):
    first = waits(tmp_path)
    try:
        os.kill(first.pid, signal.SIGSTOP)
        second = subprocess.run(command(tmp_path), capture_output=True, text=True)
        assert second.returncode == 1
        assert f"is in use by process {first.pid} on " in lines(second.stderr)[-1]
    finally:
        first.kill()
        first.communicate()


def powerless():
    """Root, too, is then bound by the permissions of files: CAP_DAC_OVERRIDE is dropped for what is executed next."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)


def test_a_read_only_run_folder_is_named_and_kept(tmp_path, processes, whole):
    process = processes.Process(target=train_until, args=(26, CONFIG, tmp_path))  # in its second epoch
    process.start()
    process.join()
    held = run_folder(CONFIG, tmp_path)
    before = held.checkpoint.read_bytes()
    args = command(tmp_path)
    held.folder.chmod(0o555)
    held.checkpoint.parent.chmod(0o555)
    refused = subprocess.run(args, capture_output=True, text=True, preexec_fn=powerless)
    assert refused.returncode == 1
    assert "Permission denied" in lines(refused.stderr)[-1]
    assert str(held.folder) in lines(refused.stderr)[-1]
    assert held.checkpoint.read_bytes() == before
    held.folder.chmod(0o755)
    held.checkpoint.parent.chmod(0o755)
    assert_equal(run(tmp_path, CONFIG, resume=True), whole[0])


@pytest.mark.parametrize("room", ["half a checkpoint", "all but the last"])
def test_a_full_disk_is_named_and_the_last_checkpoint_kept(tmp_path, whole, room):
    """No file may grow beyond a limit; checkpoints grow with the history in them."""
    expected = whole[0]
    size = expected.checkpoint.stat().st_size
    limit = size // 2 if room == "half a checkpoint" else size - 1
    code = f"""
import resource, signal, sys
from partialsym.cli.main import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
sys.exit(main({command(tmp_path)[3:]!r}))
"""
    full = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    held = run_folder(CONFIG, tmp_path)
    assert full.returncode == 1
    assert "File too large" in lines(full.stderr)[-1]
    assert state(held) == ("no checkpoint" if room == "half a checkpoint" else "epoch 3 saved")
    assert not list(tmp_path.rglob("*.tmp"))
    assert examine(held).faults == []
    assert_equal(run(tmp_path, CONFIG, resume=True), expected)
