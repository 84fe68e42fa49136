"""Evaluating a trained model: recalibrated statistics, and Monte-Carlo inference by name."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from partialsym.densities import Density
from partialsym.norm import BatchNorm


@contextmanager
def evaluating(model: nn.Module, *, except_: type[nn.Module] | None = None) -> Iterator[None]:
    """Eval mode for every module but those of one type, which are put into train mode; then all as they were."""
    modes = {module: module.training for module in model.modules()}
    for module in modes:
        module.training = except_ is not None and isinstance(module, except_)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Recompute every BatchNorm's running statistics on the deterministic elements of eval mode.

    Call it before evaluating a model that was trained on drawn elements. Nothing is drawn, dropout is off, and all
    modes are left as they were.

    Args:
        model: any module that holds our BatchNorms and Densities.
        batches: inputs of the model, a few hundred images in all.
    Raises:
        ValueError: batches is empty.
    """
    inputs = list(batches)
    if not inputs:
        raise ValueError("recalibrate needs at least one batch, got none.")
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    with evaluating(model, except_=BatchNorm):
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None
            for batch in inputs:
                model(batch)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


@torch.no_grad()
def monte_carlo(model: nn.Module, x: Tensor, draws: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Monte-Carlo inference: the model's outputs under drawn elements, everything else in eval mode.

    Args:
        model: any module that holds Densities.
        x: its input.
        draws: number of passes, at least 2.
        seed: of the draws; torch's global generator is left as it was.
    Returns:
        mean and standard deviation over the draws, each of the output's shape.
    Raises:
        ValueError: fewer than 2 draws.
    """
    if draws < 2:
        raise ValueError(f"draws is {draws}: a spread needs at least 2.")
    outputs = torch.stack(sampled(model, x, draws, seed))
    return outputs.mean(0), outputs.std(0)


@torch.no_grad()
def sampled(model: nn.Module, x: Tensor, draws: int, seed: int = 0) -> list[Tensor]:
    """The outputs of `draws` passes under drawn elements, one seeded draw a pass: see `monte_carlo`."""
    with evaluating(model, except_=Density), torch.random.fork_rng():
        torch.manual_seed(seed)
        return [model(x) for _ in range(draws)]
