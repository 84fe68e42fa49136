"""Layers that follow each other, computed together on a processor."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialsym._utils.layout import flat, is_channels_last, to_channels_last
from partialsym._utils.torch_func import eager_on_cpu
from partialsym._utils.torch_private import hooks_on_all, of_many_gradients, runs_its_class
from partialsym.nn.conv import GroupConv
from partialsym.nn.norm import BatchNorm
from partialsym.nn.pool import SpatialPool
from partialsym.nn.statistics import (
    SPARSE,
    combined,
    count_of,
    filled,
    gradients,
    is_quick,
    maxima,
    of_channels,
    of_chunks,
    per_map,
    scale_of,
    slices_of,
)
from partialsym.ops import FactoredKernel, Options, convolve, resolved, shape_of
from partialsym.ops.orders import CHUNK_BYTES, chunks
from partialsym.signal import Signal, check_signal

LANES = 16  # numbers of a vector register


def norm_and_pool(norm: nn.Module, pool: nn.Module, f: Signal) -> Signal:
    """pool(norm(f)) in less time and memory, where a BatchNorm and a maximum follow each other on a processor.

    A maximum over pixels commutes with the scaling by γ/√(Var[f] + ε) if γ is positive. The whole map is then read for
    its statistics and for its maxima, and never written.
    """
    if not (isinstance(norm, BatchNorm) and isinstance(pool, SpatialPool) and _commute(norm, pool, f.values)):
        return pool(norm(f))
    check_signal(f, norm.channels)
    of_batch, tracked = norm._takes_statistics(f.values)
    if not of_batch:
        return norm(pool(f))
    if not is_channels_last(f.values):
        return pool(norm(f))
    if tracked:
        norm._check_tracked(f.values)
    shares = filled(f.elements.mean_weights(), f.values)
    out, mean, var = _Maxima.apply(f.values, shares, norm.weight, norm.bias, norm.eps, pool.size)
    if tracked:
        norm._track(mean.flatten(), var.flatten(), count_of(f.values, f.elements.weights))
    return Signal(out, f.elements)


def lift_norm_and_pool(lifting: nn.Module, norm: nn.Module, pool: nn.Module, f: Signal) -> Signal:
    """pool(norm(lifting(f))) in less time and memory, in training on a processor, where few pixels are maxima.

    A few images at a time, the map is convolved, read for its statistics and maxima, and forgotten. Where that does not
    pay, or something looks at the map, `norm_and_pool` follows the convolution.
    """
    if not (
        eager_on_cpu(f.values)  # first, because a compiler cannot trace what follows
        and type(lifting) is GroupConv
        and isinstance(norm, BatchNorm)
        and isinstance(pool, SpatialPool)
        and pool.size >= SPARSE
        and norm._takes_statistics(f.values)[0]
        and _is_plain(lifting)
    ):
        return norm_and_pool(norm, pool, lifting(f))
    values, kernel, padding, out = lifting.prepared(f, None)
    options = Options(padding, **lifting.steps)
    size = options.size(values.shape[3], values.shape[4], lifting.kernel_size)
    mapped = values.new_empty(()).expand(len(values), len(kernel.weight), len(out), *size)  # takes no memory
    if not (_commute(norm, pool, mapped) and _pays(values, kernel, options, lifting.path)):
        maps = convolve(values, kernel, lifting.bias, padding, lifting.path, **lifting.steps)
        return norm_and_pool(norm, pool, Signal(maps, out))
    check_signal(Signal(mapped, out), norm.channels)
    if tracked := norm._takes_statistics(mapped)[1]:
        norm._check_tracked(mapped)
    shares, filters = filled(out.mean_weights(), mapped), kernel.whole().to(values.dtype)
    top, mean, var = _LiftedMaxima.apply(
        filters, shares, norm.weight, norm.bias, lifting.bias, flat(values), mapped, norm.eps, pool.size, options
    )
    if tracked:
        norm._track(mean.flatten(), var.flatten(), count_of(mapped, out.weights))
    return Signal(top, out)


def _pays(values: Tensor, kernel: FactoredKernel, options: Options, path: str) -> bool:
    """Whether `_LiftedMaxima` computes what is asked for, and faster: dense, few taps, no gradient of the images."""
    shape = shape_of(values.shape, kernel.weight.shape, kernel.phi.shape, *options)
    few = len(kernel.disc) ** 2 * values.shape[1] <= len(kernel.weight) * len(kernel.phi)
    dense = options.groups == 1 and resolved(path, shape, values.dtype) == "dense"
    return few and dense and values.shape[2] == 1 and not values.requires_grad


def _commute(norm: BatchNorm, pool: SpatialPool, values: Tensor) -> bool:
    """Whether the pool may come first: γ is positive, and no hook or subclass looks at what lies between."""
    if not is_quick(values) or norm.all_reduce is not None or pool.mode != "max":
        return False
    if (type(norm), type(pool)) != (BatchNorm, SpatialPool) or not (_is_plain(norm) and _is_plain(pool)):
        return False
    return norm.weight is None or bool((norm.weight > 0).all())


def _is_plain(module: nn.Module) -> bool:
    """Whether a call of the module is one of its class's `forward`, and nothing else."""
    return runs_its_class(module) and not hooks_on_all()


class _Maxima(torch.autograd.Function):
    """Maxima over windows of the values that `_Normalised` returns for a batch in `torch.channels_last`, if γ > 0.

    In its sums A and B, the gradient is 0 except at the maxima. These are saved, but their places only where they are
    few: for windows of 2×2 pixels they would take half of the map's memory, and are found again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        share: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        size: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        means, within, top, index = of_channels(values, size)
        assert top is not None
        mean, var = combined(means, within, share, True)
        out = _scaled(top.unflatten(1, values.shape[1:3]), mean, scale_of(var, eps, weight), bias)
        ctx.save_for_backward(values, share, weight, bias, means, within, mean, var, top, index)
        ctx.eps, ctx.size = eps, size
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        values, share, weight, bias, means, within, mean, var, top, places = ctx.saved_tensors
        again = torch.is_grad_enabled() or of_many_gradients(grad)
        top, axes, index = top.view(grad.shape), (0, 3, 4), None
        if again:  # the saved results have no graph
            within, means = torch.var_mean(values, axes, correction=0, keepdim=True)
            mean, var = combined(means, within, share, True)
            index = maxima(flat(values.detach()), ctx.size)[1].reshape(*values.shape[:3], -1)
            top = values.reshape(*values.shape[:3], -1).gather(3, index).view(grad.shape)
        sums = (grad.sum(axes, keepdim=True), (grad * (top - means)).sum(axes, keepdim=True))
        found = gradients(ctx, sums, (2,), 1, share, weight, bias, (means, within, mean, var))
        d_share, d_weight, d_bias, scale, d_mean, d_var = found
        d_values = None
        if ctx.needs_input_grad[0]:
            q = share.view(-1, 1, 1) * values.shape[2] / values[:, 0].numel()
            slope = 2 * q * d_var
            level = q * d_mean - slope * mean
            if index is not None:
                line, peaks = values * slope + level, (grad * scale).reshape(index.shape)
                line = line.reshape(*values.shape[:3], -1)
                d_values = line.scatter_add(3, index, peaks).reshape(values.shape)
            else:
                d_values = _peaks(grad, scale, values, slope, level, ctx.size, places)
        return d_values, d_share, d_weight, d_bias, None, None


class _LiftedMaxima(torch.autograd.Function):
    """`_Maxima` of the maps v = k ⋆ f of a plain convolution, which are never in memory as a whole.

    The gradient ∂v is slope·(v − E) + ∂E·q/N, plus scale·g at the maxima. So that of a filter k needs sums over the
    patches of f that it meets, and over those of the maxima. For patches p + c around a common centre c, which saves
    digits, v = ⟨k, p + c⟩, and

        ∂k = slope·Σ p·⟨p, k⟩ + (slope·(⟨k, c⟩ − E) + ∂E·q/N)·Σ p + Σ_maxima scale·g·p + c·Σ ∂v.

    An offset of v moves its mean alone, and has the gradient 0.

    Shapes: filters k [c·n, i, k, k], shares of the elements [n], γ, β and offset [c], maps f [b, i, h, w]; `mapped` has
    the shape of v, [b, c, n, h', w'], and no memory.
    """

    @staticmethod
    def forward(
        ctx: Any,
        filters: Tensor,
        share: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        offset: Tensor | None,
        maps: Tensor,
        mapped: Tensor,
        eps: float,
        size: int,
        options: Options,
    ) -> tuple[Tensor, Tensor, Tensor]:
        maps, kernel = to_channels_last(maps), to_channels_last(filters)
        parts = (_convolved(maps[images], kernel, None, options) for images in slices_of(mapped))
        means, within, top, places = of_chunks(parts, size)
        assert top is not None
        means, within = (part.view(1, *mapped.shape[1:3], 1, 1) for part in (means, within))
        mean, var = combined(means, within, share, True)
        out = _scaled(top.unflatten(1, mapped.shape[1:3]), mean, scale_of(var, eps, weight), bias)
        ctx.save_for_backward(filters, share, weight, bias, offset, means, within, mean, var, top, places, maps)
        ctx.mapped, ctx.eps, ctx.size, ctx.options = mapped, eps, size, options
        mean = mean if offset is None else mean + offset.view(-1, 1, 1, 1)
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        filters, share, weight, bias, offset, means, within, mean, var, top, places, maps = saved
        d_offset = None if offset is None else torch.zeros_like(offset)
        if torch.is_grad_enabled() or of_many_gradients(grad):
            return *_differentiable(ctx, grad, saved[:4], maps), d_offset, *[None] * 5
        axes, top = (0, 3, 4), top.view(grad.shape)
        sums = (grad.sum(axes, keepdim=True), (grad * (top - means)).sum(axes, keepdim=True))
        found = gradients(ctx, sums, (2,), 1, share, weight, bias, (means, within, mean, var))
        d_share, d_weight, d_bias, scale, d_mean, d_var = found
        d_filters = None
        if ctx.needs_input_grad[0]:
            count = ctx.mapped[:, 0, 0].numel()
            q = share.view(-1, 1, 1) / count
            slope, common = 2 * q * d_var, q * d_mean
            total = sums[0] * scale + count * (common + slope * (means - mean))
            parts = (per_map(part, ctx.mapped).view(-1, 1) for part in (slope, common, mean, total))
            slope, common, mean, total = parts
            centre = maps.mean((0, 2, 3))[:, None].expand(-1, filters[0, 0].numel()).flatten()
            k, weights = filters.flatten(1), (grad * scale).to(maps.dtype)
            gram, peaks = _of_patches(maps, filters, centre, weights.flatten(1, 2), places, ctx.options)
            line = torch.cat([slope * k, slope * (k @ centre[:, None] - mean) + common], 1)
            d_filters = peaks.addmm_(line, gram)[:, :-1].add_(total * centre).view(filters.shape)
        return d_filters, d_share, d_weight, d_bias, d_offset, *[None] * 5


def _of_patches(
    maps: Tensor, filters: Tensor, centre: Tensor, grad: Tensor, places: Tensor, options: Options
) -> tuple[Tensor, Tensor]:
    """Σ p·pᵀ over the patches p + centre of maps that filters [c, i, k, k] meet, and Σ g·p over places [b, c, h', w'].

    A 1 follows the i·k·k values of a patch, so that Σ p and Σ g are among the sums.
    """
    taps, channels = filters[0].numel(), len(filters)
    width = -(-(taps + 1) // LANES) * LANES
    copies = to_channels_last(torch.eye(width, taps, dtype=maps.dtype).view(width, *filters.shape[1:]))
    shift = torch.cat([-centre, centre.new_ones(1), centre.new_zeros(width - taps - 1)])
    gram, sums = maps.new_zeros(width, width), maps.new_zeros(channels, width)
    pixels = math.prod(options.size(maps.shape[2], maps.shape[3], filters.shape[3]))
    for images in chunks(len(maps), pixels * width * maps.element_size(), CHUNK_BYTES["cpu"] // 8):
        patches = _convolved(maps[images], copies, shift, options).permute(0, 2, 3, 1).reshape(-1, width)
        gram.addmm_(patches.T, patches)
        first = torch.arange(0, len(patches), pixels)[:, None, None]
        rows, weights = (places[images].flatten(2) + first).flatten(0, 1), grad[images].flatten(2).flatten(0, 1)
        bags = F.embedding_bag(rows, patches, per_sample_weights=weights, mode="sum")
        sums.add_(bags.view(-1, channels, width).sum(0))
    return gram[: taps + 1, : taps + 1], sums[:, : taps + 1]


def _convolved(maps: Tensor, kernel: Tensor, bias: Tensor | None, options: Options) -> Tensor:
    return F.conv2d(maps, kernel, bias, options.stride, options.padding, options.dilation)


def _scaled(values: Tensor, mean: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """(values − mean)·scale + bias, with one rounding, in the dtype of values."""
    shift = -mean * scale if bias is None else bias.view(-1, 1, 1, 1) - mean * scale
    return torch.addcmul(shift.to(values.dtype), values, scale.to(values.dtype))


def _differentiable(ctx: Any, grad: Tensor, given: Sequence[Tensor | None], maps: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of `_LiftedMaxima` from torch's own functions, for derivatives of them, or for many at once."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        if not again:
            given = [None if part is None else part.detach().requires_grad_() for part in given]
        filters, share, weight, bias = given
        assert filters is not None
        assert share is not None
        values = _convolved(maps, filters, None, ctx.options)
        var, mean = torch.var_mean(values.unflatten(1, ctx.mapped.shape[1:3]), (0, 3, 4), correction=0, keepdim=True)
        mean, var = combined(mean, var, share, True)
        top = maxima(values, ctx.size)[0].unflatten(1, ctx.mapped.shape[1:3])
        out = _scaled(top, mean, scale_of(var, ctx.eps, weight), bias)
        wanted = [
            part for part, needed in zip(given, ctx.needs_input_grad, strict=False) if needed and part is not None
        ]
        found = iter(torch.autograd.grad(out, wanted, grad, create_graph=again))
    return tuple(next(found) if needed else None for needed in ctx.needs_input_grad[:4])


def _peaks(
    grad: Tensor, scale: Tensor, values: Tensor, slope: Tensor, level: Tensor, size: int, places: Tensor | None
) -> Tensor:
    """values·slope + level, plus grad·scale at the maxima, in chunks of images."""
    maps, of_maxima = flat(values), grad.flatten(1, 2).contiguous(memory_format=torch.channels_last)
    out = torch.empty_like(maps)
    scale, slope, level = (per_map(part, values) for part in (scale, slope, level))
    for images in slices_of(maps):
        line = torch.addcmul(level, maps[images], slope, out=out[images])
        peaks = of_maxima[images] * scale
        index = maxima(maps[images], size)[1] if places is None else places[images]
        _pixels(line).scatter_add_(1, *map(_pixels, (index, peaks)))
    return out.view(values.shape)


def _pixels(maps: Tensor) -> Tensor:
    """Maps [b, c, h, w] as [b, h·w, c], the order of `torch.channels_last`."""
    return maps.flatten(2).mT
