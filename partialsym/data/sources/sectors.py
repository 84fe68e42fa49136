"""Orientation sectors: images of one digit, classified by orientation. The symmetry of the labels is known exactly."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from partialsym.data.base import Dataset
from partialsym.data.sources.mnist import STATISTICS
from partialsym.data.sources.mnist_files import CONTENT_MD5, MIRRORS, Bytes, read_mnist
from partialsym.data.sources.rotmnist import turned
from partialsym.data.splitting import Labelled, assemble

DIGIT = 3  # has no rotational symmetry, and is written with little slant
GAP = 4.0  # degrees between the end of a sector and the boundary to the next
PROBE = 500  # images at the centres of their sectors
SEED = 0


def sectors(
    count: int,
    root: str | os.PathLike[str] | None = None,
    *,
    validation: float = 0.1,
    split_seed: int = 0,
    mirrors: Sequence[str] = MIRRORS,
    content_md5: Mapping[str, str] = CONTENT_MD5,
) -> Dataset:
    """K = `count` classes: threes of MNIST rotated by 360°·k/K ± (180°/K − 4°), k = 0 … K − 1, counter-clockwise.

    The largest rotation that never changes the label of an image at the centre of its sector is 180°/K. A measurement
    of the data's symmetry should find this angle. `probe` holds such images: test digits rotated to the centres. Each
    digit is used once per split; `originals` are the numbers of the digits in MNIST. For the rest see `mnist`.

    Raises:
        ValueError: count is outside 2 to 36, or as for `mnist`.
    """
    if not 2 <= count <= 36:
        raise ValueError(f"count is {count}: must be from 2 to 36, so that sectors are wider than their gaps")
    arrays = read_mnist(root, mirrors=mirrors, content_md5=content_md5)
    random = np.random.RandomState(SEED)
    spread = 180 / count - GAP
    pool = _turned(arrays["x_train"], arrays["y_train"], 0, count, spread, random)
    test = _turned(arrays["x_test"], arrays["y_test"], len(arrays["y_train"]), count, spread, random)
    probe = _turned(arrays["x_test"], arrays["y_test"], len(arrays["y_train"]), count, 0.0, random)
    classes = tuple(f"{360 * k / count:g}°" for k in range(count))
    known = STATISTICS[:1], STATISTICS[1:]
    data = assemble(
        f"sectors-{count}", classes, pool, test, validation=validation, split_seed=split_seed, mean_std=known
    )
    return replace(data, probe=probe.split(slice(PROBE)))


def _turned(
    images: Bytes, digits: Bytes, start: int, count: int, spread: float, random: np.random.RandomState
) -> Labelled:
    """The images of DIGIT in their order, each rotated into a random sector; all sectors have equally many."""
    chosen = np.flatnonzero(digits == DIGIT)
    labels = torch.from_numpy(random.permutation(len(chosen)) % count).long()
    angles = 360 * labels.double() / count + torch.from_numpy(random.uniform(-spread, spread, len(chosen)))
    pixels = torch.from_numpy(images[chosen]).unsqueeze(1)
    return Labelled(turned(pixels, angles.deg2rad()), labels, torch.from_numpy(chosen) + start)
