"""Whether two threads help each other. The cores of a virtual machine may be moved apart, and back, at any time.

They then share no cache. A network of many small operations, each of which reads what the other core has written, takes
half as long again, and one of few large operations the same time as before.
"""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from partialsym.profiling import seconds

SERIAL, PARTS = 2**15, 8  # torch works with one thread on that many numbers or fewer
REPEATS, PAUSE = 30, 0.5
PATIENCE = 5.0  # seconds


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """A context in which torch uses `count` threads; None leaves their number as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Together:
    """A step to run before others: it waits until the cores share a cache, for at most `patience` seconds in all.

    `apart` counts the calls after which they still did not.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self.patience, self.apart, self.calls = patience, 0, 0
        self.whole = torch.zeros(2, PARTS * SERIAL // 2)
        self.parts = [torch.zeros(2, SERIAL // 2) for _ in range(PARTS)]

    def __call__(self) -> None:
        self.calls += 1
        while not together(self.whole, self.parts):
            if self.patience <= 0:
                self.apart += 1
                return
            time.sleep(PAUSE)
            self.patience -= PAUSE

    def note(self) -> str:
        """What to say of a value, if the cores were apart; the counts start again."""
        told = f"cores apart in {self.apart} of {self.calls} rounds" if self.apart else ""
        self.apart = self.calls = 0
        return told


def together(whole: torch.Tensor, parts: list[torch.Tensor]) -> bool:
    """Whether all threads are faster on `whole` than one thread is on its parts, one after the other."""
    if torch.get_num_threads() == 1:
        return True
    return _median_seconds([whole]) < _median_seconds(parts)


def _median_seconds(tensors: list[torch.Tensor]) -> float:
    return statistics.median(seconds(lambda: _pass_on(tensors)) for _ in range(REPEATS))


def _pass_on(tensors: list[torch.Tensor]) -> None:
    """Write the tensors, then read each half where the other one was written."""
    for tensor in tensors:
        tensor.add_(1)
        torch.cat([tensor[1:], tensor[:1]]).add_(1)
