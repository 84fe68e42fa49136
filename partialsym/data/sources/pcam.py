"""PatchCamelyon (PCam): patches of lymph nodes, with or without tumour."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from partialsym.data.base import Dataset, check_validation, statistics
from partialsym.data.reading.download import data_root, extra
from partialsym.data.splitting import Labelled
from partialsym.errors import InputError

SPLITS = {"train": "train", "validation": "valid", "test": "test"}  # our name → the name in the files
SHAPES = {"x": (96, 96, 3), "y": (1, 1, 1)}
CLASSES = ("no tumour", "tumour")
HOME = "https://github.com/basveeling/pcam"
MOST_IMAGES = 2**18  # of the training split
BLOCK = 4096  # images per read; reading all at once in the file's layout would need 7 GB more


def pcam(
    root: str | os.PathLike[str] | None = None,
    *,
    validation: float = 0.1,
    split_seed: int = 0,
) -> Dataset:
    """PCam with its own splits of 262,144 / 32,768 / 32,768 RGB images of 96x96 (9 GB of memory).

    The images are read from the six official files `camelyonpatch_level_2_split_*.h5` in `root` or `root/pcam`.
    `validation` and `split_seed` are checked but have no effect. `originals` numbers the images of train, validation
    and test consecutively. Statistics are those of the training split.

    Raises FileNotFoundError if a file is missing (nothing is downloaded), ValueError, naming the file, if one is
    damaged, and ImportError without h5py.
    """
    check_validation(validation, split_seed)
    folder = data_root(root)
    names = {(split, key): f"camelyonpatch_level_2_split_{SPLITS[split]}_{key}.h5" for split in SPLITS for key in "xy"}
    paths = {which: _find(folder, name) for which, name in names.items()}
    parts, start = {}, 0
    for split in SPLITS:
        images, labels = _read(paths[split, "x"], "x"), _read(paths[split, "y"], "y").flatten().long()
        if len(labels) != len(images):
            raise InputError(f"{paths[split, 'y']}: {len(labels)} labels, expected {len(images)}, one per image")
        if (top := int(labels.max())) > 1:
            raise InputError(f"{paths[split, 'y']}: label {top}, expected 0 or 1")
        originals = torch.arange(start, start := start + len(images))
        parts[split] = Labelled(images, labels, originals).split()
    mean, std = statistics(parts["train"].images)
    return Dataset("PCam", CLASSES, parts["train"], parts["validation"], parts["test"], mean, std)


def _find(folder: Path, name: str) -> Path:
    places = (folder, folder / "pcam")
    for place in places:
        if (path := place / name).is_file():
            return path
    for place in places:
        if (packed := place / f"{name}.gz").is_file():
            raise FileNotFoundError(f"no {name}, but {packed}: unpack it (gunzip) first")
    raise FileNotFoundError(f"no {name} in {folder} or {places[1]}: download and unpack it by hand, see {HOME}")


def _read(path: Path, key: str) -> Tensor:
    """Array `key` of an HDF5 file, uint8 [N, H, W, C], as a tensor [N, C, H, W]."""
    height, width, channels = SHAPES[key]
    expected = f"expected uint8 {['N', *SHAPES[key]]} under {key!r}".replace("'N'", "N")
    h5py = extra("h5py", "pcam", "PCam")
    try:
        with h5py.File(path, "r") as file:
            if not isinstance(file.get(key, getlink=True), h5py.HardLink | None):
                raise InputError(f"{path}: {key!r} is a link to another file or object, {expected}")
            if not isinstance(data := file.get(key), h5py.Dataset):
                raise InputError(f"{path}: no array {key!r}, found {sorted(file)}: {expected}")
            if data.dtype != np.uint8 or data.ndim != 4 or data.shape[1:] != SHAPES[key] or not len(data):
                raise InputError(f"{path}: {data.dtype} {list(data.shape or ())}, {expected}, N >= 1")
            if data.external or data.is_virtual:
                raise InputError(f"{path}: {key!r} is stored in other files, {expected}")
            if len(data) > MOST_IMAGES:  # the file can declare more than it holds
                raise InputError(f"{path}: declares {len(data):,} images, {expected}, N <= {MOST_IMAGES:,}")
            result = torch.empty(len(data), channels, height, width, dtype=torch.uint8)
            for start in range(0, len(data), BLOCK):
                block = torch.from_numpy(data[start : start + BLOCK])
                result[start : start + BLOCK] = block.permute(0, 3, 1, 2)
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: damaged or not an HDF5 file ({reason}): {expected}") from None
    return result
