"""People's own images: a folder of each class's images."""

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from partialsym.data.base import Dataset
from partialsym.data.reading import Fit, Range, shown
from partialsym.data.reading.download import extra
from partialsym.data.reading.image_source import ImageOptions, ImageSource
from partialsym.data.sources.build import ORDER, gather, listing
from partialsym.errors import InputError

SPLITS = {"train": "train", "val": "validation", "validation": "validation", "valid": "validation", "test": "test"}
IGNORED = ("thumbs.db", "desktop.ini", "__macosx")  # besides names that begin with a dot


def folder(
    root: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    fit: Fit = "resize",
    channels: Literal[1, 3] | None = None,
    validation: float = 0.1,
    test: float = 0.2,
    split_seed: int = 0,
    range: Range | None = None,
    folds: int | None = None,
    fold: int = 0,
    split_by: str | None = None,
    stream: bool = False,
    workers: int = 2,
) -> Dataset:
    """The images in `root/train/CLASS/*`, with `root/val` and `root/test` where there are, or in `root/CLASS/*`.

    uint8, or float32 in [0, 1] where some have 16 bits; classes by name, images by path. A split that is missing is
    taken from the training images, by seed and the same share of every class: first `test` of them, then `validation`
    of the rest, each in (0, 0.5]. Identical files
    share an original. Hidden files and empty folders are skipped; a link may lead to anything inside `root`.

    Args:
        size: height and width; None where all images have the same.
        fit: how they get that size, see `fitted`.
        channels: 1 for grey, 3 for RGB; None for 1 where all images are grey.
        range: the values of 16-bit grey that become 0 and 1, as what is beyond does; None for the least and the largest
            of the training images. 8-bit images are divided by 255 all the same. What was taken is logged, with a
            warning where training images use less than a tenth of the range of their type, or of that given.
        folds: divide the training images into as many folds, and test on number `fold` of them, not on a share.
        split_by: a regular expression that finds in the name of every file what it belongs to (a patient, a slide), by
            its first group if it has one: files that belong together share an original, and no split divides them.
        stream: leave the images in their files, which are read once to be checked and then whenever they are needed.
            The data set is the same, in less memory and more time.
        workers: processes that read them then; 0 for none beside this one.
    Raises:
        ValueError: files that are no images (all in one message), sizes that differ, a class missing in a split, with
            too few images, or with a file that another split has too; an argument out of its range; 16 bits in no
            training image but in others, or all the same, without a `range`; no `train`, but what may be meant by it; a
            file that `split_by` does not fit, or groups that splits divide or that are too few for them.
        FileNotFoundError: `root` is not a folder.
    """
    how = ImageOptions(size, fit, channels, validation, test, split_seed, range, folds, fold)
    pattern = None if split_by is None else _pattern(split_by)
    if not os.fspath(root) or not (top := Path(root).expanduser()).is_dir():
        raise FileNotFoundError(f"root is {os.fspath(root)!r}: it must be an existing folder")
    bad: list[str] = []
    files = {which: list(_files(places, top, bad)) for which, places in _splits(top, bad).items()}
    classes = tuple(sorted({name for found in files.values() for name, _ in found}))
    if len(classes) < 2:
        found = f"classes {list(classes)}" if classes else "no images in folders"
        raise InputError(f"{shown(top)} has {found}: it must hold two classes or more, a folder each{listing(bad)}")
    number = {name: label for label, name in enumerate(classes)}
    parts = {
        which: [
            ImageSource(shown(path.relative_to(top)), number[name], path, _group(path, top, pattern, bad))
            for name, path in found
        ]
        for which, found in files.items()
    }
    return gather(top.resolve().name or "folder", classes, parts, how, bad, workers if stream else None)


def imbalance(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """For each split: `images` of every class, the `largest` class (the first of equals) and its `share` in (0, 1].

    Of a stream those of `train` are counted, which are some of its images.
    """
    result = {}
    for which in ORDER:
        counts = getattr(dataset, which).labels.bincount(minlength=len(dataset.classes)).tolist()
        images = dict(zip(dataset.classes, counts, strict=True))
        largest = max(images, key=lambda name: images[name])
        result[which] = {"images": images, "largest": largest, "share": images[largest] / sum(counts)}
    return result


def _pattern(split_by: str) -> re.Pattern[str]:
    try:
        return re.compile(split_by)
    except re.error as error:
        raise InputError(f"split_by is {split_by!r}: it must be a regular expression, but {error}") from None


def _group(path: Path, top: Path, pattern: re.Pattern[str] | None, bad: list[str]) -> str | None:
    """What the file belongs to by its name; `bad` is told where the pattern does not say."""
    if pattern is None:
        return None
    found = pattern.search(path.name)
    group = None if found is None else found[1] if pattern.groups else found[0]
    if not group:
        bad.append(f"{shown(path.relative_to(top))} does not say what it belongs to: {pattern.pattern!r} is not in it.")
    return group


def _entries(place: Path) -> list[Path]:
    found = (p for p in place.iterdir() if not p.name.startswith(".") and p.name.lower() not in IGNORED)
    return sorted(found, key=lambda path: path.name)


def _splits(top: Path, bad: list[str]) -> dict[str, list[Path]]:
    """What lies in the folder of each split; all of `top` is training images where it has no `train` with folders."""
    tops = _entries(top)
    if not any(p.name.lower() == "train" and p.is_dir() and any(q.is_dir() for q in _entries(p)) for p in tops):
        lines = [f"{shown(p.name)}: did you mean {split}?" for p in tops if (split := meant(p.name)) and _divided(p)]
        if lines:
            right = "folders that hold the folders of classes must be called train, val and test"
            raise InputError(f"{shown(top)} has no train: {right}{listing(lines)}")
        return {"train": tops}
    splits: dict[str, list[Path]] = {}
    for path in tops:
        which, inside = SPLITS.get(path.name.lower()), _inside(path, top, bad)
        if inside and path.is_dir() and which and which not in splits:
            splits[which] = _entries(path)
        elif inside and not (path.is_dir() and not _entries(path)):
            hint = f": did you mean {near}?" if (near := meant(path.name)) else "."
            none = f"no split: beside train may lie val and test{hint}"
            bad.append(f"{shown(path.name)} is {f'a second folder of {which} images.' if which else none}")
    return {which: places for which, places in splits.items() if which == "train" or any(map(_filled, places))}


def meant(name: str) -> str | None:
    """What a split is called that such a name is near, as `training` is to `train`; None for that itself or others."""
    word = re.split(r"[^a-z]", name.lower())[0]
    near = difflib.get_close_matches(word, SPLITS, 1, 0.7)
    return near[0] if near and name.lower() not in SPLITS else None


def _divided(path: Path) -> bool:
    """Whether it holds folders, and nothing else, as a split does."""
    inner = _entries(path) if path.is_dir() else []
    return all(p.is_dir() for p in inner) and any(map(_filled, inner))


def _filled(path: Path) -> bool:
    return not path.is_dir() or bool(_entries(path))


def _files(places: Sequence[Path], top: Path, bad: list[str]) -> Iterator[tuple[str, Path]]:
    """Class and path of the images in the folders among `places`; what can be none goes to `bad`."""
    suffixes = {*extra("PIL.Image", "train", "reading images").registered_extensions(), ""}
    for place in places:
        if not _inside(place, top, bad):
            continue
        if not place.is_dir():
            bad.append(f"{shown(place.relative_to(top))} lies beside the folders of the classes: move it into one.")
            continue
        for path in _entries(place):
            name = shown(path.relative_to(top))
            if not _inside(path, top, bad):
                continue
            if not path.is_dir() and path.suffix.lower() in suffixes:
                yield place.name, path
            elif not path.is_dir():
                bad.append(f"{name} is no image by its suffix {path.suffix!r}.")
            elif _entries(path):
                bad.append(f"{name} is a folder: a class's images must lie in its folder itself.")


def _inside(path: Path, top: Path, bad: list[str]) -> bool:
    """Whether `path` may be followed; where it is a link to nothing or out of `top`, `bad` is told."""
    if not path.is_symlink():
        return True
    name = shown(path.relative_to(top))
    try:
        leaves = not path.resolve(strict=True).is_relative_to(top.resolve())
    except (OSError, RuntimeError):  # a loop is the latter before Python 3.13
        bad.append(f"{name} is a link to nothing.")
        return False
    if leaves:
        bad.append(f"{name} is a link out of the folder: copy what it leads to.")
    return not leaves
