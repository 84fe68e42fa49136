"""What each departure from the published code does to the accuracy: `python -m studies.departures`.

The library holds our version of each alone. Here one of them at a time is put back as published, in a network that is
otherwise the table's, trained as the table says. (What is said of the published code was found by running it; none of
it is here.)
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from partialsym.cli.reproduce import parse_seeds
from partialsym.config import Experiment
from partialsym.densities import Bernoulli, Density
from partialsym.groups import SE2
from partialsym.nn.conv import GroupConv
from partialsym.ops import FactoredKernel
from partialsym.reproduction.table import load_table
from partialsym.signal import Elements
from partialsym.training.fit import Ablation, train

RESULTS = Path(__file__).parents[1] / "results" / "departures"


class OneGradient(Density):
    """θ as published: every rotation gets the derivative of the first one, where the true ones run from − to +."""

    def _angles(self, position: Tensor) -> Tensor:
        theta, first = self.algebra.theta(), position[..., :1]
        return torch.pi * (theta.detach() * position + (theta - theta.detach()) * first)


class SilentWhenDropped(Bernoulli):
    """Mirrorings as published: a component that was not drawn gives its logit no gradient."""

    def draw(self) -> Tensor:
        drawn = super().draw()
        return drawn * drawn.detach()


class Sum(GroupConv):
    """The convolution as published: a sum over the drawn elements, not their mean.

    Divided by the number of all elements, so that nothing differs while none is dropped: the starting scale is not
    what is compared. On SE(2), which drops none, it is the mean.
    """

    def factored_kernel(self, out: Elements, into: Elements) -> FactoredKernel:
        k = super().factored_kernel(out, into)
        if into.weights is None or k.mean is None:
            return k
        share = into.weights.mean()
        return k._replace(phi=k.phi * share, mean=k.mean * share)


class Jump(SE2):
    """The relative rotation δ in [0, 2π) as published: δ/π − 1, which jumps at the identity; and a dead input."""

    def embed(self, h: Tensor) -> Tensor:
        delta = torch.atan2(-h[..., 0, 1], h[..., 1, 1]).remainder(2 * torch.pi)
        return torch.stack([delta / torch.pi - 1, torch.zeros_like(delta)], -1)

    def embedded_inverse(self, h: Tensor) -> None:  # type: ignore[override]
        """None: this embedding is not linear."""


def _become(kind: type[nn.Module], of: type[nn.Module], model: nn.Module) -> None:
    changed = [module for module in model.modules() if type(module) is of]
    assert changed, f"no {of.__name__} in the network: nothing would be measured"
    for module in changed:
        module.__class__ = kind  # the same parameters, by the same names


def _jump(model: nn.Module) -> None:
    for conv in model.modules():
        if isinstance(conv, GroupConv) and conv.domain.name == "SE2":
            conv.domain = Jump()
            with torch.no_grad():  # the starting scale is not what is compared
                grid = conv.group.grid(16).to(conv.taps)
                conv.kernel.rescale(float(conv._mean_square(grid) / conv.out_channels) ** -0.5)


ALTER: dict[str, Callable[[nn.Module], None]] = {
    "theta-gradient": partial(_become, OneGradient, Density),
    "mirror-gradient": partial(_become, SilentWhenDropped, Bernoulli),
    "sum": partial(_become, Sum, GroupConv),
    "embedding": _jump,
}


class Task(NamedTuple):
    """A row of a table, and the departures taken back in it."""

    table: str
    row: str
    departures: tuple[str, ...]


TASKS = (
    Task("mnist6", "SE2-8/partial/MNIST6-180", ("theta-gradient", "embedding")),
    Task("mnist6", "Mirror-2/partial/MNIST6-M", ("mirror-gradient", "sum")),
    Task("data_efficiency", "SE2-4/partial/rotMNIST/1000", ("theta-gradient", "embedding")),
    Task("data_efficiency", "E2-4/partial/rotMNIST/1000", ("mirror-gradient", "sum")),
)


def experiment(task: Task, departure: str, seed: int) -> Experiment:
    """What the row is trained with, under a name of its own."""
    return replace(load_table(task.table).experiment(task.row, seed), name=f"departures/{task.row}/{departure}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--departures", default=",".join(ALTER))
    parser.add_argument("--out", default="runs", help="folder of all runs; interrupted ones are resumed")
    parser.add_argument("--publish", default=str(RESULTS), help="folder of the results; what it holds is not run")
    options = parser.parse_args()
    chosen = options.departures.split(",")
    if unknown := [name for name in chosen if name not in ALTER]:
        parser.error(f"departures names {unknown[0]!r}: must be of {', '.join(ALTER)}.")
    failed = []
    queue = [(task, name, seed) for seed in parse_seeds(options.seeds) for task in TASKS for name in task.departures]
    for task, departure, seed in queue:
        place = f"{task.row}/{departure}"
        target = Path(options.publish) / place / f"seed{seed}.json"
        if departure not in chosen or target.is_file():
            continue
        config = experiment(task, departure, seed)
        altered = Ablation(departure, ALTER[departure])
        try:
            run = train(config, options.out, resume=True, progress=False, alter=altered)
            run.publish(target)
        except (ValueError, OSError, torch.OutOfMemoryError) as error:
            failed.append(f"{place}, seed {seed}: {error}")
            continue
        print(place, seed, f"{100 * run.result()['accuracy']['test']:.2f}", flush=True)  # noqa: T201
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
