"""What the methods take on this machine."""

import torch

from partialsym.ask.methods import Shape
from partialsym.ask.planning import BATCH, Seconds
from partialsym.config import ModelConfig
from partialsym.inference import evaluating
from partialsym.profiling import AUTOCAST, Step, interleaved
from partialsym.training.fit import build_model
from partialsym.training.trainer import precision

STEPS = 2


def measure(model: ModelConfig, shape: Shape, batch: int = BATCH) -> Seconds:
    """Seconds of a training step on a batch, and of evaluating an image; on noise, the slowest of two."""
    network = build_model(model, shape.channels, shape.classes)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device)
    images = torch.rand(batch, shape.channels, *shape.size, device=device)
    labels = torch.zeros(batch, dtype=torch.long, device=device)
    step = Step(network.train(), images, labels, AUTOCAST[precision("auto")])
    of_step = max(one for (one,) in interleaved(step, pairs=STEPS))

    def evaluate() -> None:
        with torch.no_grad(), evaluating(network):
            network(images)

    of_batch = max(one for (one,) in interleaved(evaluate, pairs=1))
    return Seconds(of_step, of_batch / batch)
