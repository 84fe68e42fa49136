"""Histograms of pixel values, and the conversion of pixels to [0, 1]."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from partialsym.errors import InputError

Range = tuple[int, int]
NARROW, WIDE = (0, 255), (0, 65535)  # the ranges of 8 and of 16 bits
BATCH = 64  # images that are counted at a time
FEW = 0.1  # smallest share of a range that is normally used, and largest share of pixels that is normally outside it


class Images(Protocol):
    """Images that can be split into batches: tensors [N, C, H, W], and images in files."""

    @property
    def shape(self) -> torch.Size: ...
    def split(self, size: int, /) -> Iterable[Tensor]: ...


def as_float(images: Tensor, range: Range | None = None) -> Tensor:
    """Convert pixels to [0, 1].

    uint8 is divided by 255, as float32. uint16 values v become (v − low) / (high − low), clipped to [0, 1].
    Floating-point images are returned unchanged.

    Args:
        range: low and high for uint16.
    Raises:
        ValueError: the dtype is not supported, or is uint16 without a range.
    """
    if images.dtype == torch.uint8:
        return images.to(torch.float32).div_(255)
    if images.dtype == torch.uint16 and range is not None:
        return images.to(torch.float32).sub_(range[0]).div_(range[1] - range[0]).clamp_(0, 1)
    if not images.is_floating_point():
        missing = " with a range" if images.dtype == torch.uint16 else ""
        raise InputError(f"images are {images.dtype}: they must be uint8 or floating-point, or uint16{missing}")
    return images


def check_range(range: object) -> None:
    """Raise ValueError unless `range` is two ints with 0 <= low < high <= 65535."""
    pair = isinstance(range, tuple) and len(range) == 2 and all(type(value) is int for value in range)
    if not pair or not WIDE[0] <= range[0] < range[1] <= WIDE[1]:  # type: ignore[index]
        raise InputError(f"range is {range!r}: it must be two ints, low and high, 0 <= low < high <= 65535")


def counted(images: Images) -> Tensor:
    """Histogram of each channel of uint8 or uint16 images [N, C, H, W]: [C, 256] or [C, 65536]."""
    found: Tensor | None = None
    for batch in images.split(BATCH):
        levels = 1 + (NARROW if batch.dtype == torch.uint8 else WIDE)[1]
        counts = [torch.bincount(channel.flatten().int(), minlength=levels) for channel in batch.unbind(1)]
        found = torch.stack(counts) if found is None else found + torch.stack(counts)
    assert found is not None
    return found


def moments(counts: Tensor, values: Tensor | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and population standard deviation of every channel, from the histograms of `counted`.

    Args:
        counts: histograms, [C, bins].
        values: the value of each bin, float64 [bins]; by default those of 8 bits in [0, 1].
    """
    values = torch.arange(256, dtype=torch.float64) / 255 if values is None else values
    share = counts / counts.sum(1, dtype=torch.float64, keepdim=True)
    mean = share @ values
    std = (share * (values - mean[:, None]).square()).sum(1).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())


@dataclass
class Levels:
    """Histograms of 8-bit images, [3, 256], and of 16-bit grey, [1, 65536], and the number of images of each depth."""

    narrow: Tensor = field(default_factory=lambda: torch.zeros(3, 256, dtype=torch.int64))
    wide: Tensor = field(default_factory=lambda: torch.zeros(1, 65536, dtype=torch.int64))
    images: tuple[int, int] = (0, 0)

    def add(self, image: Tensor) -> None:
        """Add an image, uint8 or uint16 [C, H, W]."""
        deep = image.dtype == torch.uint16
        if deep:
            self.wide += counted(image[None, :1])
        else:
            self.narrow += counted(image[None])  # grey counts in all channels
        self.images = (self.images[0] + (not deep), self.images[1] + deep)

    def plus(self, other: "Levels", sign: int = 1) -> "Levels":
        """The sum with the histograms of other images, or the difference if `sign` is −1."""
        images = (self.images[0] + sign * other.images[0], self.images[1] + sign * other.images[1])
        return Levels(self.narrow + sign * other.narrow, self.wide + sign * other.wide, images)

    @property
    def range(self) -> Range | None:
        """The smallest and the largest value of 16-bit images, or None if there are none."""
        return _span(self.wide)

    def moments(self, channels: int, range: Range | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of every channel of the images in [0, 1], 16 bits by their range."""
        if range is None or not self.images[1]:
            return moments(self.narrow[:channels])
        wide = ((torch.arange(65536, dtype=torch.float64) - range[0]) / (range[1] - range[0])).clamp(0, 1)
        values = torch.cat([torch.arange(256, dtype=torch.float64) / 255, wide])
        return moments(torch.cat([self.narrow[:channels], self.wide.expand(channels, -1)], 1), values)

    def doubts(self, range: Range | None = None) -> Iterator[str]:
        """Warnings about suspicious values, for a range of 16 bits that was not computed from them."""
        for bits, counts, whole in ((8, self.narrow, NARROW), (16, self.wide, range or WIDE)):
            if (used := _span(counts)) and used[1] - used[0] < FEW * (whole[1] - whole[0]):
                yield f"{bits}-bit images use {used[0]}…{used[1]} of {whole[0]}…{whole[1]}, less than a tenth"
        if range is not None and self.images[1]:
            total = int(self.wide.sum())
            beyond = (total - int(self.wide[:, range[0] : range[1] + 1].sum())) / total
            if beyond > FEW:
                yield f"{100 * beyond:.0f} % of the pixels of 16-bit images are beyond {range[0]}…{range[1]}"


def _span(counts: Tensor) -> Range | None:
    there = counts.sum(0).nonzero()
    return (int(there[0]), int(there[-1])) if len(there) else None
