"""Data sets: each name is one function that returns its training, validation and test splits."""

import os
from collections.abc import Callable
from difflib import SequenceMatcher
from functools import partial

from partialsym.data.base import Dataset, Split, check_validation
from partialsym.data.batches.batching import EpochBatchSampler, InMemoryBatches, LoaderBatches, batched
from partialsym.data.batches.streaming import trained_on
from partialsym.data.reading.levels import as_float
from partialsym.data.sources.cifar import cifar
from partialsym.data.sources.digits import digits
from partialsym.data.sources.mnist import mnist, mnist6
from partialsym.data.sources.pairs import pairs
from partialsym.data.sources.pcam import pcam
from partialsym.data.sources.rotmnist import rotmnist
from partialsym.data.sources.sectors import sectors
from partialsym.data.splitting import split_by_original
from partialsym.data.transforms import Preprocessing, augmentation, normalise

__all__ = [
    "SOURCES",
    "Dataset",
    "EpochBatchSampler",
    "InMemoryBatches",
    "LoaderBatches",
    "Preprocessing",
    "Split",
    "as_float",
    "augmentation",
    "batched",
    "load",
    "normalise",
    "pairs",
    "split_by_original",
    "trained_on",
]

SOURCES: dict[str, Callable[..., Dataset]] = {
    "digits-6-180": partial(digits, "180"),
    "digits-6-M": partial(digits, "M"),
    "MNIST": mnist,
    "MNIST6-180": partial(mnist6, "180"),
    "MNIST6-M": partial(mnist6, "M"),
    "rotMNIST": rotmnist,
    **{f"sectors-{count}": partial(sectors, count) for count in (2, 3, 4, 6)},
    "CIFAR-10": partial(cifar, "CIFAR-10"),
    "CIFAR-100": partial(cifar, "CIFAR-100"),
    "PCam": pcam,
}


def load(
    name: str, root: str | os.PathLike[str] | None = None, *, validation: float = 0.1, split_seed: int = 0
) -> Dataset:
    """The data set called `name`, its pixels uint8, or float32 in [0, 1] (the digits), not normalised.

    `root`: folder of the files (downloaded there where missing); by default `PARTIALSYM_DATA`, else a cache
    folder of the user's. `validation`: fraction of the training originals held out, in (0, 0.5].
    `split_seed`: an int >= 0 that picks which; the test split does not depend on it, and neither does
    loading touch the global generators. The digits sets come with scikit-learn and ignore `root`.

    Raises ValueError (unknown name, bad fraction or seed, damaged file), FileNotFoundError (`root` is not a
    folder), OSError (download failed), ImportError (a missing extra).
    """
    if name not in SOURCES:
        nearest = max(SOURCES, key=lambda known: _likeness(known, str(name)))
        raise ValueError(f"unknown data set {name!r}: did you mean {nearest!r}? Valid: {', '.join(SOURCES)}")
    check_validation(validation, split_seed)
    return SOURCES[name](root, validation=validation, split_seed=split_seed)


def _likeness(a: str, b: str) -> float:
    return SequenceMatcher(None, a.lower(), b.lower()).ratio()
