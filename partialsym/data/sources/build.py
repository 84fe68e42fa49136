"""Single images, wherever they come from, made into a data set: read, brought to one size, checked, divided."""

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
from partialsym.data.reading.ranges import taken
from partialsym.errors import InputError

log = logging.getLogger(__name__)
ORDER = ("train", "validation", "test")
LISTED = 20
SOME = 64  # images that a worker looks at before it tells


class Seen(NamedTuple):
    """What is to be known of an image; the image itself where it is to be kept."""

    shape: tuple[int, ...]
    digest: bytes
    image: Tensor | None


@dataclass
class _Gathered:
    """The images of all splits, in order: kept where `workers` is None, else they stay in their files."""

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
    levels: dict[str, Levels] = field(default_factory=lambda: {which: Levels() for which in ORDER})  # as they came

    def add(self, which: str, picture: ImageSource, seen: Seen) -> None:
        self.sizes[seen.shape[1:]] += 1
        if len(self.sizes) > 1:  # refused in the end: no need to keep pixels
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
        """Whether there are images of 16 bits."""
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
    """The Dataset of the pictures in `parts`: "train" and perhaps "validation" and "test", else taken from train.

    Args:
        bad: what is wrong already, a line each.
        workers: leave the images in their files, from which so many processes read them; None takes them into memory.
        head: of the training images these are the first only, which need not be of all classes.
    Raises:
        ValueError: as `folder` does.
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
    ends = taken(shown(name), levels, how.range, found.deep)
    splits = {which: found.split(which, ends) for which in ORDER}
    mean, std = levels.moments(found.channels, ends)
    folds = how.folds if "test" not in given else None
    return Dataset(name, classes, **splits, mean=mean, std=std, range=ends, folds=folds)


def _looked_at(
    parts: Mapping[str, Iterable[ImageSource]], found: _Gathered
) -> Iterator[tuple[str, ImageSource, Seen | str]]:
    """Every picture with what is seen of it, or what is wrong with it; values are counted on the way."""
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
    """Some pictures of a split after the other, with what workers see of them, and their values."""
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
    """What is seen of some pictures, without the images, and their values."""

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
    """The values of the images that were moved to a split; those that stay in their files are read again."""
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
        raise InputError(f"every split must have every class, but:{listing(lacking)}")
    twins = [(first, i) for i, first in enumerate(found.originals) if first != i]
    leaks = [(a, b) for a, b in twins if found.splits[a] != found.splits[b]]
    if leaks:
        pairs = [f"{found.names[a]} ({found.splits[a]}) and {found.names[b]} ({found.splits[b]})" for a, b in leaks]
        raise InputError(f"identical files in two splits, {len(leaks)} in all: remove one of each{listing(pairs)}")
    if disputed := [f"{found.names[a]} and {found.names[b]}" for a, b in twins if found.labels[a] != found.labels[b]]:
        log.warning("identical files under two classes, %d in all: %s", len(disputed), disputed[0])


def _divide(found: _Gathered, classes: tuple[str, ...], how: ImageOptions) -> None:
    """Move training images to the splits that have none: of every class a share of its originals, at least one."""
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
        needed = f"{len(missing) + 1} distinct images or more to give some to {' and '.join(missing)}"
        raise InputError(f"classes with too few images, each must have {needed}:{listing(few)}")
    generator, moved = torch.Generator().manual_seed(how.split_seed), dict[int, str]()
    for own in members:
        order = [own[i] for i in torch.randperm(len(own), generator=generator).tolist()]
        for after, which in zip(range(len(missing), 0, -1), missing, strict=True):  # each after this one gets one too
            count = min(max(1, round(shares[which] * len(order))), len(order) - after)
            moved |= dict.fromkeys(order[:count], which)
            order = order[count:]
    found.splits[:] = [moved.get(first, which) for first, which in zip(found.originals, found.splits, strict=True)]


def _join(found: _Gathered) -> None:
    """Let the images of a group share an original, those that their identical files share one with as well."""
    first: dict[str, int] = {}
    whole = list(range(len(found.originals)))  # original → an earlier one that it is joined to

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
    """Move whole originals, groups among them, so that every part gets its share of the images of every class."""
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
    """A part for each unit, such that each part gets its share of the images of each class, as nearly as they allow.

    In random order, but the large ones first, each unit goes where there is least of its classes.

    Args:
        units: class → number of images.
        shares: of the parts, which add up to 1.
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
