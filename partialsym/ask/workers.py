"""Parallel training processes, each with a part of the cores, and their progress."""

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

from partialsym._utils.allocator import keep_freed_memory
from partialsym._utils.signals import Stopped
from partialsym.config import Experiment
from partialsym.data import Dataset
from partialsym.training.behaviour import behaviour
from partialsym.training.fit import run_folder, train

STOP, SAID = ".stop", ".progress"  # files in a run's folder: a request to stop, and the run's progress
EVERY = 1.0  # seconds between two writes of the progress
SILENT = 10.0  # seconds without a line after which progress is logged
K = TypeVar("K")
T = TypeVar("T")
log = logging.getLogger(__name__)


class Progress(NamedTuple):
    """The progress of a run: finished steps, all steps, and the seconds that the finished ones took.

    `measuring` is True when the training has ended and the run's behaviour is being measured.
    """

    step: int
    steps: int
    seconds: float
    measuring: bool = False


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers() -> int:
    """One worker per core, because networks this small gain little from a second core; one worker on a GPU."""
    return 1 if torch.cuda.is_available() else cores()


@contextmanager
def pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A context with processes that share the cores evenly; if the block raises, pending tasks are cancelled."""
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, context, _begin, (max(1, cores() // workers),))
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=True, cancel_futures=True)
        raise
    executor.shutdown()


def _begin(threads: int) -> None:
    keep_freed_memory()
    torch.set_num_threads(threads)


def run_one(config: Experiment, out: Path, data: Dataset) -> bool:
    """Train or continue one run, and measure its behaviour.

    Meanwhile a file in the run's folder contains its progress: see `progress`.

    Returns:
        True if the run has finished, False if it was asked to stop.
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
    """A context that names the training in the error if its process fails.

    Raises:
        OSError: a process died or failed.
    """
    try:
        yield
    except BrokenProcessPool:
        raise OSError(
            "a training process died, perhaps because memory was exhausted: run the same command again to continue."
        ) from None
    except RuntimeError as error:
        raise OSError(f"{name} failed: {' '.join(str(error).split())}") from None


def as_they_end(futures: Mapping[Future[T], K], name: Callable[[K], str] = str) -> Iterator[tuple[K, T]]:
    """Yield the key and the result of each future when it ends; log the names of those that are slow.

    Raises:
        OSError: a process died or failed; the message contains its `name`.
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
    """The last progress that a run wrote; None if it has written none yet, or has ended."""
    try:
        return Progress(*json.loads((run_folder(config, out).folder / SAID).read_text()))
    except (OSError, ValueError, TypeError):
        return None


class _Watch:
    """Writes the progress of a run once a second, and stops the run if its folder contains the request."""

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
