"""Positions of the windows of plain convolutions and pools: torch's own, and symmetric ones."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from partialsym.errors import InputError


class Margins(NamedTuple):
    """Pixels to pad before and after a side, or to crop if negative. `between` is 1 if windows are between pixels."""

    before: int
    after: int
    between: int


class Windows(NamedTuple):
    """The windows of a strided layer of torch, whose first one starts at the first pixel of the padding.

    extent: pixels from the first to the last of a window, both included.
    stride: distance in pixels between windows.
    before, after: padded pixels.
    ceil: include a last window that is not full.
    symmetric: move the same number of windows, by at most half a stride, to positions that are symmetric about the
        centre. The layer then commutes with all symmetries of the pixel grid, at any size.
    """

    extent: int
    stride: int = 1
    before: int = 0
    after: int = 0
    ceil: bool = False
    symmetric: bool = True

    def count(self, side: int) -> int:
        """The number of windows on a side. Raise ValueError if there are none."""
        beyond = side + self.before + self.after - self.extent
        if beyond < 0:
            raise InputError(f"a side of {side} pixels is too small for a window of {self.extent}.")
        if not self.ceil:
            return beyond // self.stride + 1
        count = -(-beyond // self.stride) + 1
        return count - 1 if (count - 1) * self.stride >= side + self.before else count

    def shift(self, side: int) -> float:
        """The shift in pixels from torch's windows to the symmetric ones; 0 if they are the same."""
        return self._spare(side) / 2 + self.before

    def margins(self, side: int) -> Margins:
        """The margins with which the windows cover a side exactly, plus one pixel if they are between pixels."""
        spare = self._spare(side)
        if not self.symmetric or spare == -2 * self.before:
            return Margins(self.before, -spare - self.before, 0)
        between = spare % 2
        half = (between - spare) // 2
        return Margins(half, half, between)

    def _spare(self, side: int) -> int:
        """The side minus the extent of all windows together, in pixels; negative if they extend beyond the side."""
        return side - self.extent - (self.count(side) - 1) * self.stride


def read(x: Tensor, windows: Windows) -> tuple[Tensor, int]:
    """Maps [batch, channels, h, w] → the maps for a convolution, and the zeros still to pad on each side.

    If windows are between pixels, the values are means of neighbours.
    """
    (top, bottom, rows), (left, right, columns) = _margins(x, windows)
    if top == bottom == left == right >= 0 and not rows and not columns:
        return x, top
    x = F.pad(x, [left, right, top, bottom])
    return F.avg_pool2d(x, [1 + rows, 1 + columns], 1) if rows or columns else x, 0


def pooled(x: Tensor, windows: Windows, mode: str, count_padding: bool = True) -> Tensor:
    """Pool maps [batch, channels, h, w]. If windows are between pixels, each is one pixel wider.

    Args:
        x: the maps.
        windows: positions of the windows.
        mode: `max` or `mean`.
        count_padding: means include the pixels `before` and `after` of torch's own padding.
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
