"""Weighted statistics of signals, and the gradients through them."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from partialsym._utils.layout import flat
from partialsym._utils.torch_func import eager_on_cpu
from partialsym.nn.pool import symmetric_windows
from partialsym.ops.orders import CHUNK_BYTES, chunks
from partialsym.signal import autocasting

SPARSE = 4  # side of windows whose maxima are few beside the pixels


def moments(values: Tensor, shares: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Weighted mean and (biased) variance over elements and `dims` of values [b, c, n, h, w], with keepdim.

    Each element's own moments are computed first, so that values of an element with weight 0 never mix with others.
    """
    values = values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
    var_j, mean_j = torch.var_mean(values, dims, correction=0, keepdim=True)  # [·, c, n, 1, 1]
    mean = weighted_mean(mean_j, shares)
    return mean, weighted_mean(var_j + (mean_j - mean).square(), shares)


def weighted_mean(values: Tensor, shares: Tensor) -> Tensor:
    """Σ_n shares[n]·values[b, c, n, 1, 1], with keepdim, as one product."""
    with torch.autocast(autocasting(values), enabled=False):  # which would round to 16 bits
        return torch.matmul(values.flatten(2), shares.to(values.dtype)).view(*values.shape[:2], 1, 1, 1)


def pooled(
    mean: Tensor, var: Tensor, count: Tensor, all_reduce: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance and count over all processes, some of which may have no values.

    The variance is summed around the common mean, which avoids cancellation.
    """
    first = all_reduce(torch.cat([count[None], count * mean.flatten()]))
    total = first[0].clamp(min=torch.finfo(first.dtype).tiny)
    common = (first[1:] / total).view_as(mean)
    spread = all_reduce(count * (var + (mean - common).square()))
    return common, spread / total, first[0]


def combined(means: Tensor, within: Tensor, share: Tensor, over_batch: bool) -> tuple[Tensor, Tensor]:
    """Common mean and variance of rows [b, c, n, 1, 1], weighted by their shares [n]."""
    share, dims = (share / len(means), (0, 2)) if over_batch else (share, (2,))
    q = share.view(-1, 1, 1)
    mean = (q * means).sum(dims, keepdim=True)
    return mean, (q * (within + (means - mean).square())).sum(dims, keepdim=True)


def scale_of(var: Tensor, eps: float, weight: Tensor | None) -> Tensor:
    scale = (var + eps).rsqrt()
    return scale if weight is None else scale * weight.view(-1, 1, 1, 1)


def gradients(
    ctx: Any,
    sums: tuple[Tensor, Tensor],
    dims: tuple[int, ...],
    images: int,
    share: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    moments: tuple[Tensor, Tensor, Tensor, Tensor],
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor, Tensor, Tensor]:
    """Gradients of a weighted norm, as in `_Normalised`, from Σ g and Σ g·(v − m) of each row.

    Returns:
        Those of shares, γ and β; then the scale s·γ, and the gradients of E and Var.
    """
    means, within, mean, var = moments
    products = sums[1] + (means - mean) * sums[0]
    s = (var + ctx.eps).rsqrt()
    total, product = sums[0].sum(dims, keepdim=True), products.sum(dims, keepdim=True)
    d_weight = None if weight is None else (s * product).sum((0, 2, 3, 4))
    d_bias = None if bias is None else sums[0].sum((0, 2, 3, 4))
    scale = scale_of(var, ctx.eps, weight)
    d_mean, d_var = -scale * total, -0.5 * s.square() * scale * product
    d_share = None
    if ctx.needs_input_grad[1]:
        d_share = (d_mean * means + d_var * (within + (means - mean).square())).sum((0, 1, 3, 4)) / images
    return d_share, d_weight, d_bias, scale, d_mean, d_var


def of_channels(values: Tensor, size: int = 0) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """`of_chunks` for values [b, c, n, h, w], reading the map once; the moments are [1, c, n, 1, 1]."""
    maps, shape = flat(values), (1, *values.shape[1:3], 1, 1)
    mean, var, top, places = of_chunks((maps[images] for images in slices_of(maps)), size)
    return mean.view(shape), var.view(shape), top, places


def of_chunks(parts: Iterable[Tensor], size: int = 0) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Statistics of each channel of maps in `torch.channels_last`, and perhaps maxima, from chunks of images.

    A chunk is summed around its own mean. torch's batch norm adds up all pixels one after the other in this layout,
    which loses digits.

    Returns:
        Mean and variance, [c], and the `maxima` over windows of `size`, [b, c, h', w'], and their places; None if it is
        0, and no places if it is below `SPARSE`.
    """
    counts, means, within, tops, places = list[int](), [], [], list[Tensor](), list[Tensor]()
    spare: Tensor | None = None  # of the first chunk, which is the largest; new pages would take as long as the sums
    for part in parts:
        counts.append(len(part))
        means.append(part.mean((0, 2, 3)))
        if size:
            top, index = maxima(part, size)
            tops.append(top)
            places += [index] if size >= SPARSE else []
        spare = torch.empty_like(part) if spare is None else spare
        around = torch.sub(part, means[-1][:, None, None], out=spare[: len(part)])
        within.append(around.mul_(around).mean((0, 2, 3)))
    mean, var = means[0], within[0]
    if len(counts) > 1:
        shares = mean.new_tensor([[count] for count in counts]) / sum(counts)
        stacked = torch.stack(means)
        mean = (shares * stacked).sum(0)
        var = (shares * (torch.stack(within) + (stacked - mean).square())).sum(0)
    return mean, var, torch.cat(tops) if tops else None, torch.cat(places) if places else None


def maxima(maps: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Maxima of a `SpatialPool` over maps [b, c, h, w], and their places, [b, c, h', w']."""
    windows, margins = zip(*(symmetric_windows(side, size) for side in maps.shape[2:]), strict=True)
    return F.max_pool2d_with_indices(maps, windows, [size, size], margins)


def filled(shares: Tensor | None, values: Tensor) -> Tensor:
    """Shares [n] of the elements in the dtype of values [b, c, n, h, w]; 1/n each where there are none."""
    n = values.shape[2]
    return values.new_full((n,), 1 / n) if shares is None else shares.to(values.dtype)


def per_map(part: Tensor, values: Tensor) -> Tensor:
    """A number for each channel of values [b, c, n, h, w], and perhaps each element, as [1, c·n, 1, 1]."""
    return part.to(values.dtype).expand(1, *values.shape[1:3], 1, 1).flatten(1, 2)


def slices_of(maps: Tensor) -> list[slice]:
    """Slices of images that stay in the cache."""
    return chunks(len(maps), maps[0].nbytes, CHUNK_BYTES["cpu"] // 8)


def count_of(values: Tensor, weights: Tensor | None) -> Tensor:
    """Number of values per channel; those of an element count by its weight."""
    each = len(values) * math.prod(values.shape[3:])
    if weights is None:
        return torch.tensor(float(each * values.shape[2]))
    return each * weights.sum(dtype=torch.promote_types(weights.dtype, torch.float32))


def is_quick(values: Tensor) -> bool:
    """Whether our own functions for norms support `values`."""
    return values.dtype in (torch.float32, torch.float64) and values.numel() > 0 and eager_on_cpu(values)
