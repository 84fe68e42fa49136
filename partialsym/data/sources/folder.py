"""The user's own images: one folder of images per class."""

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
    """The images in `root/train/CLASS/*`, and in `root/val` and `root/test` if these exist, or in `root/CLASS/*`.

    Images are uint8, or float32 in [0, 1] if some have 16 bits. Classes are sorted by name, images by path. A missing
    split is split off from the training images at random (by seed), with the same share of every class: first `test` of
    them, then `validation` of the rest, each in (0, 0.5]. Identical files share an original. Hidden files and empty
    folders are skipped. A link may point to anything inside `root`.

    Args:
        size: height and width; None if all images have the same size.
        fit: how images are brought to that size, see `fitted`.
        channels: 1 for grey, 3 for RGB; None for 1 if all images are grey, else 3.
        range: the values of 16-bit grey images that are mapped to 0 and 1; values outside are clamped. None uses the
            smallest and the largest value of the training images. 8-bit images are always divided by 255. The range is
            logged, with a warning if the training images use less than a tenth of the given range, or of their type's.
        folds: divide the training images into this number of folds, and use fold number `fold` as the test split.
        split_by: a regular expression that finds in every file name what the file belongs to (a patient, a slide): its
            first group, or the whole match. Files that belong together share an original and are in the same split.
        stream: leave the images in their files. They are read once to be checked, and again whenever they are needed.
            The data set is the same; it needs less memory and more time.
        workers: number of processes that read streamed images; 0 reads them in this process.
    Raises:
        ValueError: files are not images (all in one message); sizes differ; a split lacks a class, a class has too few
            images, or two splits share a file; an argument is out of range; without `range`, no training image has 16
            bits but others have, or all values are equal; there is no `train`, but a folder with a similar name;
            `split_by` does not match a file name, or a group is in two splits, or there are too few groups.
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
        raise InputError(
            f"{shown(top)} has {found}: it must contain two classes or more, one folder per class{listing(bad)}"
        )
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
    """For each split: `images` per class, the `largest` class (the first of equals) and its `share` in (0, 1].

    For a stream, only the images in `train` are counted, which are a part of its images.
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
    """The group of the file according to its name. If the pattern does not match, a message is added to `bad`."""
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
    """The content of the folder of each split. Without a `train` that has folders, all of `top` is training images."""
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
            none = f"not a split: must be train, val or test{hint}"
            bad.append(f"{shown(path.name)} is {f'a second folder of {which} images.' if which else none}")
    return {which: places for which, places in splits.items() if which == "train" or any(map(_filled, places))}


def meant(name: str) -> str | None:
    """The name of the split that `name` resembles, as `training` resembles `train`; None for a split's own name."""
    word = re.split(r"[^a-z]", name.lower())[0]
    near = difflib.get_close_matches(word, SPLITS, 1, 0.7)
    return near[0] if near and name.lower() not in SPLITS else None


def _divided(path: Path) -> bool:
    """Whether the folder contains only folders, as a split does."""
    inner = _entries(path) if path.is_dir() else []
    return all(p.is_dir() for p in inner) and any(map(_filled, inner))


def _filled(path: Path) -> bool:
    return not path.is_dir() or bool(_entries(path))


def _files(places: Sequence[Path], top: Path, bad: list[str]) -> Iterator[tuple[str, Path]]:
    """Yield class and path of the images in the folders of `places`. For other files, a message is added to `bad`."""
    suffixes = {*extra("PIL.Image", "train", "reading images").registered_extensions(), ""}
    for place in places:
        if not _inside(place, top, bad):
            continue
        if not place.is_dir():
            bad.append(
                f"{shown(place.relative_to(top))} is beside the folders of the classes: move it into one of them."
            )
            continue
        for path in _entries(place):
            name = shown(path.relative_to(top))
            if not _inside(path, top, bad):
                continue
            if not path.is_dir() and path.suffix.lower() in suffixes:
                yield place.name, path
            elif not path.is_dir():
                bad.append(f"{name} is not an image according to its suffix {path.suffix!r}.")
            elif _entries(path):
                bad.append(f"{name} is a folder: the images of a class must be directly in its folder.")


def _inside(path: Path, top: Path, bad: list[str]) -> bool:
    """Whether `path` may be followed. For a broken link or a link out of `top`, a message is added to `bad`."""
    if not path.is_symlink():
        return True
    name = shown(path.relative_to(top))
    try:
        leaves = not path.resolve(strict=True).is_relative_to(top.resolve())
    except (OSError, RuntimeError):  # before Python 3.13 a loop raises RuntimeError
        bad.append(f"{name} is a broken link.")
        return False
    if leaves:
        bad.append(f"{name} is a link out of the folder: copy the file that it points to.")
    return not leaves
