"""Real processes, killed at random moments and at every step of every file they write; real disks that refuse."""

import ctypes
import math
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import pytest
import torch
import yaml
from faults import APART, RENAME, SMALL, SYNC_FOLDER, Faults, train_until
from training import run, same, weights

from partialsym.checking import examine
from partialsym.stopping import GO_ON
from partialsym.train import run_folder, train

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
    context.set_forkserver_preload(["partialsym.train", "partialsym.data.digits", "sklearn.datasets"])
    return context


def start(processes, config, out):
    process = processes.Process(target=train, args=(config, out), kwargs={"resume": True, "progress": False})
    process.start()
    return process


@pytest.fixture(scope="module")
def whole(processes, tmp_path_factory):
    """A run that nothing happened to, in a process of its own, and how many seconds it takes at the least."""
    out, seconds = tmp_path_factory.mktemp("whole"), math.inf
    for i in range(4):  # the first one also starts the server, any may meet other work on the machine
        process = start(processes, CONFIG, out / str(i))
        begun = time.monotonic()
        process.join()
        seconds = min(seconds, time.monotonic() - begun)
        assert process.exitcode == 0
    return run_folder(CONFIG, out / "0"), seconds


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
    expected, seconds = whole
    moments = random.Random(20)
    states = Counter()
    for i in range(MOMENTS):
        out, moment = tmp_path / str(i), moments.uniform(0, seconds)
        process = start(processes, CONFIG, out)
        time.sleep(moment)
        process.kill()
        process.join()
        held = run_folder(CONFIG, out)
        states[state(held)] += 1
        resumed = start(processes, CONFIG, out)
        resumed.join()
        assert resumed.exitcode == 0, f"killed after {moment:.3f} s: {state(held)}"
        assert_equal(held, expected)
    with capsys.disabled():
        print(f"\n{MOMENTS} kills in {seconds:.2f} s: {dict(states)}")  # noqa: T201
    assert len(states) >= 4
    assert states["finished"] < MOMENTS / 4


def test_one_run_killed_again_and_again_ends_with_the_same_weights(tmp_path, processes, whole):
    expected, seconds = whole
    moments, kills = random.Random(3), 0
    held = run_folder(CONFIG, tmp_path)
    while not held.finished:
        process = start(processes, CONFIG, tmp_path)
        if kills < MOMENTS:
            process.join(moments.uniform(0.3, 0.6) * seconds)
            process.kill()
            kills += 1
        process.join()
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
    args = [sys.executable, "-m", "partialsym.cli", "fit", "--config", str(tmp_path / "config.yaml")]
    return [*args, "--out", str(tmp_path), "--resume"]


def lines(error):
    assert "Traceback" not in error
    return error.splitlines()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_a_real_process_exits_with_75(tmp_path, number):
    config = replace(CONFIG, training=replace(CONFIG.training, epochs=12))
    process = subprocess.Popen(command(tmp_path, config), stderr=subprocess.PIPE, text=True)
    held = run_folder(config, tmp_path)
    while not held.checkpoint.exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 75, error
    assert lines(error)[-1].endswith(f"is stopped by {number.name}; {GO_ON} where it was.")
    assert not held.finished
    done = subprocess.run(command(tmp_path, config), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_equal(held, run(tmp_path / "whole", config))


def test_a_second_process_is_refused_while_the_first_trains(tmp_path):
    config = replace(CONFIG, training=replace(CONFIG.training, epochs=30))
    first = subprocess.Popen(command(tmp_path, config), stderr=subprocess.PIPE)
    held = run_folder(config, tmp_path)
    try:
        while not held.checkpoint.exists() and first.poll() is None:
            time.sleep(0.05)
        os.kill(first.pid, signal.SIGSTOP)
        second = subprocess.run(command(tmp_path, config), capture_output=True, text=True)
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
from partialsym.cli import main
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
