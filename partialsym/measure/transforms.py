"""Rotations and reflections of images, and the inscribed disc that every rotation preserves."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from partialsym.groups.base import rotation
from partialsym.warp import warp

Padding = Literal["zeros", "border"]
HIGHEST = 1 / 8  # cycles a pixel in the control image, a quarter of what the grid can hold


@dataclass(frozen=True)
class Motion:
    """g = R(φ), or g = R(φ)·m: a left-right reflection followed by a rotation by φ.

    Attributes:
        degrees: φ, counter-clockwise.
        mirrored: whether g includes the reflection m.
    """

    degrees: float
    mirrored: bool = False

    def matrix(self) -> Tensor:
        """g, [2, 2] float64 (x right, y up), exact on multiples of 90°."""
        matrix = rotation(torch.tensor(math.radians(self.degrees), dtype=torch.float64))
        matrix = matrix.round() if self.degrees % 90 == 0 else matrix
        return matrix @ torch.tensor([[-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64) if self.mirrored else matrix

    def __call__(self, images: Tensor, padding: Padding = "zeros") -> Tensor:
        """g·x for float images [N, C, H, W]: see `rotate`."""
        return rotate(images.flip(-1) if self.mirrored else images, self.degrees, padding)

    def undo(self, images: Tensor, padding: Padding = "zeros") -> Tensor:
        """g⁻¹·x for float images [N, C, H, W]: see `rotate`."""
        turned = rotate(images, -self.degrees, padding)
        return turned.flip(-1) if self.mirrored else turned


def rotate(images: Tensor, degrees: float, padding: Padding = "zeros") -> Tensor:
    """Rotate float images [N, C, H, W] counter-clockwise: exactly by multiples of 90° of squares, else bilinearly.

    The area outside the image is black, or with `border` has the value of the nearest border pixel.
    """
    if degrees % 90 == 0 and (images.shape[-1] == images.shape[-2] or degrees % 180 == 0):
        return images.rot90(int(degrees // 90), (-2, -1))
    angle = torch.deg2rad(torch.tensor([degrees], dtype=images.dtype, device=images.device))
    return warp(images, rotation(angle), padding)


def _centres(height: int, width: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Coordinates x (right) and y (up) of the pixels' centres relative to the image's centre, [height, width] each.

    The unit is half a pixel, so that they are integers and need no float64.
    """
    x = 2 * torch.arange(width, device=device) - (width - 1)
    y = (height - 1) - 2 * torch.arange(height, device=device)
    grid = torch.meshgrid(x, y, indexing="xy")
    return grid[0], grid[1]


def inscribed(images: Tensor) -> Tensor:
    """1 for the pixels of images [..., H, W] whose centres lie in the disc of diameter min(H, W), else 0: [H, W]."""
    height, width = images.shape[-2:]
    x, y = _centres(height, width, images.device)
    return (x.square() + y.square() <= min(height, width) ** 2).to(images.dtype)


def centred_square(images: Tensor) -> Tensor:
    """The square [..., s, s] with s = min(H, W) in the middle of images [..., H, W]."""
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[..., top : top + side, left : left + side]


def control_image(height: int, width: int) -> Tensor:
    """A fixed band-limited image: eight plane waves in eight directions, of 64 to 8 pixels. [1, 1, H, W] float64."""
    x, y = (half.double() / 2 for half in _centres(height, width))
    waves = []
    for k in range(1, 9):
        frequency, direction = 2 * math.pi * HIGHEST * k / 8, k * math.pi * (3 - math.sqrt(5))
        waves.append(torch.cos(frequency * (math.cos(direction) * x + math.sin(direction) * y) + k))
    return torch.stack(waves).sum(0)[None, None]


@cache
def control_error(height: int, width: int, motion: Motion) -> float:
    """The relative error of the warp itself: ‖g⁻¹(g·c) − c‖ / ‖c‖ for the control image c, on the inscribed disc."""
    c = control_image(height, width)
    disc = inscribed(c)
    lost = (motion.undo(motion(c, "border"), "border") - c) * disc
    return float(lost.norm() / (c * disc).norm())
