"""Several processes that train one experiment together, started by the test, and what each of them saw."""

import json
import multiprocessing
import os
import resource
import signal
import socket
import sys
from concurrent.futures import Executor, Future
from contextlib import contextmanager, nullcontext

import pytest
import torch
from helpers import few_angles
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from waiting import HANG

from partialsym.cli.main import main
from partialsym.data import InMemoryBatches
from partialsym.densities import Density, Uniform
from partialsym.nn.norm import BatchNorm
from partialsym.training.fit import train
from partialsym.training.module import ClassifierModule


def context():
    """Processes forked from one that has imported everything: each trains from its first millisecond on."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["partialsym.ask", "partialsym.data.sources.digits", "sklearn.datasets"])
    return found


class Here(Executor):
    """Everything is done in this process, at once."""

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


def pools_are(kind, monkeypatch):
    """Let `ask` train in processes as it does, or here, where its networks are then measured at few angles."""
    if kind == "here":
        monkeypatch.setattr("partialsym.ask.answer.pool", lambda workers: nullcontext(Here()))
        few_angles(monkeypatch)


POOLS = ["here", pytest.param("processes", marks=pytest.mark.long)]


def start(config, out, change=None, **options):
    """One process for each of `config.trainer`; `change` is called in each before it trains."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        context().Process(target=_rank, args=(rank, port, config, out, change, options))
        for rank in range(config.trainer.processes)
    ]
    for process in processes:
        process.start()
    return processes


def ended(processes):
    """Their exit codes; None of one that hangs."""
    for process in processes:
        process.join(HANG)
    return [process.exitcode for process in processes]


def together(config, out, change=None, **options):
    """What every process saw, in order of rank, once all have ended well."""
    processes = start(config, out, change, **options)
    assert ended(processes) == [0] * len(processes)
    return [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(len(processes))]


def limited(arguments, size, said):
    """The command, whose files may not grow beyond so many bytes, as on a full disk; its last words are in a file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    with open(said, "w") as sys.stderr:
        sys.exit(main(arguments))


def forget_statistics():
    """Every process its own batch statistics."""
    BatchNorm.__setattr__ = lambda self, name, value: name == "all_reduce" or nn.Module.__setattr__(self, name, value)


def forget_bounds():
    """Every process its own look at the bounds of θ."""
    Uniform.__setattr__ = lambda self, name, value: name == "all_reduce" or nn.Module.__setattr__(self, name, value)


def _at(step, rank, act):
    """Let one process act within a step; it gets the loss and gives one back."""
    before = ClassifierModule.training_step

    def training_step(self, *arguments):
        loss = before(self, *arguments)
        return act(loss) if (self.global_step, self.global_rank) == (step, rank) else loss

    ClassifierModule.training_step = training_step


def signal_the_second():
    _at(4, 1, lambda loss: os.kill(os.getpid(), signal.SIGTERM) or loss)


def signal_the_second_before_the_first_step():
    """Where all wait for all, once Lightning has taken the signals."""
    before = DDPStrategy.barrier

    def barrier(self, name=None):
        if name == "run-stage" and self.global_rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        before(self, name)

    DDPStrategy.barrier = barrier


def kill_the_second():
    _at(4, 1, lambda loss: os.kill(os.getpid(), signal.SIGKILL))


def spoil_the_second():
    _at(4, 1, lambda loss: loss * torch.nan)


def _rank(rank, port, config, out, change, options):
    # as a launcher of the user's own would
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    os.environ["WORLD_SIZE"] = str(config.trainer.processes)
    if change is not None:
        change()
    seen = {"images": [], "losses": [], "elements": [], "epochs": []}
    with _watched(seen):
        train(config, out, progress=False, **options)
    (out / f"rank{rank}.json").write_text(json.dumps(seen))


@contextmanager
def _watched(seen):
    """Notes what passes through a process while it trains: indices of images, losses, elements, rows of the history."""
    batch, step, end, draw = (
        InMemoryBatches.__getitem__,
        ClassifierModule.training_step,
        ClassifierModule.on_train_epoch_end,
        Density.draw,
    )

    def getitem(self, index):
        seen["images"].append([len(self), index.tolist()])
        return batch(self, index)

    def training_step(self, *arguments):
        seen["elements"].append([])
        loss = step(self, *arguments)
        seen["losses"].append(float(loss))
        return loss

    def drawn(self):
        elements = draw(self)
        if seen["elements"] and len(seen["elements"]) > len(seen["losses"]):  # within a step
            seen["elements"][-1].append(elements.matrices.detach().flatten().tolist())
        return elements

    def epoch_end(self):
        end(self)
        seen["epochs"].append(self.history[-1])

    InMemoryBatches.__getitem__, ClassifierModule.training_step, ClassifierModule.on_train_epoch_end, Density.draw = (
        getitem,
        training_step,
        epoch_end,
        drawn,
    )
    yield
