"""Split and Dataset: images with their labels, checked when they are made."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled images: `images` float32 [N, C, H, W] in [0, 1]; `labels`, `originals` int64 [N], >= 0.

    `originals` numbers the source picture of an image, over the whole data set: an image and its
    transformed copy share it. Raises ValueError on anything else, and on an empty split.
    """

    images: Tensor
    labels: Tensor
    originals: Tensor

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != torch.float32:
            found = f"{self.images.dtype} {list(self.images.shape)}"
            raise ValueError(f"images are {found}: they must be float32 [N, C, H, W]")
        if self.images.numel() == 0:
            raise ValueError(f"images of shape {list(self.images.shape)} are empty: every size must be >= 1")
        for field, values in (("labels", self.labels), ("originals", self.originals)):
            if values.dtype != torch.int64 or values.shape != self.images.shape[:1]:
                found = f"{values.dtype} {list(values.shape)}"
                raise ValueError(f"{field} are {found}: they must be int64 [{len(self.images)}], one an image")
            if (lowest := int(values.min())) < 0:
                raise ValueError(f"{field} contain {lowest}: they must be >= 0")
        low, high = (float(x) for x in torch.aminmax(self.images))  # NaN in, NaN out
        if not (math.isfinite(low) and math.isfinite(high)):
            index = int((~self.images.isfinite()).flatten(1).any(1).nonzero()[0])
            raise ValueError(f"image {index} has NaN or infinite pixels: all must be finite, in [0, 1]")
        if low < 0 or high > 1:
            raise ValueError(f"pixels span [{low:g}, {high:g}]: they must lie in [0, 1] (8-bit ones: divide by 255)")

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits of one data set, its class names in label order, and its per-channel mean and std.

    Raises ValueError where the splits differ in channels or size, a label has no class, two splits share an
    original, or the statistics do not fit the channels.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"{self.name}: classes {self.classes!r} must be two or more distinct names")
        _check_statistics(self.channels, self.mean, self.std)
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        side: dict[int, str] = {}
        for which, split in splits.items():
            found, expected = list(split.images.shape[1:]), list(self.train.images.shape[1:])
            if found != expected:
                raise ValueError(f"{self.name}: {which} images are {found}, those of train {expected} [C, H, W]")
            if (top := int(split.labels.max())) >= len(self.classes):
                raise ValueError(f"{self.name}: {which} has label {top}, but labels go to {len(self.classes) - 1}")
            originals = split.originals.unique().tolist()
            if (shared := next((i for i in originals if i in side), None)) is not None:
                raise ValueError(f"{self.name}: original {shared} is in {side[shared]} and in {which}: a leak")
            side.update(dict.fromkeys(originals, which))

    @property
    def channels(self) -> int:
        """Colour channels of an image."""
        return self.train.images.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image, in pixels."""
        return self.train.images.shape[2], self.train.images.shape[3]


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(images - mean) / std for each channel: images [..., C, H, W], mean and std C numbers, std > 0.

    Raises ValueError where the statistics do not fit the channels.
    """
    if images.ndim < 3:
        raise ValueError(f"images have shape {list(images.shape)}: they must be [..., C, H, W]")
    _check_statistics(images.shape[-3], mean, std)
    return (images - images.new_tensor(mean)[:, None, None]) / images.new_tensor(std)[:, None, None]


def _check_statistics(channels: int, mean: Sequence[float], std: Sequence[float]) -> None:
    if len(mean) != channels or len(std) != channels:
        raise ValueError(f"mean {mean!r} and std {std!r} must have one number for each of {channels} channels")
    if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise ValueError(f"mean {mean!r} and std {std!r} must be finite, and std > 0")
