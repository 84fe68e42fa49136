"""Batches of images that are on the device or read by workers. Images are converted and copied in whole batches."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from partialsym.data.base import Split
from partialsym.data.batches.streaming import Decoding, Stream
from partialsym.data.reading.lazy import LazyImages, Reading
from partialsym.data.reading.levels import as_float
from partialsym.data.reading.loader import Keys, Loader
from partialsym.errors import InputError


class _Batches:
    """The processing of the pixels and labels of a batch."""

    def __init__(
        self,
        preprocess: Callable[[Tensor], Tensor],
        device: torch.device | str = "cpu",
        augment: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.preprocess, self.device, self.augment = preprocess, device, augment

    def ready(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        images, labels = (
            values.to(self.device, non_blocking=True) for values in batch
        )  # batches on the CPU are pinned
        images = as_float(images)
        if self.augment is not None:
            images = self.augment(images)
        return self.preprocess(images), labels


class InMemoryBatches(_Batches, Dataset[tuple[Tensor, Tensor]]):
    """A split on a device. Indexing it with an int64 tensor [B] returns a batch of images and labels.

    Args:
        split: the split. uint8 images remain uint8 until they are in a batch.
        preprocess: images [B, C, H, W] in [0, 1] → the model's input; called on the device.
        device: device of the split and the batches.
        augment: for training, a function from images [B, C, H, W], float32 in [0, 1], to images of the same kind. It is
            called on the device, before `preprocess`.
    """

    def __init__(
        self,
        split: Split,
        preprocess: Callable[[Tensor], Tensor],
        device: torch.device | str = "cpu",
        augment: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(preprocess, device, augment)
        self.images, self.labels = split.images[:].to(device), split.labels.to(device)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def indices(self) -> torch.device:
        """The device of indices."""
        return self.labels.device

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor]:
        return self.ready((self.images[index], self.labels[index]))

    def loader(self, order: Keys) -> DataLoader[Any]:
        """A loader of the batches at the index tensors in `order`."""
        # A DataLoader draws a seed for its workers, which must not come from the global generator.
        return DataLoader(self, batch_size=None, sampler=order, generator=torch.Generator())


class LoaderBatches(_Batches):
    """Like `InMemoryBatches`, for images that workers read in batches.

    All other processing happens in this process when a batch is requested, so that the generators draw the same numbers
    as for `InMemoryBatches`.

    Args:
        source: a split with `LazyImages`, or a stream.
    """

    def __init__(
        self,
        source: Split | Stream,
        preprocess: Callable[[Tensor], Tensor],
        device: torch.device | str = "cpu",
        augment: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(preprocess, device, augment)
        self.source, self.indices = source, torch.device("cpu")

    def __len__(self) -> int:
        return len(self.source)

    def loader(self, order: Keys) -> DataLoader[Any]:
        """A loader of the batches in `order`: index tensors for a split, image sources for a stream."""
        pinned = torch.device(self.device).type == "cuda"
        if isinstance(self.source, Stream):
            items = Decoding(self.source.how, self.source.shape)
            return Loader(items, order, self.source.workers, self.ready, pinned=pinned)
        images = self.source.images
        assert isinstance(images, LazyImages)
        return Loader(Reading(images, self.source.labels), order, images.workers, self.ready, pinned=pinned)


def batched(
    source: Split | Stream,
    preprocess: Callable[[Tensor], Tensor],
    device: torch.device | str = "cpu",
    augment: Callable[[Tensor], Tensor] | None = None,
) -> InMemoryBatches | LoaderBatches:
    """`InMemoryBatches` if the images are in memory, else `LoaderBatches`."""
    if isinstance(source, Split) and isinstance(source.images, Tensor):
        return InMemoryBatches(source, preprocess, device, augment)
    return LoaderBatches(source, preprocess, device, augment)


class EpochBatchSampler(Sampler[Tensor]):
    """The index tensors of the batches of an epoch, in an order that depends only on (seed, epoch).

    An incomplete last batch is dropped. Several processes share every batch equally: together they use the same images
    as a single process.

    Args:
        batches: the batches.
        batch_size: number of images of a batch, summed over all processes.
        seed: seed of the order.
        repeats: number of passes over the images per epoch, each in a different order.
        rank, processes: index of this process, and number of processes.
    Raises:
        ValueError: there are fewer images than one batch, or a batch cannot be shared equally.
    """

    def __init__(
        self,
        batches: InMemoryBatches | LoaderBatches,
        batch_size: int,
        seed: int,
        repeats: int = 1,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        if not 1 <= batch_size <= len(batches):
            raise InputError(f"batch_size is {batch_size}: it must be from 1 to {len(batches)}, the number of images")
        if batch_size % processes:
            raise InputError(
                f"batch_size is {batch_size}: it must be a multiple of {processes}, the number of processes"
            )
        self.images, self.indices = len(batches), batches.indices
        self.batch_size, self.seed, self.repeats, self.epoch = batch_size, seed, repeats, 0
        self.share = slice(rank, None, processes)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch. Lightning calls this before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.repeats * self.images // self.batch_size

    def __iter__(self) -> Iterator[Tensor]:
        # The order is drawn at the first batch, because a loop may request the iterator before it sets the epoch.
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        passes = [torch.randperm(self.images, generator=generator) for _ in range(self.repeats)]
        order = torch.cat(passes)[: len(self) * self.batch_size]
        for batch in order.to(self.indices).split(self.batch_size):
            yield batch[self.share]
