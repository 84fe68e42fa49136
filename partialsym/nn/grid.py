"""Sampling grids of strided layers: ⌈side / stride⌉ places on a side, symmetric about the centre of the image."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
MODES = ("zeros", "reflect", "replicate", "circular")


def first_place(side: int, stride: int) -> tuple[int, int]:
    """Position of the first of the ⌈side / stride⌉ places, which are `stride` pixels apart and symmetric on the side.

    Returns:
        (first, between): the position is pixel `first` if `between` is 0. If `between` is 1, it is the midpoint of that
        pixel and the next.

    >>> first_place(7, 2), first_place(8, 2), first_place(9, 3)
    ((0, 0), (0, 1), (1, 0))
    """
    left = (side - 1) % stride  # pixels beyond the outermost places, both ends together
    return left // 2, left % 2


def sampled(x: Tensor, reach: int, stride: int, same: bool, mode: str = "zeros") -> tuple[Tensor, int]:
    """Pad and interpolate x so that the outputs of a strided convolution lie at the places of `first_place`.

    Where places lie between pixels, the values become means of two or four neighbours.

    Args:
        x: [batch, channels, height, width].
        reach: pixels that the kernel reaches beyond its centre.
        stride: pixels from output to output.
        same: compute an output for every place of the image, instead of those where the kernel lies inside.
        mode: padding mode, one of MODES.
    Returns:
        The map to convolve, and how many zeros the convolution must still pad on each side.
    """
    sides = map(int, x.shape[-2:]) if torch.jit.is_tracing() else x.shape[-2:]  # traced sides are tensors
    first, between = zip(*(first_place(side if same else side - 2 * reach, stride) for side in sides), strict=True)
    margins = [same * reach - pixels for pixels in first]
    if mode != "zeros":
        return _between(_padded(x, margins, mode), between, (0, 0)), 0
    pads = [min(max(margin, 0), half) for margin, half in zip(margins, between, strict=True)]
    x = _between(x, between, pads)
    rows, columns = (margin - pad for margin, pad in zip(margins, pads, strict=True))
    return (x, rows) if rows == columns >= 0 else (F.pad(x, [columns, columns, rows, rows]), 0)


def _between(x: Tensor, between: Sequence[int], pads: Sequence[int]) -> Tensor:
    """Means of neighbours along the axes where places lie between pixels, after padding `pads` zeros on each side."""
    return F.avg_pool2d(x, [1 + half for half in between], 1, tuple(pads)) if any(between) else x


def _padded(x: Tensor, margins: Sequence[int], mode: str) -> Tensor:
    """x with `margins` more rows and columns on each side; a negative margin crops."""
    rows, columns = margins
    cropped = F.pad(x, [min(columns, 0)] * 2 + [min(rows, 0)] * 2)
    return F.pad(cropped, [max(columns, 0)] * 2 + [max(rows, 0)] * 2, mode)
