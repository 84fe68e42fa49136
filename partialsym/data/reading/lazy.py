"""Images that are read from their files when they are needed."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from partialsym.data.reading import shown
from partialsym.data.reading.image_source import ImageOptions, ImageSource, stacked
from partialsym.data.reading.loader import Loader


class LazyImages:
    """Images [N, C, H, W] in files, uint8, or float32 in [0, 1] if `how` has a range.

    The interface is that of a tensor, but files are read only by `to`, `split` and indexing with an int, which return
    tensors. Reading raises ValueError or FileNotFoundError, with a message that starts with the path, if a file has
    changed.

    Args:
        files: one per image.
        how: how they are read.
        shape: [C, H, W].
        workers: number of processes that read for `split`.
    """

    ndim = 4

    def __init__(self, files: Sequence[Path], how: ImageOptions, shape: tuple[int, ...], workers: int = 0) -> None:
        # one array instead of a list, because workers can share its memory
        self._files = np.array([os.fsencode(file.absolute()) for file in files], dtype=np.bytes_)
        self._how, self._shape, self.workers = how, shape, workers

    def __len__(self) -> int:
        return len(self._files)

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8 if self._how.range is None else torch.float32

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), *self._shape))

    def numel(self) -> int:
        return self.shape.numel()

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int):
            return self[[index]].to(self.dtype)[0]
        chosen = object.__new__(type(self))
        chosen.__dict__ |= self.__dict__
        chosen._files = self._files[index.numpy() if isinstance(index, Tensor) else index]
        return chosen

    def to(self, *where: Any) -> Tensor:
        """Read all images in this process, and move them to a device or dtype."""
        paths = [Path(os.fsdecode(file)) for file in self._files]
        pictures = (ImageSource(shown(path), 0, path) for path in paths)
        return stacked(pictures, self._how, self._shape).to(*where)

    def split(self, size: int) -> Iterator[Tensor]:
        """Batches of `size` images, read by workers."""
        parts = [slice(i, i + size) for i in range(0, len(self), size)]
        for images, _ in Loader(Reading(self, torch.zeros(len(self))), parts, self.workers):
            yield images


class Reading(Dataset[tuple[Tensor, Tensor]]):
    """Read batches of images, with their labels, by index."""

    def __init__(self, images: LazyImages, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __getitem__(self, index: Any) -> tuple[Tensor, Tensor]:
        return self.images[index].to("cpu"), self.labels[index]
