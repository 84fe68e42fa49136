"""Which images are held out: by original, so that nothing leaks between the sides."""

from typing import NamedTuple

import torch
from torch import Tensor

from partialsym.data.base import Dataset, Split, check_validation, statistics
from partialsym.errors import InputError


class Labelled(NamedTuple):
    """Images [N, C, H, W] (uint8, or float in [0, 1]) before they are split; labels, originals int64 [N]."""

    images: Tensor
    labels: Tensor
    originals: Tensor

    def split(self, index: Tensor | slice = slice(None)) -> Split:
        """The images at `index` as a Split."""
        return Split(self.images[index], self.labels[index], self.originals[index])


def split_by_original(originals: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices (kept, held out), each ascending: round(fraction * distinct originals) are held out.

    `originals` int64 [N]; `fraction` in (0, 1); all images of an original fall on the same side. Raises
    ValueError where a side would be empty.
    """
    distinct = originals.unique()
    count = round(fraction * len(distinct))
    if not 0 < count < len(distinct):
        raise InputError(f"fraction {fraction!r} of {len(distinct)} originals holds out {count}: a side is empty")
    order = torch.randperm(len(distinct), generator=torch.Generator().manual_seed(seed))
    held = torch.isin(originals, distinct[order[:count]])
    return (~held).nonzero().squeeze(1), held.nonzero().squeeze(1)


def assemble(
    name: str,
    classes: tuple[str, ...],
    pool: Labelled,
    test: Labelled,
    *,
    validation: float,
    split_seed: int,
    mean_std: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
) -> Dataset:
    """A Dataset whose training and validation splits divide `pool`.

    `mean_std`: its mean and std, by channel; by default those of the training split.
    """
    check_validation(validation, split_seed)
    kept, held = split_by_original(pool.originals, validation, split_seed)
    train = pool.split(kept)
    mean, std = statistics(train.images) if mean_std is None else mean_std
    return Dataset(name, classes, train, pool.split(held), test.split(), mean, std)
