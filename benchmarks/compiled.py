"""`python -m benchmarks.compiled`: a compiled training step against the eager one, and the seconds it takes to compile.

For every network a line: seconds to compile, then the quotient of the steps' processor time, forward + backward, median
of interleaved pairs on one thread. `partialsym/training/compile.py` follows from it.
"""

import statistics
import sys
import time
from typing import Any

import torch

from benchmarks.training import batch
from partialsym import GResNet
from partialsym.profiling import Step
from partialsym.training.compile import Compiled

PAIRS = 5
ASKED: dict[str, Any] = {"in_channels": 3, "num_classes": 2, "width": 16, "kernel_size": 5}
CASES = {
    "ResNet SE2-8": (lambda: GResNet("SE2"), (64, 1, 28)),
    "ask's SE2-4": (lambda: GResNet("SE2", samples=4, **ASKED), (64, 3, 32)),
    "ask's E2-8": (lambda: GResNet("E2", samples=8, **ASKED), (64, 3, 32)),
    "ResNet SE2-8, width 8": (lambda: GResNet("SE2", width=8), (16, 1, 28)),
}


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    for name in names or CASES:
        make, sizes = CASES[name]
        model = make().train()
        images, labels = batch(*sizes)
        labels %= model.num_classes
        eager, compiled = Step(model, images, labels), Step(model, images, labels, forward=Compiled(model))
        eager()
        start = time.perf_counter()
        compiled()
        seconds = time.perf_counter() - start
        pairs = [(_processor(eager), _processor(compiled)) for _ in range(PAIRS + 1)][1:]
        quotient = statistics.median(b / a for a, b in pairs)
        eager_ms = 1e3 * statistics.median(a for a, _ in pairs)
        sys.stdout.write(
            f"{name}: {seconds:.0f} s to compile, step {quotient:.2f} of the eager one of {eager_ms:.0f} ms\n"
        )
        sys.stdout.flush()


def _processor(step: Step) -> float:
    """Seconds of the processor's time: other processes do not count."""
    start = time.process_time()
    step()
    return time.process_time() - start


if __name__ == "__main__":
    main(sys.argv[1:])
