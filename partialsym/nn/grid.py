"""Positions of a strided layer's outputs: ⌈side / stride⌉ per side, symmetric about the centre of the image."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
MODES = ("zeros", "reflect", "replicate", "circular")


def first_place(side: int, stride: int) -> tuple[int, int]:
    """The first of ⌈side / stride⌉ positions that are symmetric on a side, `stride` pixels apart.

    It is returned as (first, between). If between is 0, the position is pixel `first`; if it is 1, the position is in
    the middle between that pixel and the next.

    >>> first_place(7, 2), first_place(8, 2), first_place(9, 3)
    ((0, 0), (0, 1), (1, 0))
    """
    left = (side - 1) % stride  # pixels outside the outermost positions, at both ends together
    return left // 2, left % 2


def sampled(x: Tensor, reach: int, stride: int, same: bool, mode: str = "zeros") -> tuple[Tensor, int]:
    """Pad, crop and interpolate the input of a strided convolution, so that its outputs start at `first_place`.

    If positions are between pixels, the values there are the means of two or four neighbours.

    Args:
        x: [batch, channels, height, width].
        reach: pixels by which the kernel extends beyond its centre.
        stride: distance in pixels between outputs.
        same: compute outputs for all positions of the image; otherwise only for those where the kernel is inside.
        mode: padding mode, one of MODES.
    Returns:
        The maps to convolve, and the number of zeros still to pad on each side.
    """
    sides = map(int, x.shape[-2:]) if torch.jit.is_tracing() else x.shape[-2:]  # in a trace a side is a tensor
    first, between = zip(*(first_place(side if same else side - 2 * reach, stride) for side in sides), strict=True)
    margins = [same * reach - pixels for pixels in first]
    if mode != "zeros":
        return _between(_padded(x, margins, mode), between, (0, 0)), 0
    pads = [min(max(margin, 0), half) for margin, half in zip(margins, between, strict=True)]
    x = _between(x, between, pads)
    rows, columns = (margin - pad for margin, pad in zip(margins, pads, strict=True))
    return (x, rows) if rows == columns >= 0 else (F.pad(x, [columns, columns, rows, rows]), 0)


def _between(x: Tensor, between: Sequence[int], pads: Sequence[int]) -> Tensor:
    """The means of neighbours along the axes whose positions are between pixels, after padding by `pads` zeros."""
    return F.avg_pool2d(x, [1 + half for half in between], 1, tuple(pads)) if any(between) else x


def _padded(x: Tensor, margins: Sequence[int], mode: str) -> Tensor:
    """Pad rows and columns at each border by `margins`, or crop them where the number is negative."""
    rows, columns = margins
    cropped = F.pad(x, [min(columns, 0)] * 2 + [min(rows, 0)] * 2)
    return F.pad(cropped, [max(columns, 0)] * 2 + [max(rows, 0)] * 2, mode)
