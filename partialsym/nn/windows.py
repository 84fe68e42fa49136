"""Windows of plain convolutions and pools: where torch has them, or shifted so that they lie symmetrically."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from partialsym.errors import InputError


class Margins(NamedTuple):
    """Pixels to pad before and after a side, or to crop if negative; `between` is 1 if places lie between pixels."""

    before: int
    after: int
    between: int


class Windows(NamedTuple):
    """Windows at a stride, as in torch's layers: the first window starts `before` pixels before the first pixel.

    extent: pixels from the first to the last of a window, inclusive.
    stride: pixels from window to window.
    before, after: pixels of padding.
    ceil: count a last window that is not full, as torch's `ceil_mode` does.
    symmetric: shift the windows by at most half a stride so that they lie symmetrically about the centre; their number
        is the same. This preserves all symmetries of the pixel grid, at any size.
    """

    extent: int
    stride: int = 1
    before: int = 0
    after: int = 0
    ceil: bool = False
    symmetric: bool = True

    def count(self, side: int) -> int:
        """Number of windows on a side.

        Raises:
            ValueError: the side is too small for a window.
        """
        beyond = side + self.before + self.after - self.extent
        if beyond < 0:
            raise InputError(f"a side of {side} pixels is too small for a window of {self.extent}.")
        if not self.ceil:
            return beyond // self.stride + 1
        count = -(-beyond // self.stride) + 1
        return count - 1 if (count - 1) * self.stride >= side + self.before else count

    def shift(self, side: int) -> float:
        """Pixels from torch's windows to the symmetric ones; 0 if they coincide."""
        return self._spare(side) / 2 + self.before

    def margins(self, side: int) -> Margins:
        """The padding of a side that makes it exactly the pixels that the windows read."""
        spare = self._spare(side)
        if not self.symmetric or spare == -2 * self.before:
            return Margins(self.before, -spare - self.before, 0)
        between = spare % 2
        half = (between - spare) // 2
        return Margins(half, half, between)

    def _spare(self, side: int) -> int:
        """Pixels of a side that no window reaches; negative if the windows reach beyond the side."""
        return side - self.extent - (self.count(side) - 1) * self.stride


def read(x: Tensor, windows: Windows) -> tuple[Tensor, int]:
    """Pad and interpolate maps [batch, channels, h, w] so that a convolution reads them in `windows`.

    Where places lie between pixels, the values become means of neighbours.

    Returns:
        The maps, and how many zeros the convolution must still pad on each side.
    """
    (top, bottom, rows), (left, right, columns) = _margins(x, windows)
    if top == bottom == left == right >= 0 and not rows and not columns:
        return x, top
    x = F.pad(x, [left, right, top, bottom])
    return F.avg_pool2d(x, [1 + rows, 1 + columns], 1) if rows or columns else x, 0


def pooled(x: Tensor, windows: Windows, mode: str, count_padding: bool = True) -> Tensor:
    """Pool maps [batch, channels, h, w] by `max` or `mean`; windows between pixels are one pixel wider.

    count_padding: a mean counts the padding of `windows`, but not the pixels that a shift adds.
    """
    (top, bottom, rows), (left, right, columns) = _margins(x, windows)
    pads, sides = [left, right, top, bottom], [windows.extent + rows, windows.extent + columns]
    if mode == "max":
        return F.max_pool2d(F.pad(x, pads, value=-torch.inf), sides, windows.stride)
    own = [windows.before, windows.after] * 2 if count_padding else [0] * 4
    inside = F.pad(x.new_ones(1, 1, *x.shape[-2:]), own, value=1.0)
    beyond = [pad - counted for pad, counted in zip(pads, own, strict=True)]
    sums = F.avg_pool2d(F.pad(x, pads), sides, windows.stride)
    return sums / F.avg_pool2d(F.pad(inside, beyond), sides, windows.stride)


def _margins(x: Tensor, windows: Windows) -> tuple[Margins, Margins]:
    height, width = map(int, x.shape[-2:]) if torch.jit.is_tracing() else x.shape[-2:]
    return windows.margins(height), windows.margins(width)
