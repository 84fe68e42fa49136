"""Parallel processes, each with its share of the cores, and their progress."""

import json
import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from partialsym._utils.signals import Stopped
from partialsym.config import Experiment
from partialsym.data import Dataset
from partialsym.training.behaviour import behaviour
from partialsym.training.fit import run_folder, train

STOP, SAID = ".stop", ".progress"  # files of a run: that it is to stop, and how far it is
EVERY = 1.0  # seconds
SILENT = 10.0  # seconds after which the log is told how far all is
K = TypeVar("K")
T = TypeVar("T")
log = logging.getLogger(__name__)


class Progress(NamedTuple):
    """How far a run is: its training steps, and the seconds they took; `measuring`, once it is trained."""

    step: int
    steps: int
    seconds: float
    measuring: bool = False


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers() -> int:
    """As many as cores, for networks this small gain little from a second; on a GPU one."""
    return 1 if torch.cuda.is_available() else cores()


@contextmanager
def pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that share the cores evenly. If the block ends with an error, pending tasks are cancelled."""
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, context, torch.set_num_threads, (max(1, cores() // workers),))
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=True, cancel_futures=True)
        raise
    executor.shutdown()


def run_one(config: Experiment, out: Path, data: Dataset) -> bool:
    """Train one run, or go on with it, and measure how it behaves; False where all are told to stop.

    Meanwhile a file in its folder says how far it is: see `progress`.
    """
    folder = run_folder(config, out).folder
    watch = _Watch(folder)
    try:
        run = train(config, out, data=data, resume=True, progress=False, draws=1, watch=watch)
        watch.measuring()
        behaviour(run, data=data)
    except Stopped:
        return False
    finally:
        (folder / SAID).unlink(missing_ok=True)
    return True


@contextmanager
def stopping(folders: Sequence[Path]) -> Iterator[None]:
    """A context in which the runs in these folders stop at their next step."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / STOP).touch()
    try:
        yield
    finally:
        for folder in folders:
            (folder / STOP).unlink(missing_ok=True)


@contextmanager
def failures(name: str) -> Iterator[None]:
    """Says of a failure in a process which training it was.

    Raises:
        OSError: a process died or failed.
    """
    try:
        yield
    except BrokenProcessPool:
        raise OSError(
            "a training process died, perhaps because memory was exhausted: the same command continues."
        ) from None
    except RuntimeError as error:
        raise OSError(f"{name} failed: {' '.join(str(error).split())}") from None


def as_they_end(futures: Mapping[Future[T], K], name: Callable[[K], str] = str) -> Iterator[tuple[K, T]]:
    """What each was and its result of each as it ends; the log is told of those that take long.

    Raises:
        OSError: a process died or failed; `name` says which.
    """
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, SILENT, FIRST_COMPLETED)
        if not done:
            log.info("still %s", ", ".join(name(futures[future]) for future in waiting))
        for future in done:
            with failures(name(futures[future])):
                result = future.result()
            yield futures[future], result


def progress(config: Experiment, out: Path) -> Progress | None:
    """How far that run is, as it said last; None where it has said nothing yet, or has ended."""
    try:
        return Progress(*json.loads((run_folder(config, out).folder / SAID).read_text()))
    except (OSError, ValueError, TypeError):
        return None


class _Watch:
    """Writes how far a run is, once a second, and stops it where it is told to."""

    def __init__(self, folder: Path) -> None:
        self.said, self.stop = folder / SAID, folder / STOP
        self.began: tuple[int, float] | None = None
        self.told, self.last = 0.0, Progress(0, 0, 0.0)

    def __call__(self, step: int, steps: int) -> None:
        now = time.monotonic()
        if self.began is None:  # after the first step, which is slower than others
            self.began = (step, now)
        self.last = Progress(step - self.began[0], steps, now - self.began[1])
        if now - self.told > EVERY:
            self.told = now
            self._tell()
        if self.stop.exists():
            raise KeyboardInterrupt

    def measuring(self) -> None:
        self.last = self.last._replace(measuring=True)
        self._tell()

    def _tell(self) -> None:
        self.said.write_text(json.dumps(self.last))
