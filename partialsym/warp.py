"""Images moved by linear maps of the plane."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def warp(images: Tensor, matrices: Tensor, padding: Literal["zeros", "border"] = "zeros") -> Tensor:
    """h·x: the image whose value at p is that of x at h⁻¹p, bilinear between pixels.

    Args:
        images: [batch, channels, height, width], floating-point.
        matrices: h, [batch, 2, 2] or one for all, [1, 2, 2]; orthogonal; x right, y up, centre of the image 0.
        padding: what lies outside the image: 0, or what its nearest border pixel has.
    Returns:
        [batch, channels, height, width]; differentiable in both.
    """
    height, width = images.shape[-2:]
    # grid_sample has y down and coordinates that reach 1 on every side; the inverse is the transpose.
    xx, xy, yx, yy = matrices.flatten(1).unbind(1)
    rows = torch.stack([torch.stack([xx, -yx * height / width], 1), torch.stack([-xy * width / height, yy], 1)], 1)
    affine = F.pad(rows, (0, 1)).expand(len(images), 2, 3)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid.to(images.dtype), padding_mode=padding, align_corners=False)
