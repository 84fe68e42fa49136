"""Folders of made-up images, and what is refused in a ValueError."""

import io
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

SPLITS = ("train", "validation", "test")
HOSTILE = ("<b>", "'\"; --", "a\nb", "x\u2215..", "日本", "é" * 120, "&amp;", " ")


@contextmanager
def refused(*words, error=ValueError):
    with pytest.raises(error) as caught:
        yield
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message


def png(seed, size=(4, 5), mode="RGB"):
    channels = () if mode == "L" else (3,)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, *channels), np.uint8)
    Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def write(root, files):
    """Files by path; a number is an image of that seed."""
    for name, content in files.items():
        (path := root / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(content) if isinstance(content, int) else content)
    return root


def flat(root, **counts):
    """`root/CLASS/*` with so many images each, all different."""
    seeds = iter(range(10_000))
    return write(root, {f"{name}/{i:03}.png": next(seeds) for name, count in counts.items() for i in range(count)})


def three(root, counts, names=("train", "val", "test"), classes=("a", "b")):
    seeds = iter(range(10_000))
    parts = zip(names, counts, strict=True)
    return write(root, {f"{w}/{c}/{i}.png": next(seeds) for w, count in parts for c in classes for i in range(count)})


def counts(data):
    return {which: getattr(data, which).labels.bincount().tolist() for which in SPLITS}


def same(a, b):
    pairs = [(getattr(a, which), getattr(b, which)) for which in SPLITS]
    return all(torch.equal(x.images, y.images) and torch.equal(x.labels, y.labels) for x, y in pairs)
