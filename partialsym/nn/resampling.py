"""Resampling layers that preserve every symmetry of the pixel grid, at every height and width."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialsym.errors import InputError, InputTypeError
from partialsym.nn.grid import sampled
from partialsym.nn.pool import Mode, check_mode
from partialsym.signal import Signal, check_signal, constant


class BlurPool(nn.Module):
    """Antialiased subsampling (Zhang 2019): a binomial filter, then every `stride`-th pixel.

    A side of h pixels becomes ⌈h / stride⌉. The outputs lie where a strided GroupConv has them. Where that is between
    pixels, the filter has one more tap: [1, 2, 1] / 4 becomes [1, 3, 3, 1] / 8. Pixels beyond the border are ignored,
    so constant maps remain constant.

    Args:
        stride: pixels from output to output.
        size: taps of the filter per axis, odd.
    Raises:
        ValueError: an argument is out of range.
    """

    taps: Tensor

    def __init__(self, stride: int = 2, *, size: int = 3) -> None:
        super().__init__()
        if stride < 1:
            raise InputError(f"stride is {stride}: must be at least 1.")
        if size < 1 or size % 2 == 0:
            raise InputError(f"size is {size}: must be odd and positive, so that the filter has a centre.")
        self.stride, self.size = stride, size
        line = torch.tensor([math.comb(size - 1, i) for i in range(size)], dtype=torch.float64, device="cpu")
        self.register_buffer("taps", constant(torch.outer(line, line) / line.sum() ** 2)[None, None], persistent=False)

    def forward(self, f: Signal) -> Signal:
        """f [batch, channels, n, h, w] → [batch, channels, n, ⌈h / stride⌉, ⌈w / stride⌉]."""
        check_signal(f)
        maps = f.values.flatten(0, 2).unsqueeze(1)
        blurred = self._blurred(maps) / self._blurred(torch.ones_like(maps[:1]))
        return Signal(blurred.view(*f.values.shape[:3], *blurred.shape[2:]), f.elements)

    def _blurred(self, maps: Tensor) -> Tensor:
        """Filtered and subsampled maps [images, 1, h, w], with zeros beyond the border."""
        read, padding = sampled(maps, self.size // 2, self.stride, True)
        return F.conv2d(read, self.taps.to(read.dtype), stride=self.stride, padding=padding)

    def extra_repr(self) -> str:
        return f"{self.stride}, size={self.size}"


class Upsample(nn.Module):
    """Upsampling of maps by a factor, aligned with this package's pools and strides.

    Pixels of the input lie where a SpatialPool, BlurPool or GroupConv of stride `scale` has its outputs: `scale` pixels
    of the output apart, and symmetric about the centre. `bilinear` interpolates between the two or four nearest pixels.
    `nearest` copies the nearest one; a place exactly in the middle gets the mean.

    Args:
        scale: factor, at least 1.
        mode: `bilinear` or `nearest`.
    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, scale: int = 2, mode: Literal["bilinear", "nearest"] = "bilinear") -> None:
        super().__init__()
        if scale < 1:
            raise InputError(f"scale is {scale}: must be at least 1.")
        if mode not in ("bilinear", "nearest"):
            raise InputError(f"mode is {mode!r}: must be 'bilinear' or 'nearest'.")
        self.scale, self.mode = scale, mode

    def forward(self, f: Signal, size: tuple[int, int] | None = None) -> Signal:
        """Upsample f.

        Args:
            f: signal [batch, channels, n, h, w].
            size: (height, width) of the output, such as those of a skip connection, with ⌈height / scale⌉ = h and
                ⌈width / scale⌉ = w. By default h·scale and w·scale.
        Returns:
            A signal [batch, channels, n, height, width] on the same elements.
        Raises:
            TypeError: `size` is one number.
            ValueError: `size` does not satisfy this.
        """
        check_signal(f)
        if isinstance(size, int):
            raise InputTypeError(f"size is {size}: must be (height, width), such as `f.values.shape[-2:]`.")
        values = f.values
        for axis in (-2, -1):
            values = self._finer(values, axis, None if size is None else size[axis])
        return Signal(values, f.elements)

    def _finer(self, x: Tensor, axis: int, side: int | None) -> Tensor:
        count = int(x.shape[axis]) if torch.jit.is_tracing() else x.shape[axis]
        side = count * self.scale if side is None else side
        if -(-side // self.scale) != count:
            least, most = self.scale * (count - 1) + 1, self.scale * count
            raise InputError(
                f"size has a side of {side} pixels for an input side of {count}: must be from {least} to {most}, "
                f"the sides that a stride of {self.scale} reduces to {count}."
            )
        # Integers in units of 1 / (2·scale) pixels of x are exact.
        place = 2 * torch.arange(side, device=x.device) + (self.scale * (count - 1) + 1 - side)
        parts = 2 * self.scale
        below, rest = place.div(parts, rounding_mode="floor"), place.remainder(parts)
        share = rest / parts if self.mode == "bilinear" else ((rest - self.scale).sign() + 1) / 2
        share = share.to(x.dtype).view(-1, *[1] * (-1 - axis))
        first, second = (x.index_select(axis, (below + i).clamp(0, count - 1)) for i in (0, 1))
        return first * (1 - share) + second * share

    def extra_repr(self) -> str:
        return f"{self.scale}, mode={self.mode!r}"


class AdaptivePool(nn.Module):
    """Pooling to `size` × `size` pixels, over torch's adaptive windows, which are symmetric about the centre.

    Args:
        size: height and width of the output; they are equal because a quarter turn swaps them.
        mode: `mean` or `max`.
    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, size: int, mode: Mode = "mean") -> None:
        super().__init__()
        if size < 1:
            raise InputError(f"size is {size}: must be at least 1.")
        check_mode(mode)
        self.size, self.mode = size, mode

    def forward(self, f: Signal) -> Signal:
        """f [batch, channels, n, h, w] → [batch, channels, n, size, size]."""
        check_signal(f)
        pool = F.adaptive_max_pool2d if self.mode == "max" else F.adaptive_avg_pool2d
        return Signal(pool(f.values.flatten(1, 2), self.size).unflatten(1, f.values.shape[1:3]), f.elements)

    def extra_repr(self) -> str:
        return f"{self.size}, mode={self.mode!r}"
