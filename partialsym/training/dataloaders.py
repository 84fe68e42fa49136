"""Data loaders for training and validation, shared by the processes of distributed training."""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from partialsym._utils.validation import check
from partialsym.data import EpochBatchSampler, InMemoryBatches, LoaderBatches
from partialsym.data.batches.streaming import Stream, StreamBatchSampler
from partialsym.measure import BATCH


class ResumableBatchSampler(EpochBatchSampler):
    """A sampler that skips, once, the first `skip` batches, which an interrupted epoch has already used."""

    skip = 0

    def __iter__(self) -> Iterator[Tensor]:
        skip, self.skip = self.skip, 0
        yield from islice(super().__iter__(), skip, None)


def loaders(
    train: InMemoryBatches | LoaderBatches,
    validation: InMemoryBatches | LoaderBatches,
    batch_size: int,
    seed: int,
    repeats: int = 1,
    rank: int = 0,
    processes: int = 1,
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Data loaders for training and validation, which read whole batches by index.

    The order of an epoch depends only on (seed, epoch), except for a stream: see `Stream`. The processes share every
    batch and the validation images.

    Raises:
        ConfigError: there are fewer images than processes.
    """
    fewest = min(len(train), len(validation))
    check("trainer", processes, processes <= fewest, f"at most {fewest} processes: they share the validation images")
    size = min(batch_size, len(train) // processes * processes)
    order: ResumableBatchSampler | StreamBatchSampler
    if isinstance(train, LoaderBatches) and isinstance(train.source, Stream):
        order = StreamBatchSampler(train.source, size, seed, repeats, rank, processes)
    else:
        order = ResumableBatchSampler(train, size, seed, repeats, rank, processes)
    index, count = torch.arange(len(validation), device=validation.indices), len(validation)
    in_turn = index[rank::processes].tensor_split(math.ceil(count / (BATCH * processes)))  # as many in all processes
    return train.loader(order), validation.loader(in_turn)
