"""Resize and crop images to one size."""

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from partialsym.data.reading.files import MOST_PIXELS
from partialsym.errors import InputError

Fit = Literal["resize", "crop", "centre"]
FITS: tuple[Fit, ...] = get_args(Fit)


def fitted(image: Tensor, size: tuple[int, int], fit: Fit = "resize") -> Tensor:
    """Resize an image [C, H, W] (C 1 or 3, uint8 or grey uint16) to [C, *size], bilinearly and with antialiasing.

    An image that has this size already is returned unchanged. "crop" and "centre" do not rescale an image that is
    larger only by a border.

    Args:
        image: the image.
        size: height and width in pixels, two ints >= 1.
        fit: "resize" uses the whole image, whatever its aspect ratio; "crop" uses the largest central part with the
            aspect ratio of `size`; "centre" uses the central `size` pixels without rescaling.
    Raises:
        InputError: `fit` or `size` is invalid, or for "centre" the image is smaller than `size`.
    """
    from PIL import Image

    check_fit(size, fit)
    wide, high = image.shape[2], image.shape[1]
    if (high, wide) == size:
        return image
    if fit == "centre":
        if high < size[0] or wide < size[1]:
            raise InputError(f"the image has {high}×{wide} pixels, fewer than its centre crop, {size[0]}×{size[1]}")
        above, before = (high - size[0]) // 2, (wide - size[1]) // 2
        return image[:, above : above + size[0], before : before + size[1]].contiguous()
    box = (0.0, 0.0, float(wide), float(high))
    if fit == "crop":
        by_height = size[0] * wide >= size[1] * high  # the crop has the whole height
        taken_high = high if by_height else size[0] * wide / size[1]
        taken_wide = size[1] * high / size[0] if by_height else wide
        left, top = (
            (wide - taken_wide) // 2,
            (high - taken_high) // 2,
        )  # whole pixels, so that a crop without rescaling stays sharp
        box = (left, top, left + taken_wide, top + taken_high)
    if deep := image.dtype == torch.uint16:
        picture = Image.fromarray(image[0].numpy().astype(np.float32))
    else:
        picture = Image.fromarray(image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).contiguous().numpy())
    resized = np.array(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box))
    if deep:
        return torch.from_numpy(resized.round().astype(np.uint16)).expand(len(image), *size).contiguous()
    return torch.from_numpy(resized).view(*size, len(image)).permute(2, 0, 1).contiguous()


def check_fit(size: tuple[int, int] | None, fit: str) -> None:
    """Raise ValueError unless `size` is None or two ints >= 1, and `fit` is one of FITS."""
    if fit not in FITS:
        raise InputError(f"fit is {fit!r}: it must be one of {', '.join(map(repr, FITS))}")
    if size is None:
        return
    if len(size) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in size):
        raise InputError(f"size is {size!r}: it must be height and width, two ints >= 1")
    if size[0] * size[1] > MOST_PIXELS:
        raise InputError(f"size is {size!r}: it must have at most {MOST_PIXELS:,} pixels")
