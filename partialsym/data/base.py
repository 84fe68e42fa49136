"""Split and Dataset: images with their labels, checked on construction."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from partialsym.data.reading.levels import Range, counted, moments
from partialsym.errors import InputError, InputTypeError


class Images(Protocol):
    """The interface that tensors of images [N, C, H, W] share with images in files, see `LazyImages`."""

    @property
    def shape(self) -> torch.Size: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def ndim(self) -> int: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __getitem__(self, index: Any, /) -> Any: ...
    def numel(self) -> int: ...
    def split(self, size: int, /) -> Iterable[Tensor]: ...


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled images: `images` [N, C, H, W], uint8 or float32 in [0, 1]; `labels`, `originals` int64 [N], >= 0.

    `images` is a tensor, or `LazyImages`, which are read from their files in batches. `originals` is the number of the
    source image within the whole data set: an image and its transformed copy have the same number. Raises ValueError
    for other types, shapes or values, and for an empty split.
    """

    images: Images
    labels: Tensor
    originals: Tensor

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype not in (torch.uint8, torch.float32):
            found = f"{self.images.dtype} {list(self.images.shape)}"
            raise InputError(f"images are {found}: they must be uint8 or float32 [N, C, H, W]")
        if self.images.numel() == 0:
            raise InputError(f"images of shape {list(self.images.shape)} are empty: every size must be >= 1")
        for field, values in (("labels", self.labels), ("originals", self.originals)):
            if values.dtype != torch.int64 or values.shape != self.images.shape[:1]:
                found = f"{values.dtype} {list(values.shape)}"
                raise InputError(f"{field} are {found}: they must be int64 [{len(self.images)}], one per image")
            if (lowest := int(values.min())) < 0:
                raise InputError(f"{field} contain {lowest}: they must be >= 0")
        if not isinstance(self.images, Tensor) or self.images.dtype == torch.uint8:
            return
        low, high = (float(x) for x in torch.aminmax(self.images))  # NaN if any pixel is NaN
        if not (math.isfinite(low) and math.isfinite(high)):
            index = int((~self.images.isfinite()).flatten(1).any(1).nonzero()[0])
            raise InputError(f"image {index} has NaN or infinite pixels: all must be finite, in [0, 1]")
        if low < 0 or high > 1:
            raise InputError(f"pixels span [{low:g}, {high:g}]: they must lie in [0, 1] (pass 8-bit pixels as uint8)")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice) -> "Split":
        """The images at `index`."""
        return Split(self.images[index], self.labels[index], self.originals[index])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits of one data set, its class names in label order, and its per-channel mean and std.

    `probe` holds test images in a known orientation, which are rotated for measurements, or None. `range` holds the
    values of 16-bit grey that become 0 and 1, or None if no image has 16 bits and no range was passed. `folds` is the
    number of folds of which the test split is one, or None if it is none.

    Raises ValueError if the splits differ in channels or size, a label has no class, two splits share an original, or
    the statistics do not fit the channels.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    probe: Split | None = None
    range: Range | None = None
    folds: int | None = None

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise InputError(f"{self.name}: classes {self.classes!r} must be two or more distinct names")
        check_statistics(self.channels, self.mean, self.std)
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        side: dict[int, str] = {}
        for which, split in splits.items():
            found, expected = list(split.images.shape[1:]), list(self.train.images.shape[1:])
            if found != expected:
                raise InputError(f"{self.name}: {which} images are {found}, those of train {expected} [C, H, W]")
            if (top := int(split.labels.max())) >= len(self.classes):
                raise InputError(f"{self.name}: {which} has label {top}, but labels go to {len(self.classes) - 1}")
            originals = split.originals.unique().tolist()
            if (shared := next((i for i in originals if i in side), None)) is not None:
                raise InputError(f"{self.name}: original {shared} is in {side[shared]} and in {which}: a leak")
            side.update(dict.fromkeys(originals, which))

    def with_train(self, count: int, seed: int) -> "Dataset":
        """The same data set with the first `count` training images of a seeded order.

        A smaller selection is part of a larger one. Raises ValueError if there are fewer than `count` images.
        """
        if not 1 <= count <= len(self.train):
            raise InputError(f"{self.name} has {len(self.train)} training images, fewer than the requested {count}")
        index = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))[:count]
        return replace(self, train=self.train[index])

    def with_test(self, count: int, seed: int) -> "Dataset":
        """The same data set with `count` test images of a seeded order, and at most as many to be turned in `probe`.

        Every class has as many as any other, as long as it has any left. Images of one original have one place in the
        order, so that images and their transformed copies, which are of two classes, stay together where `count` is a
        multiple of the number of classes. Raises ValueError if there are fewer than `count` images.
        """
        if not 1 <= count <= len(self.test):
            raise InputError(f"{self.name} has {len(self.test)} test images, not the {count} asked for")
        probe = self.probe if self.probe is None else self.probe[_some(self.probe, count, seed)]
        return replace(self, test=self.test[_some(self.test, count, seed)], probe=probe)

    @property
    def channels(self) -> int:
        """Colour channels of an image."""
        return self.train.images.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image, in pixels."""
        return self.train.images.shape[2], self.train.images.shape[3]


def in_turn(labels: Tensor, count: int) -> Tensor:
    """Indices [≤ count] of images, the first ones of each class, with the classes as balanced as possible."""
    rank = torch.zeros_like(labels)
    for label in labels.unique():
        of_class = labels == label
        rank[of_class] = torch.arange(int(of_class.sum()))
    return (rank * (int(labels.max()) + 1) + labels).argsort()[:count]


def _some(split: Split, count: int, seed: int) -> Tensor:
    """Indices [≤ count], ascending, of images selected as in `with_test`."""
    originals, of = split.originals.unique(return_inverse=True)
    place = torch.randperm(len(originals), generator=torch.Generator().manual_seed(seed))[of]
    order = place.argsort(stable=True)
    return order[in_turn(split.labels[order], count)].sort().values


def statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and population standard deviation of every channel of images [N, C, H, W], with pixels scaled to [0, 1]."""
    if images.dtype == torch.uint8:  # from a histogram, without a float64 copy of the pixels
        return moments(counted(images))
    std, mean = torch.std_mean(images[:].double(), dim=(0, 2, 3), correction=0)
    return tuple(mean.tolist()), tuple(std.tolist())


def check_statistics(channels: int, mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise ValueError or TypeError unless mean and std have one finite number per channel, with std > 0."""
    if isinstance(mean, int | float) or isinstance(std, int | float):
        raise InputTypeError(f"mean is {mean!r} and std {std!r}: must have one number for each channel, as in (0.5,)")
    if len(mean) != channels or len(std) != channels:
        raise InputError(f"mean {mean!r} and std {std!r} must have one number for each of {channels} channels")
    if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise InputError(f"mean {mean!r} and std {std!r} must be finite, and std > 0")


def check_validation(validation: float, split_seed: int) -> None:
    """Raise ValueError unless `validation` is in (0, 0.5] and `split_seed` an int >= 0."""
    if not isinstance(validation, int | float) or not 0 < validation <= 0.5:
        raise InputError(f"validation is {validation!r}: it must be a fraction of the training set in (0, 0.5]")
    if not isinstance(split_seed, int) or isinstance(split_seed, bool) or not 0 <= split_seed < 2**63:
        raise InputError(f"split_seed is {split_seed!r}: it must be an int >= 0")
