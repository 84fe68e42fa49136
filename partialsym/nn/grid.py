"""Where layers look: at ⌈side / stride⌉ places a side, symmetric about the centre of the image."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
MODES = ("zeros", "reflect", "replicate", "circular")


def first_place(side: int, stride: int) -> tuple[int, int]:
    """(first, between) of the ⌈side / stride⌉ places that lie symmetrically on a side, `stride` pixels from one to the
    next: pixel `first`, or, where `between` is 1, the middle between it and the next pixel.

    >>> first_place(7, 2), first_place(8, 2), first_place(9, 3)
    ((0, 0), (0, 1), (1, 0))
    """
    left = (side - 1) % stride  # pixels beyond the outermost places, of both ends together
    return left // 2, left % 2


def sampled(x: Tensor, reach: int, stride: int, same: bool, mode: str = "zeros") -> tuple[Tensor, int]:
    """What a convolution at that stride reads, so that its outputs lie at `first_place` and on.

    Where places lie between pixels, values are those between pixels, too: the mean of two or four neighbours.

    Args:
        x: [batch, channels, height, width].
        reach: pixels that the kernel reaches beyond its centre.
        same: there is an output for every place of the image; otherwise for those where the kernel lies inside.
        mode: of the padding, one of MODES.
    Returns:
        The map to convolve, and how many zeros are still to be padded on each side.
    """
    sides = map(int, x.shape[-2:]) if torch.jit.is_tracing() else x.shape[-2:]  # where a side is a tensor
    first, between = zip(*(first_place(side if same else side - 2 * reach, stride) for side in sides), strict=True)
    margins = [same * reach - pixels for pixels in first]
    if mode != "zeros":
        return _between(_padded(x, margins, mode), between, (0, 0)), 0
    pads = [min(max(margin, 0), half) for margin, half in zip(margins, between, strict=True)]
    x = _between(x, between, pads)
    rows, columns = (margin - pad for margin, pad in zip(margins, pads, strict=True))
    return (x, rows) if rows == columns >= 0 else (F.pad(x, [columns, columns, rows, rows]), 0)


def _between(x: Tensor, between: Sequence[int], pads: Sequence[int]) -> Tensor:
    """The means of neighbours along the axes where places lie between pixels, with so many zeros over each border."""
    return F.avg_pool2d(x, [1 + half for half in between], 1, tuple(pads)) if any(between) else x


def _padded(x: Tensor, margins: Sequence[int], mode: str) -> Tensor:
    """With so many more rows and columns at each border, or fewer where the number is negative."""
    rows, columns = margins
    cropped = F.pad(x, [min(columns, 0)] * 2 + [min(rows, 0)] * 2)
    return F.pad(cropped, [max(columns, 0)] * 2 + [max(rows, 0)] * 2, mode)
