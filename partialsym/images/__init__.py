"""Image files as the network takes them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from partialsym.images.reading import BACKGROUND, MOST_PIXELS, decode, read_image, shown
from partialsym.images.sizing import FITS, Fit, fitted
from partialsym.images.writing import png

__all__ = ["BACKGROUND", "FITS", "MOST_PIXELS", "Fit", "decode", "fitted", "png", "read_image", "read_images", "shown"]


def read_images(files: Sequence[Path], size: tuple[int, int], channels: int, fit: Fit = "resize") -> Tensor:
    """Files of any format Pillow reads → [N, channels, height, width] float32 in [0, 1], brought to `size`.

    Args:
        files: image files.
        size: height and width in pixels.
        channels: 1 for grey, 3 for RGB.
        fit: how they get that size, see `fitted`.
    Raises:
        ValueError: a file that is no image, naming it; channels other than 1 or 3.
        FileNotFoundError: a file that is not there.
    """
    if channels not in (1, 3):
        raise ValueError(f"the model takes {channels} channels: image files give 1 (grey) or 3 (RGB).")
    return torch.stack([fitted(read_image(file, channels), size, fit) for file in files]).float().div_(255)
