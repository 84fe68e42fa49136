"""Several machines, each a process of this one: the variables and commands that SLURM and torchrun give there."""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
import waiting
import yaml
from training import TINY

from partialsym.config import TrainerConfig
from partialsym.training.fit import run_folder, train

COMMAND = ["partialsym.cli.main", "fit", "--progress", "false"]


def port():
    """A free one that SLURM's job number may stand for; each process looks from elsewhere on."""
    first = os.getpid() * 97 % 10000
    for number in (15000 + (first + i) % 10000 for i in range(10000)):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", number)):
                return number
    raise AssertionError("no port is free")


def slurm(rank, number):
    """As srun starts a process: its number, those there are, and the machines."""
    job = {"SLURM_JOB_ID": f"12{number - 15000:04}", "SLURM_JOB_NAME": "fit", "SLURM_NODELIST": "127.0.0.1"}
    count = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2"}
    return [], {**job, **count, "SLURM_PROCID": str(rank), "SLURM_NODEID": str(rank), "SLURM_LOCALID": "0"}


def torchrun(rank, number):
    place = ["--nnodes", "2", "--node-rank", str(rank), "--master-addr", "127.0.0.1", "--master-port", str(number)]
    return ["torch.distributed.run", "--nproc-per-node", "1", *place, "-m"], {}


def begin(launcher, out, config, *options, ranks=(0, 1), wait=None):
    """`wait`: in the epoch of that number."""
    path = out / "tiny.yaml"
    path.write_text(yaml.safe_dump(config.to_dict()))
    number, processes = port(), []
    for rank in ranks:
        module, variables = launcher(rank, number)
        arguments = [sys.executable, "-m", *module, *COMMAND, "--config", str(path), "--out", str(out), *options]
        environment = {**os.environ, **variables}
        if wait is not None:
            waits, environment = waiting.command(out, wait, *COMMAND[1:], *arguments[len(COMMAND) + 2 :])
            arguments, environment = waits, environment | variables
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(arguments, env=environment, **pipes))
    return processes


def ended(processes):
    """The exit code, output and errors of each."""
    said = [process.communicate(timeout=waiting.HANG) for process in processes]
    return [(process.returncode, *one) for process, one in zip(processes, said, strict=True)]


def on(machines, **training):
    training = replace(TINY.training, precision="32", **training)
    return replace(TINY, training=training, trainer=TrainerConfig(1, machines))


@pytest.mark.long
def test_one_process_speaks_whatever_its_number_in_a_job(tmp_path):
    config = on(1, epochs=1)
    [(code, said, errors)] = ended(begin(slurm, tmp_path, config, ranks=[1]))
    assert code == 0, errors
    assert said.count("test accuracy") == 1
    assert run_folder(config, tmp_path).finished


@pytest.mark.long
@pytest.mark.parametrize("launcher", [slurm, torchrun])
def test_two_machines_learn_what_one_does_and_the_first_speaks(launcher, tmp_path):
    alone = train(on(1), tmp_path / "alone", progress=False)
    (first, said, errors), (second, silent, more) = ended(begin(launcher, tmp_path, on(2)))
    assert (first, second) == (0, 0), errors + more
    assert (said.count("test accuracy"), silent) == (1, "")
    for ours, theirs in zip(run_folder(TINY, tmp_path).history(), alone.history(), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("sent", [signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_to_a_machine_of_slurms_stops_all_and_they_go_on(sent, tmp_path):
    config = on(2, epochs=4)
    processes = begin(slurm, tmp_path, config, wait=1)
    run = run_folder(config, tmp_path)
    waiting.arrived(tmp_path, processes)
    processes[1].send_signal(sent)
    waiting.let_go(tmp_path)
    stopped = ended(processes)
    assert [code for code, *_ in stopped] == [75, 75], stopped
    assert not run.finished
    assert len(run.history()) == 1
    (tmp_path / "go").unlink()
    again = begin(slurm, tmp_path, config, "--resume", wait=2)
    waiting.arrived(tmp_path, again)
    again[0].send_signal(sent)
    waiting.let_go(tmp_path)
    assert [code for code, *_ in ended(again)] == [75, 75]
    assert len(run.history()) == 2
