"""The durations of the methods on this machine."""

import statistics
from collections.abc import Callable

import torch

from partialsym.ask.methods import Shape
from partialsym.ask.planning import BATCH, Seconds
from partialsym.config import ModelConfig
from partialsym.inference import evaluating
from partialsym.profiling import AUTOCAST, Step, seconds
from partialsym.training.fit import build_model
from partialsym.training.trainer import precision

FIRST, LONG = 4, 0.4  # images of the first, small batch; if it needs more seconds, no full batch is timed
LIMIT, TIMES = 2.0, 5  # seconds for timing the steps of a network, and largest number of timed steps

Clock = Callable[[Callable[[], object]], float]


def measure(model: ModelConfig, shape: Shape, batch: int = BATCH, clock: Clock = seconds) -> Seconds:
    """Seconds of a training step on a batch, and of evaluating one image, under the present load of the machine.

    The images are noise. The durations are medians of a few passes after a warm-up. If a full batch would take too
    long, they are extrapolated from a batch of a few images.

    Args:
        model: the network.
        shape: the shape of the task.
        batch: images per step.
        clock: returns the duration of a call in seconds.
    """
    network = build_model(model, shape.channels, shape.classes)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device)
    images = torch.rand(batch, shape.channels, *shape.size, device=device)
    labels = torch.zeros(batch, dtype=torch.long, device=device)
    autocast = AUTOCAST[precision("auto")]

    def train(count: int) -> Callable[[], object]:
        return Step(network.train(), images[:count], labels[:count], autocast)

    def evaluate(count: int) -> Callable[[], object]:
        def run() -> None:
            with torch.no_grad(), evaluating(network):
                network(images[:count])

        return run

    return Seconds(_of(train, batch, clock), _of(evaluate, batch, clock) / batch)


def _of(passes: Callable[[int], Callable[[], object]], batch: int, clock: Clock) -> float:
    """Seconds of a pass over a batch: the median of some passes, or an extrapolation from a few images."""
    few = min(FIRST, batch)
    warm = passes(few)
    clock(warm)
    if (taken := clock(warm)) > LONG:
        return taken * batch / few
    one = passes(batch)
    first = clock(one)  # slower than later passes: it allocates memory
    times = max(1, min(TIMES, int(LIMIT / max(first, 1e-6)) - 1))
    return statistics.median(clock(one) for _ in range(times))
