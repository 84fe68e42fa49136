"""Data sets: for each name, one function returns the training, validation and test splits."""

import os
from difflib import SequenceMatcher

from partialsym.data.base import Dataset, Split, check_validation, in_turn
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
    "in_turn",
    "load",
    "normalise",
    "pairs",
    "split_by_original",
    "trained_on",
]


def load(
    name: str, root: str | os.PathLike[str] | None = None, *, validation: float = 0.1, split_seed: int = 0
) -> Dataset:
    """Load the data set `name`. Its pixels are uint8, or float32 in [0, 1] (the digits), and not normalised.

    Args:
        name: a registered name.
        root: folder of the files. Missing files are downloaded to it. Default `PARTIALSYM_DATA`, else the user's cache
            folder. The digits sets come with scikit-learn and ignore it.
        validation: fraction of the training originals that forms the validation split, in (0, 0.5].
        split_seed: an int >= 0 that selects these originals. The test split does not depend on it. The global
            generators are not used.
    Raises:
        ValueError: the name is unknown, the fraction or the seed is invalid, or a file is damaged.
        FileNotFoundError: `root` is not a folder.
        OSError: the download failed.
        ImportError: an extra is missing.
    """
    if name not in DATASETS:
        nearest = max(DATASETS, key=lambda known: _likeness(known, str(name)))
        raise InputError(f"unknown data set {name!r}: did you mean {nearest!r}? Valid: {', '.join(DATASETS)}")
    check_validation(validation, split_seed)
    return DATASETS[name](root, validation=validation, split_seed=split_seed)


def _likeness(a: str, b: str) -> float:
    return SequenceMatcher(None, a.lower(), b.lower()).ratio()
