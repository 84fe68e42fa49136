"""Transform images by linear maps of the plane."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Padding = Literal["zeros", "border", "reflection"]


def warp(images: Tensor, matrices: Tensor, padding: Padding = "zeros") -> Tensor:
    """h·x: the image whose value at p is x(h⁻¹p), with bilinear interpolation.

    Args:
        images: [batch, channels, height, width], floating-point.
        matrices: orthogonal h, [batch, 2, 2], or [1, 2, 2] for all images; x points right, y up, 0 is the centre.
        padding: the value outside the image: 0, that of the nearest border pixel, or that of the image mirrored at its
            border.
    Returns:
        [batch, channels, height, width], differentiable with respect to both arguments.
    """
    wide = torch.promote_types(images.dtype, torch.float32)  # 16 bits cannot represent the positions in a large image
    grid = _positions(matrices.mT.to(wide), *images.shape[-2:]).expand(len(images), -1, -1, -1)
    return F.grid_sample(images.to(wide), grid, padding_mode=padding, align_corners=False).to(images.dtype)


def _positions(matrices: Tensor, height: int, width: int) -> Tensor:
    """m·p for the centre p of every pixel, in the coordinates of grid_sample: [n, height, width, 2].

    torch's affine_grid is not used: its precision depends on the global matmul precision, and it is recompiled for
    every batch size.
    """
    device, dtype = matrices.device, matrices.dtype
    x = torch.arange(width, device=device, dtype=dtype) - (width - 1) / 2
    y = (height - 1) / 2 - torch.arange(height, device=device, dtype=dtype)  # points up; grid_sample's points down
    p = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    moved = (matrices[:, None, None] * p[:, :, None]).sum(-1)
    return torch.stack([moved[..., 0] * (2 / width), moved[..., 1] * (-2 / height)], -1)
