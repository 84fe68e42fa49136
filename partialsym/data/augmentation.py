"""Augmentation of training batches: random crops and flips, drawn image by image from torch's global generator."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

MARGIN = 4


def crop(images: Tensor) -> Tensor:
    """Images [B, C, H, W] with 4 pixels of zeros around them, cut to [H, W] again, each at an offset of its own.

    The offsets are uniform over the 9 x 9 there are.
    """
    count, side = len(images), 2 * MARGIN + 1
    height, width = images.shape[-2:]
    top, left = torch.randint(side, (2, count), device=images.device)
    windows = pad(images, [MARGIN] * 4).unfold(2, height, 1).unfold(3, width, 1)  # a view [B, C, 9, 9, H, W]
    return windows[torch.arange(count, device=images.device), :, top, left]


def flip(images: Tensor) -> Tensor:
    """Images [B, C, H, W], each mirrored left-right with probability 1/2."""
    mirrored = torch.rand(len(images), device=images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


AUGMENTERS: dict[str, Callable[[Tensor], Tensor]] = {"crop": crop, "flip": flip}


def augmentation(names: Sequence[str]) -> Callable[[Tensor], Tensor] | None:
    """The augmentations of these names ("crop", "flip") in this order, as one function; None for no name.

    It takes images [B, C, H, W], float32 in [0, 1], and returns new ones of the same shape, on the same device.
    Raises ValueError on another name.
    """
    for name in names:
        if name not in AUGMENTERS:
            raise ValueError(f"augmentation is {name!r}: it must be one of {', '.join(map(repr, AUGMENTERS))}")
    steps = [AUGMENTERS[name] for name in names]

    def augment(images: Tensor) -> Tensor:
        for step in steps:
            images = step(images)
        return images

    return augment if steps else None
