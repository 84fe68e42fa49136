"""Work done by several processes, each with its share of the cores."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

from partialsym.config import Experiment
from partialsym.data import Dataset
from partialsym.training.behaviour import behaviour
from partialsym.training.fit import run_folder, train

K = TypeVar("K")
T = TypeVar("T")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers() -> int:
    """As many as cores, for networks this small gain little from a second; on a GPU one."""
    return 1 if torch.cuda.is_available() else cores()


@contextmanager
def pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that share the cores evenly; what has not begun is dropped when the block is left by an error."""
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, context, torch.set_num_threads, (max(1, cores() // workers),))
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=True, cancel_futures=True)
        raise
    executor.shutdown()


def run_one(config: Experiment, out: Path, data: Dataset, deadline: float, needs: float) -> bool:
    """Train one run, or go on with it, and measure how it behaves; False where it would end after the deadline.

    Args:
        deadline: as time.time().
        needs: seconds that the run is expected to take.
    """
    run = run_folder(config, out)
    left = 1 - min(1.0, len(run.history()) / config.training.epochs)
    if not run.finished and time.time() + left * needs > deadline:
        return False
    behaviour(train(config, out, data=data, resume=True, progress=False, draws=1), data=data)
    return True


def as_they_end(futures: Mapping[Future[T], K], name: Callable[[K], str] = str) -> Iterator[tuple[K, T]]:
    """What each was and its result of each as it ends.

    Raises:
        OSError: a process died or failed; `name` says which.
    """
    for future in as_completed(futures):
        try:
            yield futures[future], future.result()
        except BrokenProcessPool:
            raise OSError("a training process died, for want of memory perhaps: the same command goes on.") from None
        except RuntimeError as error:
            raise OSError(f"{name(futures[future])} failed: {' '.join(str(error).split())}") from None
