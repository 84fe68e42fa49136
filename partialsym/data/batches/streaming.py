"""Stream the training images of a Hugging Face data set, approximately shuffled."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset as Items, Sampler

from partialsym.data.base import Dataset, Split
from partialsym.data.reading import shown
from partialsym.data.reading.download import extra
from partialsym.data.reading.image_source import ImageOptions, ImageSource, stacked
from partialsym.errors import InputError

HEAD = 4096  # images that are read before training
BUFFER = 1000  # images that are shuffled at a time, undecoded
SHARDS = 64  # shards of a data set on disk from which the head is shuffled


class Rows(NamedTuple):
    """A split of Hugging Face's `datasets`, with its columns of images, labels and groups.

    If it is `remote`, paths with `://` are opened as URLs.
    """

    split: Any
    image: str
    label: str
    remote: bool = False
    group: str | None = None

    def undecoded(self) -> "Rows":
        """The same rows with images as bytes or paths, without other columns."""
        if hasattr(self.split, "decode"):  # after decoding in threads, a cast would encode the images again
            plain = self.split.decode(False)
        else:
            datasets = extra("datasets", "hf", "a Hugging Face data set")
            plain = self.split.cast_column(self.image, datasets.Image(decode=False))
        return self._replace(
            split=plain.select_columns([c for c in (self.image, self.label, self.group) if c is not None])
        )

    def pictures(self, name: str) -> Iterator[ImageSource]:
        """Yield the images of undecoded rows in order.

        In `name`, `{i}` becomes the number of the image and `{path}` its path.

        Raises:
            ValueError, OSError: a row cannot be read.
        """
        i = -1
        try:
            for i, row in enumerate(self.split):
                held, label = row[self.image] or {}, row[self.label]
                path = held.get("path") or ""
                called = name.format(i=i, path=f" ({shown(path)})" if path else "")
                lies = path if self.remote and "://" in path else Path(path) if path else None
                group = None if self.group is None else str(row[self.group])
                yield ImageSource(called, -1 if label is None else label, held.get("bytes") or lies, group)
        except OSError:
            raise
        except Exception as error:  # the library's errors have no common base
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{name.format(i=i + 1, path='')} cannot be read: {reason}") from None


@dataclass(frozen=True, eq=False)
class Stream:
    """Training images that are read from their shards when they are needed.

    In every epoch the shards are shuffled and read ten at a time, through a shuffle buffer of 1,000 images. If the
    number of shards is a multiple of the number of processes, each process reads its own shards; otherwise each reads
    all shards and uses its part of the images. A data set on disk is divided into as many shards as a batch has images,
    so that no image occurs twice in an epoch. If shards of the Hub differ in size, a process that has used all its
    images starts again with the first ones.

    Args:
        name: name of the data set.
        rows: undecoded rows.
        how: how images are read.
        shape: required [C, H, W] of the images.
        workers: number of processes that decode.
    Raises:
        ValueError: the number of images is unknown.
    """

    name: str
    rows: Rows
    how: ImageOptions
    shape: tuple[int, ...] = ()
    workers: int = 2

    def __post_init__(self) -> None:
        if not len(self):
            raise InputError(f"{self.name} does not say how many training images it has: a stream needs their number")

    def __len__(self) -> int:
        split = self.rows.split
        if hasattr(split, "__len__"):
            return len(split)
        known = split.info.splits or {}
        return known[str(split.split)].num_examples if str(split.split) in known else 0

    def head(self) -> Iterator[ImageSource]:
        """The first images, shuffled with the seed of the split."""
        rows = self.rows._replace(split=self.shuffled(self.how.split_seed, SHARDS))
        return islice(rows.pictures("training image {i} of the stream{path}"), HEAD)

    def shuffled(self, seed: int, shards: int, rank: int = 0, processes: int = 1) -> Any:
        """The rows of one process. A data set on disk is divided into this number of shards."""
        split = self.rows.split
        if hasattr(split, "to_iterable_dataset"):
            split = split.to_iterable_dataset(num_shards=min(shards, len(split)))
        library = extra("datasets.distributed", "hf", "a Hugging Face data set")
        return library.split_dataset_by_node(split.shuffle(seed, buffer_size=BUFFER), rank, processes)


@dataclass(frozen=True, eq=False)
class StreamedDataset(Dataset):
    """A streamed data set. `train` holds only its first training images, for the statistics of pixels and BatchNorm."""

    stream: Stream = field(kw_only=True)

    def with_train(self, count: int, seed: int) -> "Dataset":
        """Raise ValueError, because not all images are in memory to select from."""
        raise InputError(f"{self.name} is streamed: {count} of its training images cannot be selected, use all")


def trained_on(data: Dataset) -> Split | Stream:
    """The images to train on: the stream of a streamed data set, else `train`."""
    return data.stream if isinstance(data, StreamedDataset) else data.train


class StreamBatchSampler(Sampler[list[ImageSource]]):
    """The image sources of the batches of an epoch for one process: like `EpochBatchSampler`, in the order of a stream.

    `skip`: number of batches to skip, once, which an interrupted epoch has already used. They are read, not decoded.
    """

    def __init__(
        self, stream: Stream, batch_size: int, seed: int, repeats: int = 1, rank: int = 0, processes: int = 1
    ) -> None:
        self.stream = stream
        self.rows = stream.rows._replace(split=stream.shuffled(seed, batch_size, rank, processes))
        self.batch_size, self.share, self.repeats = batch_size, batch_size // processes, repeats
        self.epoch = self.skip = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch. Lightning calls this before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.repeats * len(self.stream) // self.batch_size

    def __iter__(self) -> Iterator[list[ImageSource]]:
        skip, self.skip = self.skip, 0
        pictures = islice(self._pictures(), skip * self.share, len(self) * self.share)
        while batch := list(islice(pictures, self.share)):
            yield batch

    def _pictures(self) -> Iterator[ImageSource]:
        """An endless iterator over the images."""
        for turn in count(self.epoch * self.repeats):
            self.rows.split.set_epoch(turn)  # shuffles in a new order
            found = None
            for found in self.rows.pictures(f"image {{i}} of pass {turn + 1}{{path}}"):
                yield found
            if found is None:
                raise InputError(f"{self.stream.name} has no training images for one of the processes: use fewer")


class Decoding(Items[tuple[Tensor, Tensor]]):
    """Decode batches of image sources to images and labels."""

    def __init__(self, how: ImageOptions, shape: tuple[int, ...]) -> None:
        self.how, self.shape = how, shape

    def __getitem__(self, pictures: Iterable[ImageSource]) -> tuple[Tensor, Tensor]:
        pictures = list(pictures)
        return stacked(pictures, self.how, self.shape), torch.tensor([picture.label for picture in pictures])
