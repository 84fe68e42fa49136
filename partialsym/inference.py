"""Evaluation of a trained model: recalibrated BatchNorm statistics and Monte-Carlo inference."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from partialsym._utils.precision import full_precision
from partialsym._utils.seeding import devices_of, seeded
from partialsym.densities import Density, set_proportional
from partialsym.errors import InputError, InputTypeError
from partialsym.nn.norm import BatchNorm


@contextmanager
def evaluating(model: nn.Module, *, except_: type[nn.Module] | tuple[type[nn.Module], ...] = ()) -> Iterator[None]:
    """A context with every module in eval mode, except for modules of the types `except_`, which are in train mode.

    The model runs in its own dtype (see `full_precision`). All modes are restored afterwards.
    """
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
    """Recompute the running statistics of every BatchNorm on the deterministic elements of eval mode.

    Call it before you evaluate a model that was trained on drawn elements. Nothing is drawn, dropout is off, and all
    modes are restored. Each batch is weighted by its number of images, and the variance between batches is included.
    If the model raises an error, the statistics are restored.

    Args:
        model: any module that contains BatchNorms and Densities of this package.
        batches: inputs of the model, a few hundred images in total.
        seed: use the elements drawn with this seed, the same for all batches, instead of the deterministic ones.
    Raises:
        TypeError: batches is one tensor, or a batch is not a tensor.
        ValueError: batches contains no image.
    """
    if isinstance(batches, Tensor):
        raise InputTypeError("batches is one tensor: must be an iterable of batches, such as `[images]`.")
    norms = [m for m in model.modules() if isinstance(m, BatchNorm) and m.running_mean is not None]
    momenta = [norm.momentum for norm in norms]
    before = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
    pooled = before
    images = 0
    drawn = () if seed is None else (Density,)
    with evaluating(model, except_=(BatchNorm, *drawn)):
        try:
            for norm in norms:
                norm.momentum = 1.0  # running statistics become those of the batch
            for batch in batches:
                if not isinstance(batch, Tensor):
                    raise InputTypeError(
                        f"a batch is a {type(batch).__name__}: must be a tensor of images. If `loader` returns images "
                        "with labels, pass `(images for images, _ in loader)`."
                    )
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
    """Mean and variance of the images so far combined with those of one batch, which is the fraction `share` of all."""
    between = share * (1 - share) * (norm.running_mean - mean).square()
    pooled = mean.lerp(norm.running_mean, share)  # of the first batch exactly its own, whatever was there before
    return pooled, (1 - share) * var + share * norm.running_var + between


@contextmanager
def recalibrated(model: nn.Module, batches: Iterable[Tensor], *, seed: int | None = None) -> Iterator[None]:
    """A context in which the model is recalibrated. Its buffers are restored afterwards."""
    buffers = {buffer: buffer.clone() for buffer in model.buffers()}
    try:
        recalibrate(model, batches, seed=seed)
        yield
    finally:
        for buffer, values in buffers.items():
            buffer.copy_(values)


@contextmanager
def on_elements(model: nn.Module, proportional: bool, batches: Iterable[Tensor]) -> Iterator[None]:
    """A context for evaluation on ⌈rθ⌉ rotations per component if `proportional`, else on r.

    The model is recalibrated on `batches`. Everything is restored afterwards.
    """
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
    """Monte-Carlo inference: mean and standard deviation of the outputs on drawn elements.

    All modules other than the densities are in eval mode. Without `batches`, BatchNorm uses the running statistics of
    the deterministic elements. With `batches`, the model is recalibrated for each draw. A network whose only norm is
    BatchNorm, such as `GCNN13`, needs `batches`, because its activations differ much between draws.

    Args:
        model: any module that contains Densities.
        x: its input.
        draws: number of passes, at least 2.
        seed: seed of the draws. torch's global generator is restored.
        batches: inputs for `recalibrate`, which is called for each draw.
    Returns:
        Mean and standard deviation over the draws, each with the shape of the output.
    Raises:
        ValueError: draws is less than 2, or batches is empty.
    """
    if draws < 2:
        raise InputError(f"draws is {draws}: must be at least 2, for a standard deviation.")
    outputs = torch.stack(sampled(model, x, draws, seed, None if batches is None else tuple(batches)))
    return outputs.mean(0), outputs.std(0)


@torch.no_grad()
def sampled(
    model: nn.Module, x: Tensor, draws: int, seed: int = 0, batches: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """The outputs of `draws` passes on drawn elements: see `monte_carlo`."""
    if batches is None:
        with evaluating(model, except_=Density), seeded(seed, devices_of(model, x)):
            return [model(x) for _ in range(draws)]
    outputs = []
    for one in seeds(seed, draws):
        with recalibrated(model, batches, seed=one):
            outputs += sampled(model, x, 1, one)
    return outputs


def seeds(seed: int, n: int) -> list[int]:
    """Derive n seeds from one. Neighbouring values of `seed` share none of them."""
    return torch.randint(2**62, (n,), generator=torch.Generator().manual_seed(seed)).tolist()
