"""Normalisations whose statistics weigh the elements."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
    mean: Tensor, var: Tensor, total: Tensor, summed: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance (round that mean: nothing cancels) and total weight over all processes with a batch each."""
    first = summed(torch.cat([total[None], total * mean.flatten()]))
    common = (first[1:] / first[0]).view_as(mean)
    spread = summed(total * (var + (mean - common).square()))
    return common, spread / first[0], first[0]


class BatchNorm(nn.Module):
    """(f − E[f]) / √(Var[f] + ε)·γ + β per channel, E over batch, space and the weighted elements.

    Running statistics gathered under drawn elements are wrong for the deterministic ones of eval mode: call
    `recalibrate` before evaluating. In training by several processes the batch is that of all.

    Args:
        channels: channels of the signal.
        eps: ε.
        momentum: of the running statistics; None for the cumulative mean.
        affine: learn γ and β.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches: Tensor
    summed: Callable[[Tensor], Tensor] | None = None  # over the processes that train together, with its gradient

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True) -> None:
        super().__init__()
        _check(channels, eps)
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(f"momentum is {momentum}: must be in [0, 1], or None.")
        self.channels, self.eps, self.momentum = channels, eps, momentum
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.long))

    def reset_running_stats(self) -> None:
        self.running_mean.zero_()
        self.running_var.fill_(1)
        self.num_batches.zero_()

    def forward(self, f: Signal) -> Signal:
        """f [batch, channels, n, h, w] → the same shape on the same elements."""
        check_signal(f, self.channels)
        factor = self._factor() if self.training else 0.0
        weights = f.elements.weights
        if not self.training or (weights is None and self.summed is None):
            return f.map(
                lambda v: F.batch_norm(
                    v, self.running_mean, self.running_var, self.weight, self.bias, self.training, factor, self.eps
                )
            )
        if weights is None:
            weights = f.values.new_ones(len(f.elements), dtype=self.running_mean.dtype)
        total = weights.sum()
        mean, var = _moments(f.values, weights, (0, 3, 4))
        if self.summed is not None:
            mean, var, total = _pooled(mean, var, total, self.summed)
        self._track(mean.flatten(), var.flatten(), f.values[:, 0, 0].numel() * total.detach(), factor)
        return f.map(lambda v: _normalise(v, mean, var, self.eps, self.weight, self.bias))

    def _factor(self) -> float:
        self.num_batches.add_(1)
        return 1.0 / float(self.num_batches) if self.momentum is None else self.momentum

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, count: Tensor, factor: float) -> None:
        unbiased = var * (count / (count - 1).clamp(min=1))
        self.running_mean.lerp_(mean.to(self.running_mean), factor)
        self.running_var.lerp_(unbiased.to(self.running_var), factor)

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
        if f.elements.weights is None:
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
        raise ValueError(f"channels is {channels}: must be at least 1.")
    if not eps > 0:
        raise ValueError(f"eps is {eps}: must be positive.")


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
