"""rotMNIST: digits rotated by random angles; 10,000 for training, 2,000 for validation, 50,000 for testing."""

import hashlib
import os
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from partialsym.data.base import Dataset
from partialsym.data.reading.download import data_root
from partialsym.data.sources.mnist import STATISTICS
from partialsym.data.sources.mnist_files import CONTENT_MD5, MIRRORS, read_mnist
from partialsym.data.splitting import Labelled
from partialsym.errors import InputError
from partialsym.groups.base import rotation
from partialsym.warp import warp

SIZES = {"train": 10_000, "validation": 2_000, "test": 50_000}
ARCHIVE, ARCHIVE_MD5 = "mnist_rotation_new.zip", "0f9a947ff3d30e95cd685462cbf3b847"
MEMBERS = (
    "mnist_all_rotation_normalized_float_train_valid.amat",
    "mnist_all_rotation_normalized_float_test.amat",
)
WIDTH, MOST_LINE = 28 * 28 + 1, 65_536
SEED = 0
GENERATED_SHA256 = "aab54414fb85820c6db90d363443dae7dd7a4e1fde0c271f046d9b852fe75a6c"


def rotmnist(
    root: str | os.PathLike[str] | None = None,
    *,
    validation: float = 0.1,
    split_seed: int = 0,
    archive_md5: str = ARCHIVE_MD5,
    sizes: Mapping[str, int] = SIZES,
    sha256: str | None = GENERATED_SHA256,
    mirrors: Sequence[str] = MIRRORS,
    content_md5: Mapping[str, str] = CONTENT_MD5,
) -> Dataset:
    """rotMNIST (Larochelle et al. 2007): the authors' `mnist_rotation_new.zip` in `root`, else generated from MNIST.

    The data set is named `rotMNIST` or `rotMNIST-generated` accordingly. The latter permutes all 70,000 digits of MNIST
    with a fixed seed, rotates each of the first 62,000 by an angle uniform in [0°, 360°) (bilinear, black background),
    and splits them in that order. The splits are fixed: `validation` and `split_seed` have no effect.

    `archive_md5`, `sizes` and `sha256` (of the generated pixels and labels; None for no check) are for files other than
    the official ones. Raises ValueError, naming the file, if a file is damaged or changed; for MNIST see `read_mnist`.
    """
    folder = data_root(root)
    archive = folder / ARCHIVE
    if archive.is_file():
        name, (images, labels) = "rotMNIST", read_archive(archive, archive_md5, sizes)
    else:
        if loose := next((file for file in MEMBERS if (folder / file).is_file()), None):
            right = f"must be inside {ARCHIVE} (MD5 {archive_md5}), which makes changes detectable"
            raise InputError(f"{folder / loose}: {right}; move it away to generate rotMNIST from MNIST instead")
        name = "rotMNIST-generated"
        images, labels = generate(read_mnist(root, mirrors=mirrors, content_md5=content_md5), sum(sizes.values()))
        found = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
        if sha256 is not None and found != sha256:
            raise InputError(
                f"rotMNIST generated from MNIST has sha256 {found}, expected {sha256}: not the same images"
            )
    everything = Labelled(images, labels, torch.arange(len(images)))
    parts, start = {}, 0
    for part, size in sizes.items():
        parts[part] = everything.split(slice(start, start := start + size))
    classes = tuple(str(digit) for digit in range(10))
    return Dataset(name, classes, parts["train"], parts["validation"], parts["test"], STATISTICS[:1], STATISTICS[1:])


def generate(arrays: Mapping[str, np.ndarray], count: int, seed: int = SEED) -> tuple[Tensor, Tensor]:
    """The first `count` of all MNIST digits in a random order given by `seed`, each rotated by a random angle.

    Returns uint8 images [count, 1, 28, 28] and int64 labels [count]. NumPy guarantees that the stream of RandomState
    does not change. In float64 no pixel is close enough to a half for rounding to depend on the machine.
    """
    random = np.random.RandomState(seed)
    chosen = random.permutation(len(arrays["y_train"]) + len(arrays["y_test"]))[:count]
    angles = torch.from_numpy(random.uniform(0, 2 * np.pi, len(chosen)))
    images, labels = (np.concatenate([arrays[f"{key}_train"], arrays[f"{key}_test"]])[chosen] for key in "xy")
    return turned(torch.from_numpy(images).unsqueeze(1), angles), torch.from_numpy(labels).long()


def turned(images: Tensor, angles: Tensor) -> Tensor:
    """Rotate each uint8 image [n, 1, H, W] counter-clockwise by its angle [n] (radians, float64).

    Interpolation is bilinear on a black background, and values are rounded. The images are processed in parts, because
    all of them in float64 would need gigabytes.
    """
    parts = zip(images.split(4096), angles.split(4096), strict=True)
    return torch.cat([(warp(part.double(), rotation(a)) + 0.5).floor().to(torch.uint8) for part, a in parts])


def read_archive(path: Path, md5: str, sizes: Mapping[str, int]) -> tuple[Tensor, Tensor]:
    """The authors' images, float32 [N, 1, 28, 28] in [0, 1], and labels, int64 [N]: training, validation, test.

    Raises ValueError if the archive is not that of the authors.
    """
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != md5:
        raise InputError(f"{path}: MD5 {found}, expected {md5}: damaged or not the authors' archive")
    expected = (sizes["train"] + sizes["validation"], sizes["test"])
    tables = []
    try:
        with zipfile.ZipFile(path) as archive:
            for member, count in zip(MEMBERS, expected, strict=True):
                with archive.open(member) as lines:
                    tables.append(torch.from_numpy(read_amat(lines, member, count)))
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: {error}") from None
    everything = torch.cat(tables)
    labels = everything[:, -1]
    if not torch.isin(labels, torch.arange(10.0)).all():
        raise InputError(f"{path}: labels span [{labels.min():g}, {labels.max():g}], expected whole numbers 0 to 9")
    return everything[:, :-1].unflatten(1, (1, 28, 28)).clamp(0, 1), labels.long()


def read_amat(file: IO[bytes], name: str, count: int) -> np.ndarray:
    """A table of numbers in text form, float32 [count, 785]: one line per image, with pixels and label.

    Raises ValueError, naming the file, if it is anything else. At most one more line is read.
    """
    lines = (_line(file, i) for i in range(count + 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the shape shows that a table is empty
        try:
            table = np.loadtxt(lines, dtype=np.float32, ndmin=2, comments=None)
        except ValueError as error:
            raise InputError(f"{name} is not a table of numbers: {' '.join(str(error).split())}") from None
    if table.shape != (count, WIDTH):
        raise InputError(f"{name} is {list(table.shape)}, expected [{count}, {WIDTH}]")
    if not np.isfinite(table).all():
        raise InputError(f"{name} contains numbers that are not finite")
    return table


def _line(file: IO[bytes], i: int) -> str:
    line = file.readline(MOST_LINE)
    if len(line) == MOST_LINE:
        raise InputError(f"line {i + 1} is longer than {MOST_LINE:,} characters")
    return line.decode("latin1")
