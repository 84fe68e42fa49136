"""Normalisations whose statistics weigh the elements."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialsym._utils.torch_func import batched, eager_on_cpu
from partialsym._utils.torch_private import BatchNormBase, of_many_gradients
from partialsym.errors import InputError, UnsupportedError
from partialsym.ops.orders import CHUNK_BYTES, chunks
from partialsym.signal import Signal, check_signal


def _moments(values: Tensor, shares: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Weighted mean and (biased) variance over elements and `dims` of values [b, c, n, h, w], those axes kept at 1.

    Each element's own moments come first, so that what an element of weight 0 holds never meets the others.
    """
    values = values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
    var_j, mean_j = torch.var_mean(values, dims, correction=0, keepdim=True)  # [·, c, n, 1, 1]
    p = shares[:, None, None]
    mean = (p * mean_j).sum(2, keepdim=True)
    return mean, (p * (var_j + (mean_j - mean).square())).sum(2, keepdim=True)


def _pooled(
    mean: Tensor, var: Tensor, count: Tensor, all_reduce: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance (round that mean: nothing cancels) and count over all processes, each of which may have none."""
    first = all_reduce(torch.cat([count[None], count * mean.flatten()]))
    total = first[0].clamp(min=torch.finfo(first.dtype).tiny)
    common = (first[1:] / total).view_as(mean)
    spread = all_reduce(count * (var + (mean - common).square()))
    return common, spread / total, first[0]


class BatchNorm(BatchNormBase):
    """(f − E[f]) / √(Var[f] + ε)·γ + β per channel, E over batch, space and the weighted elements.

    Running statistics gathered under drawn elements are wrong for the deterministic ones of eval mode: call
    `recalibrate` before evaluating, also after torch's `update_bn`, which finds this class by its base. In training by
    several processes the batch is that of all: see `share_statistics`. An empty batch leaves the statistics alone.

    Args:
        channels: channels of the signal.
        eps: ε.
        momentum: of the running statistics; None for the cumulative mean.
        affine: learn γ and β.
    """

    running_mean: Tensor  # None, as the next two, after torch.func.replace_all_batch_norm_modules_
    running_var: Tensor
    num_batches: Tensor
    all_reduce: Callable[[Tensor], Tensor] | None = None  # over the processes that train together, with its gradient

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True) -> None:
        nn.Module.__init__(self)  # the base is for those who look for it
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
        if name == "num_features":  # what torch reads to make another norm of this one
            raise AttributeError(
                "partialsym's BatchNorm weighs elements, and does not become a SyncBatchNorm: leave out "
                "convert_sync_batchnorm (in Lightning sync_batchnorm=True) and call partialsym.share_statistics(model)."
            )
        return super().__getattr__(name)

    @property
    def num_batches_tracked(self) -> Tensor:
        """torch's name of `num_batches`."""
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
        known = self.running_mean is not None
        empty = self.all_reduce is None and not values.numel()
        of_batch = not known or (self.training and not empty)
        tracked = known and of_batch and self.track_running_stats
        if tracked:
            self._check_tracked(values)
        if of_batch and self.all_reduce is None and _is_quick(values):
            out, mean, var = _normalised(values, f.elements.mean_weights(), True, self.eps, self.weight, self.bias)
            if tracked:
                self._track(mean.flatten(), var.flatten(), _count(values, weights))
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
            mean, var = _moments(values, shares, (0, 3, 4))
        else:  # zeros: the gradients of the other processes pass here, too
            mean = var = values.sum((0, 2, 3, 4), keepdim=True)
        count = _count(values, weights)
        if self.all_reduce is not None:
            mean, var, count = _pooled(mean, var, count, self.all_reduce)
        if tracked:
            self._track(mean.flatten(), var.flatten(), count)
        return f.map(lambda v: _normalise(v, mean, var, self.eps, self.weight, self.bias))

    def _factor(self, batches: int | Tensor = 1) -> float:
        self.num_batches.add_(batches)
        return 1.0 / max(1.0, float(self.num_batches)) if self.momentum is None else self.momentum

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        unbiased = var * (count / (count - 1).clamp(min=1))
        if self.all_reduce is None:
            factor = self._factor()
        else:  # all may have had an empty batch
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
                "torch.vmap in train mode: BatchNorm's running statistics are of one batch. Call model.eval(), or "
                "torch.func.replace_all_batch_norm_modules_(model)."
            )
        if self.momentum is None and not self.cumulative:  # set from outside: by update_bn, or a callback like it
            warnings.warn(
                "statistics are gathered in train mode, on drawn elements, but eval mode takes others: call "
                "partialsym.recalibrate(model, batches) before evaluating.",
                stacklevel=2,
            )

    def _load_from_state_dict(self, *arguments: Any) -> None:
        nn.Module._load_from_state_dict(self, *arguments)  # the base expects its own name of `num_batches`

    def extra_repr(self) -> str:
        return f"{self.channels}, eps={self.eps}, momentum={self.momentum}"


class InstanceNorm(nn.Module):
    """(f − E[f]) / √(Var[f] + ε) per image and channel, E over space and the weighted elements; no parameters."""

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
        if _is_quick(f.values):
            out, *_ = _normalised(f.values, shares, False, self.eps)
            return f.map(lambda _: out)
        mean, var = _moments(f.values, shares, (3, 4))
        return f.map(lambda v: _normalise(v, mean, var, self.eps))

    def _unweighted(self, v: Tensor) -> Tensor:
        out = torch.group_norm(v.flatten(1, 2), self.channels, eps=self.eps).view_as(v)
        return out if out.dtype == v.dtype else out.to(v.dtype)  # autocast on a GPU gives float32

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
        scale = scale * weight[:, None, None, None]
    shift = -mean * scale
    if bias is not None:
        shift = shift + bias[:, None, None, None]
    return torch.addcmul(shift, v, scale).to(v.dtype)  # rounded once: in half precision f·scale − mean·scale cancels


def _count(values: Tensor, weights: Tensor | None) -> Tensor:
    """Values a channel, those of an element as often as its weight says."""
    each = values[:, 0, 0].numel()
    if weights is None:
        return torch.tensor(float(each * values.shape[2]))
    return each * weights.sum(dtype=torch.promote_types(weights.dtype, torch.float32))


def _is_quick(values: Tensor) -> bool:
    """Whether `_normalised` can be taken."""
    return values.dtype in (torch.float32, torch.float64) and values.numel() > 0 and eager_on_cpu(values)


def _normalised(
    values: Tensor,
    shares: Tensor | None,
    over_batch: bool,
    eps: float,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """What `_normalise` makes of `_moments`, over the batch or image by image, and these moments, without gradients."""
    n = values.shape[2]
    shares = values.new_full((n,), 1 / n) if shares is None else shares.to(values.dtype)
    out, mean, var = _Normalised.apply(values, shares, weight, bias, over_batch, eps)
    return out, mean, var


class _Normalised(torch.autograd.Function):
    """(v − E[v])·s·γ + β with s = (Var[v] + ε)^−½, from values v [b, c, n, h, w] and shares p [n] that sum to 1.

    A row is an image, channel and element, q its share of the statistics, m and u the mean and variance within it:
    E = Σ q·m, Var = Σ q·(u + (m − E)²). torch's group norm standardises rows in one pass over memory; then each is
    scaled and shifted. Of the gradient g only sums by row meet the statistics, A = Σ g and B = Σ g·(v − E):

        ∂v = s·γ·g − q/(h·w)·(s·γ·ΣA + s³·γ·ΣB·(v − E)),    ∂q = −s·γ·ΣA·m − ½·s³·γ·ΣB·(u + (m − E)²).
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
        values = values.contiguous()
        rows, pixels = values[..., 0, 0].numel(), values[0, 0, 0].numel()
        flat = values.view(1, rows, *values.shape[3:])
        out, means, scales = torch.native_group_norm(flat, None, None, 1, rows, pixels, rows, eps)
        row = (*values.shape[:3], 1, 1)
        means, scales = means.view(row), scales.view(row)
        within = (scales.square().reciprocal() - eps).clamp(min=0)
        mean, var = _combined(means, within, share, over_batch)
        scale = _scale(var, eps, weight)
        shift = (means - mean) * scale
        if bias is not None:
            shift = shift + bias[:, None, None, None]
        out = out.view(values.shape).mul_(scale / scales).add_(shift)
        ctx.save_for_backward(values, share, weight, bias, means, within, mean, var)
        ctx.over_batch, ctx.eps = over_batch, eps
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        values, share, weight, bias, means, within, mean, var = ctx.saved_tensors
        dims, images = ((0, 2), len(values)) if ctx.over_batch else ((2,), 1)
        again = torch.is_grad_enabled() or of_many_gradients(grad)  # what torch's kernels are not asked for
        if again:
            within, means = torch.var_mean(values, (3, 4), correction=0, keepdim=True)
            mean, var = _combined(means, within, share, ctx.over_batch)
        sums, products = _row_sums(grad, values, means, again)
        products = products + (means - mean) * sums
        s = (var + ctx.eps).rsqrt()
        total, product = sums.sum(dims, keepdim=True), products.sum(dims, keepdim=True)
        d_weight = None if weight is None else (s * product).sum((0, 2, 3, 4))
        d_bias = None if bias is None else sums.sum((0, 2, 3, 4))
        scale = _scale(var, ctx.eps, weight)
        d_mean, d_var = -scale * total, -0.5 * s.square() * scale * product
        q = share[:, None, None] / images
        d_share = None
        if ctx.needs_input_grad[1]:
            d_share = (d_mean * means + d_var * (within + (means - mean).square())).sum((0, 1, 3, 4)) / images
        slope = 2 * q * d_var / values[0, 0, 0].numel()
        level = q * d_mean / values[0, 0, 0].numel() - slope * mean
        d_values = None
        if ctx.needs_input_grad[0]:
            d_values = grad * scale + (values * slope + level) if again else _line(grad, scale, values, slope, level)
        return d_values, d_share, d_weight, d_bias, None, None


def _combined(means: Tensor, within: Tensor, share: Tensor, over_batch: bool) -> tuple[Tensor, Tensor]:
    """Mean and variance of rows [b, c, n, 1, 1] together, by their shares [n]."""
    share, dims = (share / len(means), (0, 2)) if over_batch else (share, (2,))
    q = share[:, None, None]
    mean = (q * means).sum(dims, keepdim=True)
    return mean, (q * (within + (means - mean).square())).sum(dims, keepdim=True)


def _scale(var: Tensor, eps: float, weight: Tensor | None) -> Tensor:
    scale = (var + eps).rsqrt()
    return scale if weight is None else scale * weight[:, None, None, None]


def _row_sums(grad: Tensor, values: Tensor, means: Tensor, again: bool) -> tuple[Tensor, Tensor]:
    """Σ g and Σ g·(v − m) over the pixels of each row, [b, c, n, 1, 1]."""
    if again:
        return tuple(part.sum((3, 4), keepdim=True) for part in (grad, grad * (values - means)))  # type: ignore
    rows, pixels = means.numel(), values[0, 0, 0].numel()
    flat, ones = (1, rows, *values.shape[3:]), means.new_ones(rows)
    _, products, sums = torch.ops.aten.native_group_norm_backward(
        grad.contiguous().view(flat), values.view(flat), means.view(1, rows), ones.view(1, rows), ones,
        1, rows, pixels, rows, [False, True, True],
    )  # fmt: skip
    return sums.view_as(means), products.view_as(means)


def _line(grad: Tensor, scale: Tensor, values: Tensor, slope: Tensor, level: Tensor) -> Tensor:
    """grad·scale + values·slope + level, some images at a time."""
    out = torch.empty_like(values)
    wide, of_all = len(scale) > 1, len(slope) == 1
    for images in chunks(len(values), values[0].nbytes, CHUNK_BYTES["cpu"] // 4):
        torch.mul(grad[images], scale[images] if wide else scale, out=out[images])
        part = values[images] * (slope if of_all else slope[images])
        out[images].add_(part.add_(level if of_all else level[images]))
    return out
