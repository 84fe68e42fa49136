"""Normalisation layers whose statistics weight the elements."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialsym._utils.layout import flat, is_channels_last, to_channels_last
from partialsym._utils.torch_func import batched
from partialsym._utils.torch_private import BatchNormBase, of_many_gradients
from partialsym.errors import InputError, UnsupportedError
from partialsym.nn.statistics import (
    combined,
    count_of,
    filled,
    gradients,
    is_quick,
    moments,
    of_channels,
    per_map,
    pooled,
    scale_of,
    slices_of,
)
from partialsym.ops.orders import CHUNK_BYTES, chunks
from partialsym.signal import Signal, check_signal


class BatchNorm(BatchNormBase):
    """Batch normalisation (Ioffe & Szegedy 2015) of a signal, with E over batch, space and the weighted elements:

        (f − E[f]) / √(Var[f] + ε)·γ + β, for each channel.

    Running statistics collected on drawn elements are wrong for the deterministic elements of eval mode: call
    `recalibrate` before evaluating. torch's `update_bn` recognises this class by its base class, but also collects them
    on drawn elements. If several processes train together, `share_statistics` extends E over all their batches. An
    empty batch leaves the running statistics unchanged.

    Args:
        channels: channels of the signal.
        eps: ε, positive.
        momentum: share of a new batch in the running statistics, in [0, 1]; None for the cumulative mean.
        affine: learn γ and β.
    Raises:
        ValueError: an argument is out of range.
    """

    running_mean: Tensor  # this and the next two are None after torch.func.replace_all_batch_norm_modules_
    running_var: Tensor
    num_batches: Tensor
    all_reduce: Callable[[Tensor], Tensor] | None = None  # differentiable sum over processes, by share_statistics

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True) -> None:
        nn.Module.__init__(self)  # the base class is only for isinstance checks
        _check(channels, eps)
        if momentum is not None and not 0 <= momentum <= 1:
            raise InputError(f"momentum is {momentum}: must be in [0, 1], or None.")
        self.channels, self.eps, self.momentum = channels, eps, momentum
        self.cumulative = momentum is None
        self.affine, self.track_running_stats = affine, True
        self.register_parameter("weight", nn.Parameter(torch.ones(channels)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(channels)) if affine else None)
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.long))

    def __getattr__(self, name: str) -> Any:
        if name == "num_features":  # torch reads it to convert one norm into another
            raise AttributeError(
                "partialsym's BatchNorm weights the elements and cannot become a SyncBatchNorm: do not use "
                "convert_sync_batchnorm (in Lightning, sync_batchnorm=True), but call "
                "partialsym.share_statistics(model)."
            )
        return super().__getattr__(name)

    @property
    def num_batches_tracked(self) -> Tensor:
        """`num_batches` under torch's name."""
        return self.num_batches

    @num_batches_tracked.setter
    def num_batches_tracked(self, value: Tensor) -> None:
        self.num_batches = value

    def reset_running_stats(self) -> None:
        if self.running_mean is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches.zero_()

    def forward(self, f: Signal) -> Signal:  # type: ignore[override]
        """f [batch, channels, n, h, w] → the same shape on the same elements."""
        check_signal(f, self.channels)
        values, weights = f.values, f.elements.weights
        of_batch, tracked = self._takes_statistics(values)
        if tracked:
            self._check_tracked(values)
        if of_batch and self.all_reduce is None and is_quick(values):
            out, mean, var = _normalised(values, f.elements.mean_weights(), True, self.eps, self.weight, self.bias)
            if tracked:
                self._track(mean.flatten(), var.flatten(), count_of(values, weights))
            return f.map(lambda _: out)
        if not of_batch or (weights is None and self.all_reduce is None):
            factor = self._factor() if tracked else 0.0
            old_mean, old_var = (None, None) if of_batch and not tracked else (self.running_mean, self.running_var)
            return f.map(
                lambda v: F.batch_norm(v, old_mean, old_var, self.weight, self.bias, of_batch, factor, self.eps)
            )
        shares = f.elements.mean_weights()
        if weights is None or shares is None:
            weights = values.new_ones(len(f.elements), dtype=torch.promote_types(values.dtype, torch.float32))
            shares = weights / len(weights)
        if values.numel():
            mean, var = moments(values, shares, (0, 3, 4))
        else:  # zeros in the graph: the backward pass must take part in all_reduce, too
            mean = var = values.sum((0, 2, 3, 4), keepdim=True)
        count = count_of(values, weights)
        if self.all_reduce is not None:
            mean, var, count = pooled(mean, var, count, self.all_reduce)
        if tracked:
            self._track(mean.flatten(), var.flatten(), count)
        return f.map(lambda v: _normalise(v, mean, var, self.eps, self.weight, self.bias))

    def _takes_statistics(self, values: Tensor) -> tuple[bool, bool]:
        """Whether to normalise by the statistics of this batch, and whether to update the running ones."""
        known = self.running_mean is not None
        empty = self.all_reduce is None and not values.numel()
        of_batch = not known or (self.training and not empty)
        return of_batch, known and of_batch and self.track_running_stats

    def _factor(self, batches: int | Tensor = 1) -> float:
        self.num_batches.add_(batches)
        return 1.0 / max(1.0, float(self.num_batches)) if self.momentum is None else self.momentum

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        unbiased = var * (count / (count - 1).clamp(min=1))
        if self.all_reduce is None:
            factor = self._factor()
        else:  # the batches of all processes may be empty
            factor = self._factor(count > 0)
            mean, unbiased = (
                torch.where(count > 0, new, old)
                for new, old in ((mean, self.running_mean), (unbiased, self.running_var))
            )
        self.running_mean.lerp_(mean.to(self.running_mean), factor)
        self.running_var.lerp_(unbiased.to(self.running_var), factor)

    def _check_tracked(self, values: Tensor) -> None:
        if batched(values) and not batched(self.running_mean):
            raise UnsupportedError(
                "BatchNorm cannot update its running statistics under torch.vmap: call model.eval() or "
                "torch.func.replace_all_batch_norm_modules_(model) first."
            )
        if self.momentum is None and not self.cumulative:  # set from outside, as update_bn does
            warnings.warn(
                "BatchNorm collects its statistics in train mode, on drawn elements, but eval mode uses other "
                "elements: call partialsym.recalibrate(model, batches) before evaluating.",
                stacklevel=2,
            )

    def _load_from_state_dict(self, *arguments: Any) -> None:
        nn.Module._load_from_state_dict(self, *arguments)  # the base class would require num_batches_tracked

    def extra_repr(self) -> str:
        return f"{self.channels}, eps={self.eps}, momentum={self.momentum}"


class InstanceNorm(nn.Module):
    """Instance normalisation (Ulyanov et al. 2016) of a signal, with E over space and the weighted elements:

        (f − E[f]) / √(Var[f] + ε), for each image and channel.

    It has no parameters and no running statistics.

    Args:
        channels: channels of the signal.
        eps: ε, positive.
    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, channels: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        _check(channels, eps)
        self.channels, self.eps = channels, eps

    def forward(self, f: Signal) -> Signal:
        """f [batch, channels, n, h, w] → the same shape on the same elements."""
        check_signal(f, self.channels)
        shares = f.elements.mean_weights()
        if shares is None or not f.values.numel():
            return f.map(self._unweighted)
        if is_quick(f.values):
            out, *_ = _normalised(f.values, shares, False, self.eps)
            return f.map(lambda _: out)
        mean, var = moments(f.values, shares, (3, 4))
        return f.map(lambda v: _normalise(v, mean, var, self.eps))

    def _unweighted(self, v: Tensor) -> Tensor:
        out = torch.group_norm(v.flatten(1, 2), self.channels, eps=self.eps).view_as(v)
        return out if out.dtype == v.dtype else out.to(v.dtype)  # group_norm returns float32 under autocast on a GPU

    def extra_repr(self) -> str:
        return f"{self.channels}, eps={self.eps}"


def _check(channels: int, eps: float) -> None:
    if channels < 1:
        raise InputError(f"channels is {channels}: must be at least 1.")
    if not eps > 0:
        raise InputError(f"eps is {eps}: must be positive.")


def _normalise(
    v: Tensor, mean: Tensor, var: Tensor, eps: float, weight: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    scale = (var + eps).rsqrt()
    if weight is not None:
        scale = scale * weight.view(-1, 1, 1, 1)
    shift = -mean * scale
    if bias is not None:
        shift = shift + bias.view(-1, 1, 1, 1)
    return torch.addcmul(shift, v, scale).to(v.dtype)  # one rounding, because f·scale − mean·scale cancels digits


def _normalised(
    values: Tensor,
    shares: Tensor | None,
    over_batch: bool,
    eps: float,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Values normalised by their `moments`, over the batch or image by image, faster than by `_normalise`.

    Returns:
        The values, their mean and their variance; the last two have no gradients.
    """
    if not (over_batch and is_channels_last(values)):
        values = values.contiguous()  # a copy made inside would have no graph
    out, mean, var = _Normalised.apply(values, filled(shares, values), weight, bias, over_batch, eps)
    return out, mean, var


class _Normalised(torch.autograd.Function):
    """(v − E[v])·s·γ + β with s = (Var[v] + ε)^−½, from values v [b, c, n, h, w] and shares p [n] that sum to 1.

    A row is one image, channel and element; over a batch in `torch.channels_last`, it is one channel and element of all
    images. q is its share of the statistics, m and u are its mean and variance: E = Σ q·m, Var = Σ q·(u + (m − E)²).
    torch's group norm finds m and u of images in one pass over memory, `of_channels` those of a batch. The backward
    pass needs two sums of the gradient g per row, A = Σ g and B = Σ g·(v − E):

        ∂v = s·γ·g − q/N·(s·γ·ΣA + s³·γ·ΣB·(v − E)),    ∂q = −s·γ·ΣA·m − ½·s³·γ·ΣB·(u + (m − E)²),

    with the number N of pixels of a row.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        share: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        over_batch: bool,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        last = over_batch and is_channels_last(values)
        rows = (1 if last else len(values), *values.shape[1:3], 1, 1)
        if last:
            means, within, *_ = of_channels(values)
        else:
            count, pixels = math.prod(rows), math.prod(values.shape[3:])
            maps = values.view(1, count, *values.shape[3:])
            out, means, scales = torch.native_group_norm(maps, None, None, 1, count, pixels, count, eps)
            means, scales = means.view(rows), scales.view(rows)
            within = (scales.square().reciprocal() - eps).clamp(min=0)
        mean, var = combined(means, within, share, over_batch)
        scale = scale_of(var, eps, weight)
        if last:
            shift = -mean * scale if bias is None else bias.view(-1, 1, 1, 1) - mean * scale
            out = torch.addcmul(per_map(shift, values), flat(values), per_map(scale, values)).view(values.shape)
        else:
            shift = (means - mean) * scale
            if bias is not None:
                shift = shift + bias.view(-1, 1, 1, 1)
            out = out.view(values.shape).mul_(scale / scales).add_(shift)
        ctx.save_for_backward(values, share, weight, bias, means, within, mean, var)
        ctx.over_batch, ctx.last, ctx.eps = over_batch, last, eps
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        values, share, weight, bias, means, within, mean, var = ctx.saved_tensors
        dims, images = ((0, 2), len(means)) if ctx.over_batch else ((2,), 1)
        of_row = (0, 3, 4) if ctx.last else (3, 4)
        again = torch.is_grad_enabled() or of_many_gradients(grad)  # torch's kernels support neither
        if again:
            within, means = torch.var_mean(values, of_row, correction=0, keepdim=True)
            mean, var = combined(means, within, share, ctx.over_batch)
            sums, products = (part.sum(of_row, keepdim=True) for part in (grad, grad * (values - means)))
        else:
            sums, products = (_sums_of_channels if ctx.last else _sums_of_images)(grad, values, means)
        found = gradients(ctx, (sums, products), dims, images, share, weight, bias, (means, within, mean, var))
        d_share, d_weight, d_bias, scale, d_mean, d_var = found
        q, pixels = share.view(-1, 1, 1) / images, math.prod(values.shape[i] for i in of_row)
        slope = 2 * q * d_var / pixels
        level = q * d_mean / pixels - slope * mean
        d_values = None
        if ctx.needs_input_grad[0]:
            if again:
                d_values = grad * scale + (values * slope + level)
            else:
                d_values = (_line_of_channels if ctx.last else _line)(grad, scale, values, slope, level)
        return d_values, d_share, d_weight, d_bias, None, None


def _sums_of_images(grad: Tensor, values: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """Σ g and Σ g·(v − m) over the pixels of each row, [b, c, n, 1, 1]."""
    rows, pixels = means.numel(), math.prod(values.shape[3:])
    maps, ones = (1, rows, *values.shape[3:]), means.new_ones(rows)
    _, products, sums = torch.ops.aten.native_group_norm_backward(
        grad.contiguous().view(maps), values.view(maps), means.view(1, rows), ones.view(1, rows), ones,
        1, rows, pixels, rows, [False, True, True],
    )  # fmt: skip
    return sums.view_as(means), products.view_as(means)


def _sums_of_channels(grad: Tensor, values: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """Σ g and Σ g·(v − m) over images and pixels, [1, c, n, 1, 1], in `torch.channels_last`."""
    g, maps, centre = to_channels_last(grad.flatten(1, 2)), flat(values), per_map(means, values)
    parts = [
        torch.stack([g[images].sum((0, 2, 3)), (maps[images] - centre).mul_(g[images]).sum((0, 2, 3))])
        for images in slices_of(maps)
    ]
    sums, products = torch.stack(parts).sum(0)
    return sums.view(means.shape), products.view(means.shape)


def _line(grad: Tensor, scale: Tensor, values: Tensor, slope: Tensor, level: Tensor) -> Tensor:
    """grad·scale + values·slope + level, computed in chunks of images."""
    out = torch.empty_like(values)
    wide, of_all = len(scale) > 1, len(slope) == 1
    for images in chunks(len(values), values[0].nbytes, CHUNK_BYTES["cpu"] // 4):
        a, c = (slope, level) if of_all else (slope[images], level[images])
        torch.mul(values[images], a, out=out[images]).add_(c).addcmul_(grad[images], scale[images] if wide else scale)
    return out


def _line_of_channels(grad: Tensor, scale: Tensor, values: Tensor, slope: Tensor, level: Tensor) -> Tensor:
    """grad·scale + values·slope + level, in `torch.channels_last`, in chunks of images."""
    scale, slope, level = (per_map(part, values) for part in (scale, slope, level))
    maps, g = flat(values), to_channels_last(grad.flatten(1, 2))
    out = torch.empty_like(maps)
    for images in slices_of(maps):
        torch.addcmul(level, maps[images], slope, out=out[images]).addcmul_(g[images], scale)
    return out.view(values.shape)
