"""Build a data set from single images of any source: read, resize, check and split them."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset as Items

from partialsym.data.base import Dataset, Images, Split
from partialsym.data.reading import Levels, Range, as_float, shown
from partialsym.data.reading.image_source import ImageOptions, ImageSource, digest, fetched, pixels
from partialsym.data.reading.lazy import LazyImages
from partialsym.data.reading.loader import Loader
from partialsym.data.reading.ranges import resolve_range
from partialsym.errors import InputError

log = logging.getLogger(__name__)
ORDER = ("train", "validation", "test")
LISTED = 20
SOME = 64  # images that a worker inspects before it reports


class Seen(NamedTuple):
    """The shape and digest of an image, and the image itself if it is retained in memory."""

    shape: tuple[int, ...]
    digest: bytes
    image: Tensor | None


@dataclass
class _Gathered:
    """The images of all splits, in order. They are in memory if `workers` is None, and else remain in their files."""

    how: ImageOptions
    workers: int | None
    splits: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    images: list[Tensor] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    originals: list[int] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)
    first: dict[bytes, int] = field(default_factory=dict)
    sizes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    channels: int = 1
    levels: dict[str, Levels] = field(
        default_factory=lambda: {which: Levels() for which in ORDER}
    )  # by the given split

    def add(self, which: str, picture: ImageSource, seen: Seen) -> None:
        self.sizes[seen.shape[1:]] += 1
        if len(self.sizes) > 1:  # an error will follow
            self.images.clear()
        if seen.image is not None:
            self.images.append(seen.image)
        elif isinstance(picture.source, Path):
            self.files.append(picture.source)
        self.channels = max(self.channels, seen.shape[0])
        self.originals.append(self.first.setdefault(seen.digest, len(self.names)))
        self.groups.append(picture.group)
        self.names.append(picture.name)
        self.labels.append(picture.label)
        self.splits.append(which)

    @property
    def deep(self) -> bool:
        """Whether there are 16-bit images."""
        return any(levels.images[1] for levels in self.levels.values())

    def split(self, which: str, range: Range | None) -> Split:
        index = [i for i, split in enumerate(self.splits) if split == which]
        images: Images
        if self.workers is None:
            ready = (as_float(self.images[i], range) if self.deep else self.images[i] for i in index)
            images = torch.stack([image.expand(self.channels, -1, -1) for image in ready])
        else:
            shape, how = (self.channels, *next(iter(self.sizes))), replace(self.how, range=range if self.deep else None)
            images = LazyImages([self.files[i] for i in index], how, shape, self.workers)
        labels, originals = (torch.tensor([values[i] for i in index]) for values in (self.labels, self.originals))
        return Split(images, labels, originals)


def gather(
    name: str,
    classes: tuple[str, ...],
    parts: Mapping[str, Iterable[ImageSource]],
    how: ImageOptions,
    bad: Sequence[str] = (),
    workers: int | None = None,
    head: bool = False,
) -> Dataset:
    """Build the Dataset of the images in `parts`: "train", and optionally "validation" and "test".

    Missing splits are split off from the training images.

    Args:
        bad: errors that were found already, one line each.
        workers: number of processes that read the images, which remain in their files; None loads them into memory.
        head: whether these are only the first training images, which need not include all classes.
    Raises:
        ValueError: in the same cases as for `folder`.
    """
    found, wrong = _Gathered(how, workers), list(bad)
    given = [which for which in ORDER if which in parts]
    for which, picture, seen in _looked_at({which: parts[which] for which in given}, found):
        if isinstance(seen, str):
            wrong.append(seen)
        else:
            found.add(which, picture, seen)
    if wrong:
        raise InputError(f"{shown(name)}: {len(wrong)} bad file{'s' * (len(wrong) > 1)}{listing(wrong)}")
    _check(found, classes, given[head:])
    if len(found.sizes) > 1:
        sizes = ", ".join(f"{h}×{w} ({n})" for (h, w), n in found.sizes.most_common(LISTED))
        more = f" and {len(found.sizes) - LISTED} more" * (len(found.sizes) > LISTED)
        raise InputError(f"{shown(name)}: images of {len(found.sizes)} sizes, {sizes}{more}: give a size for all")
    _join(found)
    if not head:
        _divide(found, classes, how)
    levels = found.levels["train"]
    for which in ORDER:
        if which not in given:
            levels = levels.plus(_moved(found, which), -1)
    ends = resolve_range(shown(name), levels, how.range, found.deep)
    splits = {which: found.split(which, ends) for which in ORDER}
    mean, std = levels.moments(found.channels, ends)
    folds = how.folds if "test" not in given else None
    return Dataset(name, classes, **splits, mean=mean, std=std, range=ends, folds=folds)


def _looked_at(
    parts: Mapping[str, Iterable[ImageSource]], found: _Gathered
) -> Iterator[tuple[str, ImageSource, Seen | str]]:
    """Yield every image with its properties or an error message, and add its values to `found.levels`."""
    if found.workers is None:
        for which, part in parts.items():
            for picture in part:
                seen = _look(picture, found.how)
                if isinstance(seen, Seen) and seen.image is not None:
                    found.levels[which].add(seen.image)
                yield which, picture, seen
        return
    for which, pictures, looked, levels in _read(
        {which: list(part) for which, part in parts.items()}, found.how, found.workers
    ):
        found.levels[which] = found.levels[which].plus(levels)
        yield from ((which, picture, one) for picture, one in zip(pictures, looked, strict=True))


def _read(
    pictures: Mapping[str, Sequence[ImageSource]], how: ImageOptions, workers: int
) -> Iterator[tuple[str, Sequence[ImageSource], list[Seen | str], Levels]]:
    """Yield blocks of the images of each split, with the properties that workers found, and their values."""
    keys = [(which, slice(i, i + SOME)) for which, part in pictures.items() for i in range(0, len(part), SOME)]
    for (which, some), looks in zip(keys, Loader(_Looks(pictures, how), keys, workers), strict=True):
        yield which, pictures[which][some], *looks


def _look(picture: ImageSource, how: ImageOptions) -> Seen | str:
    try:
        picture = fetched(picture)
        image = pixels(picture, how)
        return Seen(tuple(image.shape), digest(picture), image)
    except (ValueError, FileNotFoundError) as error:
        return str(error)


class _Looks(Items[tuple[list[Seen | str], Levels]]):
    """The properties of a block of images, without the pixels, and the statistics of their values."""

    def __init__(self, pictures: Mapping[str, Sequence[ImageSource]], how: ImageOptions) -> None:
        self.pictures, self.how = pictures, how

    def __getitem__(self, key: tuple[str, slice]) -> tuple[list[Seen | str], Levels]:
        looks: list[Seen | str] = []
        levels = Levels()
        for picture in self.pictures[key[0]][key[1]]:
            seen = _look(picture, self.how)
            if isinstance(seen, Seen) and seen.image is not None:
                levels.add(seen.image)
                seen = seen._replace(image=None)
            looks.append(seen)
        return looks, levels


def _moved(found: _Gathered, which: str) -> Levels:
    """The values of the images that were moved to a split. Images that remain in their files are read again."""
    index = [i for i, split in enumerate(found.splits) if split == which]
    levels = Levels()
    if found.workers is None:
        for i in index:
            levels.add(found.images[i])
        return levels
    pictures = [ImageSource(found.names[i], found.labels[i], found.files[i]) for i in index]
    for _, _, looked, some in _read({which: pictures}, found.how, found.workers):
        levels = levels.plus(some)
        if changed := next((seen for seen in looked if isinstance(seen, str)), None):
            raise InputError(changed)
    return levels


def listing(lines: Sequence[str]) -> str:
    """The first LISTED lines, indented, one below the other, and the number of further lines."""
    more = [f"and {len(lines) - LISTED} more"] * (len(lines) > LISTED)
    return "".join(f"\n  {line}" for line in [*lines[:LISTED], *more])


def _check(found: _Gathered, classes: tuple[str, ...], given: Sequence[str]) -> None:
    """Raise InputError if a given split lacks a class or two splits share a file; warn if two classes share a file."""
    there = set(zip(found.splits, found.labels, strict=True))
    lacking = [
        f"{which} has no {name!r}" for which in given for i, name in enumerate(classes) if (which, i) not in there
    ]
    if lacking:
        raise InputError(f"every split must have every class, but:{listing(lacking)}")
    twins = [(first, i) for i, first in enumerate(found.originals) if first != i]
    leaks = [(a, b) for a, b in twins if found.splits[a] != found.splits[b]]
    if leaks:
        pairs = [f"{found.names[a]} ({found.splits[a]}) and {found.names[b]} ({found.splits[b]})" for a, b in leaks]
        raise InputError(f"identical files in two splits, {len(leaks)} in all: remove one of each{listing(pairs)}")
    if disputed := [f"{found.names[a]} and {found.names[b]}" for a, b in twins if found.labels[a] != found.labels[b]]:
        log.warning("identical files under two classes, %d in all: %s", len(disputed), disputed[0])


def _divide(found: _Gathered, classes: tuple[str, ...], how: ImageOptions) -> None:
    """Move training images to the splits without images: a share of the originals of each class, at least one."""
    shares = {"test": how.test, "validation": how.validation}
    missing = [which for which in shares if which not in found.splits]
    if how.folds is not None or any(group is not None for group in found.groups):
        _divide_evenly(found, classes, how, missing)
        return
    members: list[list[int]] = [[] for _ in classes]
    for i, (original, which) in enumerate(zip(found.originals, found.splits, strict=True)):
        if which == "train" and original == i:
            members[found.labels[i]].append(i)
    few = [f"{classes[label]!r}: {len(own)}" for label, own in enumerate(members) if len(own) <= len(missing)]
    if few:
        needed = f"{len(missing) + 1} distinct images or more, because {' and '.join(missing)} must have some"
        raise InputError(f"classes with too few images, each must have {needed}:{listing(few)}")
    generator, moved = torch.Generator().manual_seed(how.split_seed), dict[int, str]()
    for own in members:
        order = [own[i] for i in torch.randperm(len(own), generator=generator).tolist()]
        for after, which in zip(range(len(missing), 0, -1), missing, strict=True):  # leave one for each next split
            count = min(max(1, round(shares[which] * len(order))), len(order) - after)
            moved |= dict.fromkeys(order[:count], which)
            order = order[count:]
    found.splits[:] = [moved.get(first, which) for first, which in zip(found.originals, found.splits, strict=True)]


def _join(found: _Gathered) -> None:
    """Assign one original to all images of a group, and to all images that are identical to one of them."""
    first: dict[str, int] = {}
    whole = list(range(len(found.originals)))  # a union-find forest: original → an earlier original

    def root(i: int) -> int:
        while whole[i] != i:
            i = whole[i]
        return i

    for i, group in enumerate(found.groups):
        if group is not None:
            one, other = sorted((root(found.originals[i]), root(first.setdefault(group, found.originals[i]))))
            whole[other] = one
    if not first:
        return
    found.originals[:] = [root(original) for original in found.originals]
    split = {original: i for i, original in reversed(list(enumerate(found.originals)))}
    leaks = [
        f"{found.groups[i]}: {found.names[split[o]]} ({found.splits[split[o]]}) and {found.names[i]} ({which})"
        for i, (o, which) in enumerate(zip(found.originals, found.splits, strict=True))
        if which != found.splits[split[o]]
    ]
    if leaks:
        raise InputError(f"groups with images in two splits, {len(leaks)} of them: move them{listing(leaks)}")


def _divide_evenly(found: _Gathered, classes: tuple[str, ...], how: ImageOptions, missing: Sequence[str]) -> None:
    """Move whole originals (including groups) so that every part has its share of the images of every class."""
    units: dict[int, Counter[int]] = {}
    for original, label, which in zip(found.originals, found.labels, found.splits, strict=True):
        if which == "train":
            units.setdefault(original, Counter())[label] += 1
    generator, moved = torch.Generator().manual_seed(how.split_seed), dict[int, str]()
    for which in missing:
        shares, chosen = [how.validation, 1 - how.validation], 0
        if which == "test":
            shares, chosen = ([1 / how.folds] * how.folds, how.fold) if how.folds else ([how.test, 1 - how.test], 0)
        parts = spread(list(units.values()), shares, generator)
        there = [
            {part for part, unit in zip(parts, units.values(), strict=True) if unit[k]} for k in range(len(classes))
        ]
        lacking = [
            f"{name!r}: in {sum(unit[label] > 0 for unit in units.values())}"
            for label, name in enumerate(classes)
            if len(there[label]) < len(shares)
        ]
        if lacking:
            what = "groups, or distinct images,"
            raise InputError(f"classes in too few {what} for all of {len(shares)} parts:{listing(lacking)}")
        taken = {original for original, part in zip(units, parts, strict=True) if part == chosen}
        moved |= dict.fromkeys(taken, which)
        units = {original: unit for original, unit in units.items() if original not in taken}
    found.splits[:] = [moved.get(first, which) for first, which in zip(found.originals, found.splits, strict=True)]


def spread(units: Sequence[Mapping[int, int]], shares: Sequence[float], generator: torch.Generator) -> list[int]:
    """Assign a part to each unit, such that each part has approximately its share of the images of each class.

    Units are assigned greedily, from large to small and in random order among equals, to the part that has the least of
    their classes.

    Args:
        units: class → number of images.
        shares: the shares of the parts, which add up to 1.
    """
    totals: Counter[int] = Counter()
    for unit in units:
        totals.update(unit)
    order = sorted(torch.randperm(len(units), generator=generator).tolist(), key=lambda i: -sum(units[i].values()))
    loads: list[Counter[int]] = [Counter() for _ in shares]
    parts = [0] * len(units)
    for i in order:
        full = [
            sum(count * load[label] / totals[label] for label, count in units[i].items()) / share
            for load, share in zip(loads, shares, strict=True)
        ]
        parts[i] = min(range(len(shares)), key=lambda part: (full[part], sum(loads[part].values()) / shares[part]))
        loads[parts[i]].update(units[i])
    return parts
