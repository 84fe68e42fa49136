"""Pairs of an image and its transformed copy: a task that a fully equivariant network cannot solve."""

import torch
from torch import Tensor

from partialsym.errors import InputError

CLASSES = {"180": ("6", "6 turned by 180°"), "M": ("6", "6 mirrored")}


def pair_classes(kind: str) -> tuple[str, ...]:
    """The meaning of the labels 0 and 1 of `pairs`. Raises ValueError if `kind` is not "180" or "M"."""
    if kind not in CLASSES:
        raise InputError(f"kind is {kind!r}: it must be one of {', '.join(map(repr, CLASSES))}")
    return CLASSES[kind]


def pairs(images: Tensor, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Each image followed by its copy, rotated by 180° (`kind` "180") or reflected left-right ("M").

    images [N, C, H, W] -> images [2N, C, H, W], labels [2N] (0 original, 1 copy), originals [2N] in [0, N).
    Raises ValueError for another kind or shape.
    """
    pair_classes(kind)
    if images.ndim != 4:
        raise InputError(f"images have shape {list(images.shape)}: they must be [N, C, H, W]")
    copies = torch.rot90(images, 2, (2, 3)) if kind == "180" else images.flip(3)
    both = torch.stack([images, copies], 1).flatten(0, 1)
    originals = torch.arange(len(images)).repeat_interleave(2)
    return both, torch.tensor([0, 1]).repeat(len(images)), originals
