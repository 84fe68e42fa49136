"""Measure something in a process of its own, as a training has.

What the allocator retained from the rows before would change the time of the twin's large maps by a quarter. The
processes are copies of one that has only imported torch and the networks, which takes five seconds.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_all_start_methods, get_context

import torch

from benchmarks.rows import Book, Row

FRESH = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
if FRESH.get_start_method() == "forkserver":
    FRESH.set_forkserver_preload(["benchmarks.training"])


def alone(book: Book, task: Callable[[Book], None]) -> None:
    """Add the rows of a task. It waits for the cores no longer than `book` has left to wait."""
    with ProcessPoolExecutor(1, mp_context=FRESH) as pool:
        rows, book.together.patience = pool.submit(_measured, task, book.together.patience).result()
    book.rows += rows


def _measured(task: Callable[[Book], None], patience: float) -> tuple[list[Row], float]:
    torch.manual_seed(0)
    book = Book(patience)
    task(book)
    return book.rows, book.together.patience
