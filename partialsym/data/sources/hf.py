"""Image data sets from the Hugging Face Hub, or saved by its library."""

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from partialsym.data.base import Dataset
from partialsym.data.batches.streaming import Rows, Stream, StreamedDataset
from partialsym.data.reading import Fit, Range
from partialsym.data.reading.download import extra
from partialsym.data.reading.image_source import ImageOptions
from partialsym.data.sources.build import ORDER, gather
from partialsym.data.sources.folder import SPLITS, meant
from partialsym.errors import InputError

log = logging.getLogger(__name__)


def hf(
    name: str,
    *,
    config: str | None = None,
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
    root: str | os.PathLike[str] | None = None,
    image: str | None = None,
    label: str | None = None,
    stream: bool = False,
    workers: int = 2,
) -> Dataset:
    """A data set of Hugging Face's `datasets`: `name` on the Hub, or a folder written by its `save_to_disk`.

    The data set's own train, validation and test splits are used. Missing ones are split off from train as by `folder`;
    other splits are ignored. Classes are in the order of the data set's labels. For `size` to `range` see `folder`.

    Args:
        name: the data set. An existing folder is never looked up on the Hub; its last part is the name of the data set.
        config: the configuration, if the data set has several.
        split_by: column with the group of each image; see `folder`.
        root: folder of downloads; by default that of `datasets`.
        image: column of images, by default the only one of type Image.
        label: column of labels, by default the only one of type ClassLabel.
        stream: read the training images when they are needed, without downloading them: see `Stream`. `train` holds
            the first 4,096 of them, shuffled by `split_seed`. Only these are checked in advance: they determine mean,
            std and range, the size and channels if not given, and are compared with the files of validation and test.
        workers: number of processes that decode streamed images; 0 decodes them in this process.
    Raises:
        ValueError: there is no train split; a column does not exist or is ambiguous; `folder` would reject the images
            or arguments; a label is missing or -1; the data set cannot be loaded; a stream has unknown length, or no
            validation or test images, because a stream cannot be split.
        FileNotFoundError, OSError: the data set does not exist, or cannot be downloaded.
        ImportError: `datasets` is missing.
    """
    how = ImageOptions(size, fit, channels, validation, test, split_seed, range, folds, fold)
    splits = _splits(_load(name, config, root, stream), name)
    if stream and (missing := [which for which in ORDER if which not in splits]):
        raise InputError(f"{name} has no {' and no '.join(missing)} images: a stream cannot be split")
    features = splits["train"].features or {}  # None for some streams
    datasets = extra("datasets", "hf", "a Hugging Face data set")
    of_images = _column(features, datasets.Image, "image", image, name)
    of_labels = _column(features, datasets.ClassLabel, "label", label, name)
    if split_by is not None and split_by not in features:
        raise InputError(f"{name}: split_by is {split_by!r}: it must be a column, one of {', '.join(features)}")
    for which, split in splits.items():
        others = split.features or {}
        if others.get(of_labels) != features[of_labels] or of_images not in others:
            raise InputError(f"{name}: the columns of {which} differ from those of train: they must be the same")
    remote = stream and not hasattr(splits["train"], "to_iterable_dataset")
    rows = {which: Rows(split, of_images, of_labels, remote, split_by).undecoded() for which, split in splits.items()}
    parts = {which: found.pictures(f"{which}[{{i}}]") for which, found in rows.items()}
    classes = tuple(features[of_labels].names)
    called = place.name if (place := _folder(name)) else name
    if not stream:
        return gather(called, classes, parts, how)
    flow = Stream(called, rows["train"], how, workers=workers)
    data = gather(called, classes, {**parts, "train": flow.head()}, how, head=True)
    known = replace(flow, how=replace(how, range=data.range), shape=(data.channels, *data.size))
    return StreamedDataset(**vars(data), stream=known)


def _load(name: str, config: str | None, root: str | os.PathLike[str] | None, stream: bool) -> Any:
    datasets = extra("datasets", "hf", "a Hugging Face data set")
    place = _folder(name)
    try:
        if place:
            return datasets.load_from_disk(str(place))
        options = {"streaming": True} if stream else {}
        return datasets.load_dataset(name, config, cache_dir=None if root is None else os.fspath(root), **options)
    except FileNotFoundError as error:
        hint = " (images in folders of their own: data source `folder`)" * bool(place)
        raise FileNotFoundError(f"{_line(error)}{hint}") from None
    except (OSError, ImportError):
        raise
    except Exception as error:  # the library's errors have no common base
        raise InputError(f"{name} cannot be loaded: {_line(error)}") from None


def _folder(name: str) -> Path | None:
    """The folder of a saved data set with that name, or None."""
    place = Path(name).expanduser()
    return place.resolve() if place.is_dir() else None


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _splits(loaded: Any, name: str) -> dict[str, Any]:
    """The splits by our names. A data set without splits becomes the training split."""
    if not isinstance(loaded, Mapping):
        return {"train": loaded}
    splits: dict[str, Any] = {}
    for key, split in loaded.items():
        which = SPLITS.get(key.lower())
        if which in splits:
            raise InputError(f"{name} has splits {list(loaded)}: only one may contain {which} images")
        if which is not None:
            splits[which] = split
    if "train" not in splits:
        hint = "".join(f"; {key!r} has a similar name" for key in loaded if meant(key) == "train")
        raise InputError(f"{name} has splits {list(loaded)}: one must be train{hint}")
    for key in loaded:
        if (right := meant(key)) and SPLITS[right] not in splits:
            log.warning("%s: split %r is left out: did you mean %s?", name, key, right)
    return splits


def _column(features: Mapping[str, Any], kind: type, argument: str, asked: str | None, name: str) -> str:
    """The column `asked`, or the only one of type `kind`."""
    found = [column for column, feature in features.items() if isinstance(feature, kind)]
    if asked in found:
        return str(asked)
    if asked is None and len(found) == 1:
        return found[0]
    columns = ", ".join(f"{column!r} ({type(feature).__name__})" for column, feature in features.items())
    what = f"{argument} is {asked!r}" if asked is not None else f"{len(found)} columns of type {kind.__name__}"
    right = f"one of {', '.join(map(repr, found))}" if found else f"of type {kind.__name__}"
    raise InputError(f"{name}: {what}: {argument} must be {right}. Columns: {columns}")
