"""Images moved by linear maps of the plane."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Padding = Literal["zeros", "border", "reflection"]


def warp(images: Tensor, matrices: Tensor, padding: Padding = "zeros") -> Tensor:
    """h·x: the image whose value at p is that of x at h⁻¹p, bilinear between pixels.

    Args:
        images: [batch, channels, height, width], floating-point.
        matrices: h, orthogonal, [batch, 2, 2] or one for all, [1, 2, 2]; x to the right, y up, 0 in the centre.
        padding: what lies outside the image: 0, what its nearest border pixel has, or the image mirrored at its border.
    Returns:
        [batch, channels, height, width]; differentiable in both.
    """
    wide = torch.promote_types(images.dtype, torch.float32)  # 16 bits do not tell the pixels of a large image apart
    grid = _positions(matrices.mT.to(wide), *images.shape[-2:]).expand(len(images), -1, -1, -1)
    return F.grid_sample(images.to(wide), grid, padding_mode=padding, align_corners=False).to(images.dtype)


def _positions(matrices: Tensor, height: int, width: int) -> Tensor:
    """Where m·p is for the centre p of every pixel, in the coordinates of grid_sample: [n, height, width, 2].

    By hand: torch's affine_grid rounds its product as the matrix precision says, and compiles for one batch size alone.
    """
    device, dtype = matrices.device, matrices.dtype
    x = torch.arange(width, device=device, dtype=dtype) - (width - 1) / 2
    y = (height - 1) / 2 - torch.arange(height, device=device, dtype=dtype)  # up, but down in grid_sample
    p = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    moved = (matrices[:, None, None] * p[:, :, None]).sum(-1)
    return torch.stack([moved[..., 0] * (2 / width), moved[..., 1] * (-2 / height)], -1)
