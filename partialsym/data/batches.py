"""Batches by index of images that stay on the device: no image is fetched, converted or copied by itself."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from partialsym.data.base import Split, as_float


class Resident(Dataset[tuple[Tensor, Tensor]]):
    """A split that lives on a device; `resident[index]`, at an int64 index tensor [B], is a batch: images and labels.

    Args:
        split: uint8 images stay uint8 until they are in a batch.
        preprocess: images [B, C, H, W] in [0, 1] → what the model takes; called on the device.
        device: where split and batches are.
        augment: for training: images [B, C, H, W], float32 in [0, 1], → the same; called on the device, before
            `preprocess`.
    """

    def __init__(
        self,
        split: Split,
        preprocess: Callable[[Tensor], Tensor],
        device: torch.device | str = "cpu",
        augment: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.images, self.labels = split.images.to(device), split.labels.to(device)
        self.preprocess, self.augment = preprocess, augment

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor]:
        images = as_float(self.images[index])
        if self.augment is not None:
            images = self.augment(images)
        return self.preprocess(images), self.labels[index]


class Order(Sampler[Tensor]):
    """The index tensors of the batches of an epoch, in an order that depends on (seed, epoch) alone.

    What is left over is dropped. Of several processes each has its share of every batch: together they see the images
    that one process would.

    Args:
        resident: what is batched.
        batch_size: images of a batch, over all processes.
        seed: of the order.
        repeats: passes over the images that make an epoch, each in an order of its own.
        rank, processes: which process this is, of how many.
    Raises:
        ValueError: not one batch comes together, or it cannot be shared equally.
    """

    def __init__(
        self, resident: Resident, batch_size: int, seed: int, repeats: int = 1, rank: int = 0, processes: int = 1
    ) -> None:
        if not 1 <= batch_size <= len(resident):
            raise ValueError(f"batch_size is {batch_size}: it must be from 1 to {len(resident)}, the images there are")
        if batch_size % processes:
            raise ValueError(f"batch_size is {batch_size}: it must be a multiple of {processes}, the processes")
        self.resident, self.batch_size, self.seed, self.repeats, self.epoch = resident, batch_size, seed, repeats, 0
        self.share = slice(rank, None, processes)

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls it before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.repeats * len(self.resident) // self.batch_size

    def __iter__(self) -> Iterator[Tensor]:
        # Drawn at the first batch, not here: a loop may ask for the iterator before it sets the epoch.
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        passes = [torch.randperm(len(self.resident), generator=generator) for _ in range(self.repeats)]
        order = torch.cat(passes)[: len(self) * self.batch_size]
        for batch in order.to(self.resident.labels.device).split(self.batch_size):
            yield batch[self.share]
