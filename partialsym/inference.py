"""Evaluating a trained model: recalibrated statistics, and Monte-Carlo inference by name."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from partialsym._utils.precision import full_precision
from partialsym._utils.seeding import devices_of, seeded
from partialsym.densities import Density, set_proportional
from partialsym.errors import InputError
from partialsym.nn.norm import BatchNorm


@contextmanager
def evaluating(model: nn.Module, *, except_: type[nn.Module] | tuple[type[nn.Module], ...] = ()) -> Iterator[None]:
    """Eval mode for every module but those of some types, which are put into train mode, in the model's own dtype (see
    `full_precision`); then all as it was."""
    modes = {module: module.training for module in model.modules()}
    for module in modes:
        module.training = isinstance(module, except_)
    try:
        with full_precision(model):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Tensor], *, seed: int | None = None) -> None:
    """Recompute every BatchNorm's running statistics on the deterministic elements of eval mode.

    Call it before evaluating a model that was trained on drawn elements. Nothing is drawn, dropout is off, and all
    modes are left as they were. Batches weigh by their images, and the spread between them counts. Where the model
    raises, the statistics are as they were.

    Args:
        model: any module that holds our BatchNorms and Densities.
        batches: inputs of the model, a few hundred images in all.
        seed: recompute them on the elements that this seed draws, the same for all batches, instead.
    Raises:
        ValueError: batches holds no image.
    """
    norms = [m for m in model.modules() if isinstance(m, BatchNorm) and m.running_mean is not None]
    momenta = [norm.momentum for norm in norms]
    before = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
    pooled = before
    images = 0
    drawn = () if seed is None else (Density,)
    with evaluating(model, except_=(BatchNorm, *drawn)):
        try:
            for norm in norms:
                norm.momentum = 1.0  # a batch's own statistics land in the running ones
            for batch in batches:
                if not len(batch):
                    continue
                with nullcontext() if seed is None else seeded(seed, devices_of(model, batch)):
                    model(batch)
                images += len(batch)
                share = len(batch) / images
                pooled = [_pool(*moments, norm, share) for moments, norm in zip(pooled, norms, strict=True)]
            if not images:
                raise InputError("recalibrate needs at least one batch, got none.")
        except BaseException:
            pooled = before
            raise
        finally:
            for norm, momentum, (mean, var) in zip(norms, momenta, pooled, strict=True):
                norm.momentum = momentum
                norm.running_mean.copy_(mean)
                norm.running_var.copy_(var)


def _pool(mean: Tensor, var: Tensor, norm: BatchNorm, share: float) -> tuple[Tensor, Tensor]:
    """Mean and variance of the images so far with those of one batch, which is `share` of them all."""
    delta = norm.running_mean - mean
    between = share * (1 - share) * delta.square()
    return mean + share * delta, (1 - share) * var + share * norm.running_var + between


@contextmanager
def recalibrated(model: nn.Module, batches: Iterable[Tensor], *, seed: int | None = None) -> Iterator[None]:
    """`recalibrate` for a while; then the statistics are as they were."""
    buffers = {buffer: buffer.clone() for buffer in model.buffers()}
    try:
        recalibrate(model, batches, seed=seed)
        yield
    finally:
        for buffer, values in buffers.items():
            buffer.copy_(values)


@contextmanager
def on_elements(model: nn.Module, proportional: bool, batches: Iterable[Tensor]) -> Iterator[None]:
    """Evaluate on ⌈rθ⌉ rotations a component where `proportional`, else on r, recalibrated on `batches`; then all as
    it was."""
    densities = {module: module.proportional for module in model.modules() if isinstance(module, Density)}
    try:
        set_proportional(model, proportional)
        with recalibrated(model, batches):
            yield
    finally:
        for density, before in densities.items():
            density.proportional = before


@torch.no_grad()
def monte_carlo(
    model: nn.Module, x: Tensor, draws: int, seed: int = 0, *, batches: Iterable[Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Monte-Carlo inference: the model's outputs under drawn elements, everything else in eval mode.

    BatchNorm's statistics stay those of the deterministic elements, or are each draw's own on `batches`. A network
    with no norm but BatchNorm, such as `GCNN13`, needs its own: values differ much between draws.

    Args:
        model: any module that holds Densities.
        x: its input.
        draws: number of passes, at least 2.
        seed: of the draws; torch's global generator is left as it was.
        batches: inputs to `recalibrate` on, anew for each draw.
    Returns:
        mean and standard deviation over the draws, each of the output's shape.
    Raises:
        ValueError: fewer than 2 draws; batches is empty.
    """
    if draws < 2:
        raise InputError(f"draws is {draws}: a spread needs at least 2.")
    outputs = torch.stack(sampled(model, x, draws, seed, None if batches is None else tuple(batches)))
    return outputs.mean(0), outputs.std(0)


@torch.no_grad()
def sampled(
    model: nn.Module, x: Tensor, draws: int, seed: int = 0, batches: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """The outputs of `draws` passes under drawn elements: see `monte_carlo`."""
    if batches is None:
        with evaluating(model, except_=Density), seeded(seed, devices_of(model, x)):
            return [model(x) for _ in range(draws)]
    outputs = []
    for one in seeds(seed, draws):
        with recalibrated(model, batches, seed=one):
            outputs += sampled(model, x, 1, one)
    return outputs


def seeds(seed: int, n: int) -> list[int]:
    """n seeds that come from one, so that neighbouring ones share no draw."""
    return torch.randint(2**62, (n,), generator=torch.Generator().manual_seed(seed)).tolist()
