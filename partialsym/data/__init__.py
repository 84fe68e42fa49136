"""Data sets: each name is one function that returns its training, validation and test splits."""

import os
from difflib import SequenceMatcher

from partialsym.data.base import Dataset, Split, check_validation
from partialsym.data.batches.batching import EpochBatchSampler, InMemoryBatches, LoaderBatches, batched
from partialsym.data.batches.streaming import trained_on
from partialsym.data.reading.levels import as_float
from partialsym.data.sources.pairs import pairs
from partialsym.data.splitting import split_by_original
from partialsym.data.transforms import Preprocessing, augmentation, normalise
from partialsym.errors import InputError
from partialsym.registry import DATASETS

__all__ = [
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
    if name not in DATASETS:
        nearest = max(DATASETS, key=lambda known: _likeness(known, str(name)))
        raise InputError(f"unknown data set {name!r}: did you mean {nearest!r}? Valid: {', '.join(DATASETS)}")
    check_validation(validation, split_seed)
    return DATASETS[name](root, validation=validation, split_seed=split_seed)


def _likeness(a: str, b: str) -> float:
    return SequenceMatcher(None, a.lower(), b.lower()).ratio()
