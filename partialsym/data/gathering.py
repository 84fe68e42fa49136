"""Single images, wherever they come from, made into a data set: read, brought to one size, checked, divided."""

import hashlib
import io
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from partialsym.data.base import Dataset, Split, statistics
from partialsym.data.splitting import check_validation
from partialsym.images import Fit, decode, fitted, read_image, shown
from partialsym.images.sizing import check_fit

log = logging.getLogger(__name__)
ORDER = ("train", "validation", "test")
LISTED = 20


class Picture(NamedTuple):
    """An image to read: what errors call it, its class (-1: unknown), and its file, the bytes of one, or nothing."""

    name: str
    label: int
    source: Path | bytes | None


@dataclass(frozen=True)
class Preparation:
    """How images become a data set: the arguments of `folder`. Raises ValueError on one that is out of its range."""

    size: tuple[int, int] | None = None
    fit: Fit = "resize"
    channels: Literal[1, 3] | None = None
    validation: float = 0.1
    test: float = 0.2
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_fit(self.size, self.fit)
        if self.channels not in (None, 1, 3):
            raise ValueError(f"channels is {self.channels!r}: it must be 1 (grey), 3 (RGB) or None (as the images are)")
        check_validation(self.validation, self.split_seed)
        if not isinstance(self.test, int | float) or not 0 < self.test <= 0.5:
            raise ValueError(f"test is {self.test!r}: it must be a fraction of the images in (0, 0.5]")


@dataclass
class _Gathered:
    """The images of all splits, in order."""

    splits: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    images: list[Tensor] = field(default_factory=list)
    originals: list[int] = field(default_factory=list)
    first: dict[bytes, int] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)

    def add(self, which: str, picture: Picture, how: Preparation) -> None:
        """Read one more image; raises ValueError or FileNotFoundError."""
        if picture.source is None or picture.label < 0:
            raise ValueError(f"{picture.name} has no {'image' if picture.source is None else 'label'}.")
        if isinstance(picture.source, bytes):
            image = decode(io.BytesIO(picture.source), picture.name, how.channels)
            digest = hashlib.sha256(picture.source).digest()
        else:
            image = read_image(picture.source, how.channels, name=picture.name)
            with picture.source.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
        image = image if how.size is None else fitted(image, how.size, how.fit)
        self.sizes[image.shape[1], image.shape[2]] += 1
        if len(self.sizes) > 1:  # refused in the end: no need to keep pixels
            self.images.clear()
        self.images.append(image)
        self.originals.append(self.first.setdefault(digest, len(self.names)))
        self.names.append(picture.name)
        self.labels.append(picture.label)
        self.splits.append(which)


def gather(
    name: str,
    classes: tuple[str, ...],
    parts: Mapping[str, Iterable[Picture]],
    how: Preparation,
    bad: Sequence[str] = (),
) -> Dataset:
    """The Dataset of the pictures in `parts`: "train" and perhaps "validation" and "test", else taken from train.

    `bad`: what is wrong already, a line each. Raises ValueError as `folder` does.
    """
    found, wrong = _Gathered(), list(bad)
    given = [which for which in ORDER if which in parts]
    for which in given:
        for picture in parts[which]:
            try:
                found.add(which, picture, how)
            except (ValueError, FileNotFoundError) as error:
                wrong.append(str(error))
    if wrong:
        raise ValueError(f"{shown(name)}: {len(wrong)} bad file{'s' * (len(wrong) > 1)}{listing(wrong)}")
    _check(found, classes, given)
    if len(found.sizes) > 1:
        sizes = ", ".join(f"{h}×{w} ({n})" for (h, w), n in found.sizes.most_common(LISTED))
        more = f" and {len(found.sizes) - LISTED} more" * (len(found.sizes) > LISTED)
        raise ValueError(f"{shown(name)}: images of {len(found.sizes)} sizes, {sizes}{more}: give a size for all")
    _divide(found, classes, how)
    channels = max(len(image) for image in found.images)
    splits = {}
    for which in ORDER:
        index = [i for i, split in enumerate(found.splits) if split == which]
        images = torch.stack([found.images[i].expand(channels, -1, -1) for i in index])
        labels, originals = (torch.tensor([values[i] for i in index]) for values in (found.labels, found.originals))
        splits[which] = Split(images, labels, originals)
    mean, std = statistics(splits["train"].images)
    return Dataset(name, classes, **splits, mean=mean, std=std)


def listing(lines: Sequence[str]) -> str:
    """The lines below each other, indented: LISTED of them, then how many more."""
    more = [f"and {len(lines) - LISTED} more"] * (len(lines) > LISTED)
    return "".join(f"\n  {line}" for line in [*lines[:LISTED], *more])


def _check(found: _Gathered, classes: tuple[str, ...], given: Sequence[str]) -> None:
    """Refuse a class that is not in every given split and a file that is in two; mention one under two classes."""
    there = set(zip(found.splits, found.labels, strict=True))
    lacking = [
        f"{which} has no {name!r}" for which in given for i, name in enumerate(classes) if (which, i) not in there
    ]
    if lacking:
        raise ValueError(f"every split must have every class, but:{listing(lacking)}")
    twins = [(first, i) for i, first in enumerate(found.originals) if first != i]
    leaks = [(a, b) for a, b in twins if found.splits[a] != found.splits[b]]
    if leaks:
        pairs = [f"{found.names[a]} ({found.splits[a]}) and {found.names[b]} ({found.splits[b]})" for a, b in leaks]
        raise ValueError(f"identical files in two splits, {len(leaks)} in all: remove one of each{listing(pairs)}")
    if disputed := [f"{found.names[a]} and {found.names[b]}" for a, b in twins if found.labels[a] != found.labels[b]]:
        log.warning("identical files under two classes, %d in all: %s", len(disputed), disputed[0])


def _divide(found: _Gathered, classes: tuple[str, ...], how: Preparation) -> None:
    """Move training images to the splits that have none: of every class a share of its originals, at least one."""
    shares = {"test": how.test, "validation": how.validation}
    missing = [which for which in shares if which not in found.splits]
    members: list[list[int]] = [[] for _ in classes]
    for i, (original, which) in enumerate(zip(found.originals, found.splits, strict=True)):
        if which == "train" and original == i:
            members[found.labels[i]].append(i)
    few = [f"{classes[label]!r}: {len(own)}" for label, own in enumerate(members) if len(own) <= len(missing)]
    if few:
        needed = f"{len(missing) + 1} distinct images or more to give some to {' and '.join(missing)}"
        raise ValueError(f"classes with too few images, each must have {needed}:{listing(few)}")
    generator, moved = torch.Generator().manual_seed(how.split_seed), dict[int, str]()
    for own in members:
        order = [own[i] for i in torch.randperm(len(own), generator=generator).tolist()]
        for after, which in zip(range(len(missing), 0, -1), missing, strict=True):  # each after this one gets one too
            count = min(max(1, round(shares[which] * len(order))), len(order) - after)
            moved |= dict.fromkeys(order[:count], which)
            order = order[count:]
    found.splits[:] = [moved.get(first, which) for first, which in zip(found.originals, found.splits, strict=True)]
