"""Split images by their originals, so that no copy of an image leaks from one split into another."""

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
    """Divide images into two parts: return the ascending indices of the first part and of the held-out part.

    round(fraction · number of distinct originals) originals are held out, with all their images.

    Args:
        originals: number of the original of each image, int64 [N].
        fraction: share of the originals that is held out, in (0, 1).
        seed: seed of the selection.
    Raises:
        ValueError: one of the parts would be empty.
    """
    distinct = originals.unique()
    count = round(fraction * len(distinct))
    if not 0 < count < len(distinct):
        raise InputError(f"fraction {fraction!r} of {len(distinct)} originals holds out {count}: one part is empty")
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

    Args:
        name: name of the data set.
        classes: names of the classes, in label order.
        pool: the images for training and validation.
        test: the test images.
        validation: share of the originals in `pool` that forms the validation split, in (0, 0.5].
        split_seed: seed that selects them, an int >= 0.
        mean_std: mean and std of each channel; by default those of the training split.
    Raises:
        ValueError: an argument is out of range, or a split would be empty.
    """
    check_validation(validation, split_seed)
    kept, held = split_by_original(pool.originals, validation, split_seed)
    train = pool.split(kept)
    mean, std = statistics(train.images) if mean_std is None else mean_std
    return Dataset(name, classes, train, pool.split(held), test.split(), mean, std)
