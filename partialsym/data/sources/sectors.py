"""Orientation sectors: images of one digit, told apart by how far they are turned. How far is known to matter."""

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

DIGIT = 3  # looks like no other turn of itself, and is written with little slant
GAP = 4.0  # degrees between a sector and the middle of the way to the next
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
    """K = `count` classes: threes of MNIST turned to 360°·k/K ± (180°/K − 4°), k = 0 … K − 1, counter-clockwise.

    The largest turn that never changes the label of an image at the centre of its sector is 180°/K: that is what a
    measurement of the data's symmetry should find. `probe` holds such images, test digits turned to centres. Each digit
    is used once a split; `originals` are the numbers it has in MNIST. For the rest see `mnist`.

    Raises:
        ValueError: count outside 2 to 36, or what `mnist` refuses.
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
    """The digits of one kind, in their order, each turned into a random one of equally many sectors."""
    chosen = np.flatnonzero(digits == DIGIT)
    labels = torch.from_numpy(random.permutation(len(chosen)) % count).long()
    angles = 360 * labels.double() / count + torch.from_numpy(random.uniform(-spread, spread, len(chosen)))
    pixels = torch.from_numpy(images[chosen]).unsqueeze(1)
    return Labelled(turned(pixels, angles.deg2rad()), labels, torch.from_numpy(chosen) + start)
