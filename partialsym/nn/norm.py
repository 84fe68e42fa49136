"""Normalisations whose statistics weigh the elements."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialsym._utils.torch_func import batched
from partialsym._utils.torch_private import BatchNormBase
from partialsym.errors import InputError, UnsupportedError
from partialsym.signal import Signal, check_signal


def _moments(values: Tensor, weights: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Weighted mean and (biased) variance over elements and `dims` of values [b, c, n, h, w], those axes kept at 1.

    Each element's own moments come first, so that what an element of weight 0 holds never meets the others.
    """
    values = values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
    var_j, mean_j = torch.var_mean(values, dims, correction=0, keepdim=True)  # [·, c, n, 1, 1]
    p = (weights / weights.sum())[:, None, None]
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
        if not of_batch or (weights is None and self.all_reduce is None):
            factor = self._factor() if tracked else 0.0
            mean, var = (None, None) if of_batch and not tracked else (self.running_mean, self.running_var)
            return f.map(lambda v: F.batch_norm(v, mean, var, self.weight, self.bias, of_batch, factor, self.eps))
        if weights is None:
            weights = values.new_ones(len(f.elements), dtype=torch.promote_types(values.dtype, torch.float32))
        if values.numel():
            mean, var = _moments(values, weights, (0, 3, 4))
        else:  # zeros: the gradients of the other processes pass here, too
            mean = var = values.sum((0, 2, 3, 4), keepdim=True)
        count = values[:, 0, 0].numel() * weights.sum(dtype=torch.promote_types(weights.dtype, torch.float32))
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
        if f.elements.weights is None or not f.values.numel():
            return f.map(self._unweighted)
        mean, var = _moments(f.values, f.elements.weights, (3, 4))
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
