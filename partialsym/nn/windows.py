"""Windows of plain convolutions and pools: where torch puts them, and moved so that they lie symmetrically."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from partialsym.errors import InputError


class Margins(NamedTuple):
    """Pixels to add before and after a side, or to take off where negative; and 1 where places lie between pixels."""

    before: int
    after: int
    between: int


class Windows(NamedTuple):
    """Windows at a stride, as torch's layers have them: the first at the first pixel less the padding.

    extent: pixels from the first to the last of a window, both included.
    stride: pixels from window to window.
    before, after: pixels that are padded.
    ceil: a last window that is not full counts, too.
    symmetric: as many windows, moved by at most half a stride so that they lie symmetrically about the centre. All
        symmetries of the pixel grid are kept then, at any size.
    """

    extent: int
    stride: int = 1
    before: int = 0
    after: int = 0
    ceil: bool = False
    symmetric: bool = True

    def count(self, side: int) -> int:
        """How many there are on a side; raises ValueError where there are none."""
        beyond = side + self.before + self.after - self.extent
        if beyond < 0:
            raise InputError(f"a side of {side} pixels is too small for a window of {self.extent}.")
        if not self.ceil:
            return beyond // self.stride + 1
        count = -(-beyond // self.stride) + 1
        return count - 1 if (count - 1) * self.stride >= side + self.before else count

    def shift(self, side: int) -> float:
        """By how many pixels torch's windows lie off the symmetric places; 0 where those are the same."""
        return self._spare(side) / 2 + self.before

    def margins(self, side: int) -> Margins:
        """What windows read of a side, and one pixel more where places lie between pixels."""
        spare = self._spare(side)
        if not self.symmetric or spare == -2 * self.before:
            return Margins(self.before, -spare - self.before, 0)
        between = spare % 2
        half = (between - spare) // 2
        return Margins(half, half, between)

    def _spare(self, side: int) -> int:
        """Pixels of a side that all windows together do not reach; negative where they reach beyond it."""
        return side - self.extent - (self.count(side) - 1) * self.stride


def read(x: Tensor, windows: Windows) -> tuple[Tensor, int]:
    """The maps [batch, channels, h, w] as a convolution reads them, and zeros that are still to be padded on each side;
    where places lie between pixels, the mean of neighbours."""
    (top, bottom, rows), (left, right, columns) = _margins(x, windows)
    if top == bottom == left == right >= 0 and not rows and not columns:
        return x, top
    x = F.pad(x, [left, right, top, bottom])
    return F.avg_pool2d(x, [1 + rows, 1 + columns], 1) if rows or columns else x, 0


def pooled(x: Tensor, windows: Windows, mode: str, count_padding: bool = True) -> Tensor:
    """Maps [batch, channels, h, w] pooled by `max` or `mean`; between pixels by windows of one pixel more.

    count_padding: a mean counts the padding, as far as the pool itself has it.
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
