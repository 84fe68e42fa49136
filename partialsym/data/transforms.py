"""Transforms of images before the model: normalisation by channel, and augmentation in training.

Torch's global generator draws random crops, flips and rotations for each image separately.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from partialsym.data.base import check_statistics
from partialsym.data.reading.levels import as_float
from partialsym.errors import InputError
from partialsym.groups.base import rotation
from partialsym.warp import warp

MARGIN = 4


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalise each channel of images [..., C, H, W]: (images − mean) / std.

    8-bit images are first converted to float32 in [0, 1]: see `as_float`.

    Args:
        images: uint8 or floating-point.
        mean: C numbers.
        std: C numbers > 0.
    Raises:
        ValueError: the statistics do not fit the channels, or the images have another dtype or shape.
    """
    if images.ndim < 3:
        raise InputError(f"images have shape {list(images.shape)}: they must be [..., C, H, W]")
    check_statistics(images.shape[-3], mean, std)
    images = as_float(images)
    return (images - _filled(images, mean)) / _filled(images, std)


def _filled(images: Tensor, values: Sequence[float]) -> Tensor:
    """`values` as a tensor [C, 1, 1] on the device of `images`; filling it there avoids a copy that waits for a GPU."""
    return torch.stack([images.new_full((1, 1), value) for value in values])


@dataclass(frozen=True)
class Preprocessing:
    """The conversion of pixels (uint8, or in [0, 1]) to the input of a model, by mean and standard deviation per
    channel: see `normalise`."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        return normalise(images, self.mean, self.std)


def crop(images: Tensor, rank: int = 0, processes: int = 1) -> Tensor:
    """Random crops of images [B, C, H, W]: each image is padded by 4 pixels of zeros and cut to [H, W] again.

    The offset of each crop is uniform over the 9 × 9 possible ones. Every process draws the offsets for all processes
    and uses its own, so that the result does not depend on the number of processes.

    Args:
        images: the images of this process.
        rank, processes: index of this process, and number of processes.
    """
    count, side = len(images), 2 * MARGIN + 1
    height, width = images.shape[-2:]
    top, left = torch.randint(side, (2, count * processes), device=images.device)[:, rank::processes]
    windows = pad(images, [MARGIN] * 4).unfold(2, height, 1).unfold(3, width, 1)  # a view [B, C, 9, 9, H, W]
    return windows[torch.arange(count, device=images.device), :, top, left]


def flip(images: Tensor, rank: int = 0, processes: int = 1) -> Tensor:
    """Mirror each of the images [B, C, H, W] left-right with probability 1/2; processes as in `crop`."""
    mirrored = torch.rand(len(images) * processes, device=images.device)[rank::processes] < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def rotate(images: Tensor, rank: int = 0, processes: int = 1) -> Tensor:
    """Rotate each of the images [B, C, H, W] about its centre; processes as in `crop`.

    On average, half of them are rotated by an angle that is uniform on the circle, with bilinear interpolation and
    reflection at the border. The others are rotated exactly, by a multiple of 90° (180° if they are not square). So the
    network sees all orientations, and also images that are as sharp as the test images.
    """
    count = len(images)
    turn, kind = torch.rand((2, count * processes), device=images.device)[:, rank::processes]
    if images.shape[-1] == images.shape[-2]:
        quarters = torch.stack([images.rot90(k, (-2, -1)) for k in range(4)])
    else:
        quarters = torch.stack([images, images.rot90(2, (-2, -1))])
    exact = quarters[(turn * len(quarters)).long(), torch.arange(count, device=images.device)]
    smooth = warp(images, rotation(2 * torch.pi * turn.to(images.dtype)), "reflection")
    return torch.where((kind < 0.5)[:, None, None, None], exact, smooth)


class Augmenter(Protocol):
    """A function that augments images [B, C, H, W] of process `rank` of `processes`; all processes have B images."""

    def __call__(self, images: Tensor, rank: int = 0, processes: int = 1) -> Tensor: ...


AUGMENTERS: dict[str, Augmenter] = {"crop": crop, "flip": flip, "rotate": rotate}


def augmentation(names: Sequence[str], rank: int = 0, processes: int = 1) -> Callable[[Tensor], Tensor] | None:
    """The composition of augmentations ("crop", "flip", "rotate"), in the order of `names`; None without names.

    The function maps images [B, C, H, W], float32 in [0, 1], to new images of the same shape, on the same device.

    Args:
        names: names of the augmentations.
        rank, processes: index of this process, and number of processes that train together.
    Raises:
        ValueError: a name is unknown.
    """
    for name in names:
        if name not in AUGMENTERS:
            raise InputError(f"augmentation is {name!r}: it must be one of {', '.join(map(repr, AUGMENTERS))}")
    steps = [partial(AUGMENTERS[name], rank=rank, processes=processes) for name in names]

    def augment(images: Tensor) -> Tensor:
        for step in steps:
            images = step(images)
        return images

    return augment if steps else None
