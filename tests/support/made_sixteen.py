"""Made-up 16-bit images."""

import io

import numpy as np
import torch
from made_folder import write
from PIL import Image

SIZE = (9, 8)


def deep(seed, top=4095, low=0, form="PNG", size=SIZE):
    values = np.random.default_rng(seed).integers(low, top + 1, size).astype(np.uint16)
    Image.fromarray(values).save(file := io.BytesIO(), form)
    return file.getvalue()


def values(content):
    return torch.from_numpy(np.asarray(Image.open(io.BytesIO(content))).astype(np.int64))


def sixteen(root, count=12, **options):
    """Two classes; the brightest is not of training in some split."""
    seeds = iter(range(1000))
    files = {f"{name}/{i}.png": deep(next(seeds), **options) for name in "ab" for i in range(count)}
    return write(root, files)
