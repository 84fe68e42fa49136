"""What happens to images between their pixels and the model: normalisation by channel, and augmentation in training.

Random crops, flips and turns are drawn image by image from torch's global generator.
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
    """(images - mean) / std for each channel: images [..., C, H, W], mean and std C numbers, std > 0.

    8-bit images count as pixels in [0, 1] and become float32: see `as_float`. Raises ValueError where the
    statistics do not fit the channels, or on another dtype.
    """
    if images.ndim < 3:
        raise InputError(f"images have shape {list(images.shape)}: they must be [..., C, H, W]")
    check_statistics(images.shape[-3], mean, std)
    images = as_float(images)
    return (images - _filled(images, mean)) / _filled(images, std)


def _filled(images: Tensor, values: Sequence[float]) -> Tensor:
    """`values` [C, 1, 1] where the images are: filled there, since a copy to a GPU would wait for it."""
    return torch.stack([images.new_full((1, 1), value) for value in values])


@dataclass(frozen=True)
class Preprocessing:
    """What lies between pixels (uint8, or in [0, 1]) and the model: per-channel mean and standard deviation."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        return normalise(images, self.mean, self.std)


def crop(images: Tensor, rank: int = 0, processes: int = 1) -> Tensor:
    """Images [B, C, H, W] with 4 pixels of zeros around them, cut to [H, W] again, each at an offset of its own.

    The offsets are uniform over the 9 x 9 there are. Of several processes each draws for all and takes its own, so that
    the number of processes changes nothing.
    """
    count, side = len(images), 2 * MARGIN + 1
    height, width = images.shape[-2:]
    top, left = torch.randint(side, (2, count * processes), device=images.device)[:, rank::processes]
    windows = pad(images, [MARGIN] * 4).unfold(2, height, 1).unfold(3, width, 1)  # a view [B, C, 9, 9, H, W]
    return windows[torch.arange(count, device=images.device), :, top, left]


def flip(images: Tensor, rank: int = 0, processes: int = 1) -> Tensor:
    """Images [B, C, H, W], each mirrored left-right with probability 1/2; processes as in `crop`."""
    mirrored = torch.rand(len(images) * processes, device=images.device)[rank::processes] < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def rotate(images: Tensor, rank: int = 0, processes: int = 1) -> Tensor:
    """Images [B, C, H, W], each turned about its centre; processes as in `crop`.

    Half of them are turned by an angle uniform on the circle, bilinear, with the image mirrored at its border; the
    others by a multiple of 90° (of 180° where they are not square), which loses nothing: so the network sees turned
    images in all orientations, and images as sharp as those that it will be asked about.
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
    """Images [B, C, H, W] of process `rank` of `processes`, each with a batch as large → the same, augmented."""

    def __call__(self, images: Tensor, rank: int = 0, processes: int = 1) -> Tensor: ...


AUGMENTERS: dict[str, Augmenter] = {"crop": crop, "flip": flip, "rotate": rotate}


def augmentation(names: Sequence[str], rank: int = 0, processes: int = 1) -> Callable[[Tensor], Tensor] | None:
    """The augmentations of these names ("crop", "flip", "rotate") in this order, as one function; None for no name.

    It takes images [B, C, H, W], float32 in [0, 1], and returns new ones of the same shape, on the same device; of the
    `processes` that train together it is that of number `rank`. Raises ValueError on another name.
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
