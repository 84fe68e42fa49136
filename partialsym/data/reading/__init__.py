"""Read image files as input of a network."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from partialsym.data.reading.files import BACKGROUND, MOST_PIXELS, decode, read_image, shown
from partialsym.data.reading.levels import WIDE, Levels, Range, as_float, check_range
from partialsym.data.reading.png import png
from partialsym.data.reading.sizing import FITS, Fit, fitted
from partialsym.errors import InputError

__all__ = [
    "BACKGROUND",
    "FITS",
    "MOST_PIXELS",
    "WIDE",
    "Fit",
    "Levels",
    "Range",
    "as_float",
    "check_range",
    "decode",
    "fitted",
    "png",
    "read_image",
    "read_images",
    "shown",
]
log = logging.getLogger(__name__)


def read_images(
    files: Sequence[Path], size: tuple[int, int], channels: int, fit: Fit = "resize", range: Range = WIDE
) -> Tensor:
    """Read files of any format that Pillow supports: [N, channels, height, width] float32 in [0, 1], of size `size`.

    Suspicious pixel values are logged: see `Levels`.

    Args:
        files: image files.
        size: height and width in pixels.
        channels: 1 for grey, 3 for RGB.
        fit: how they are brought to that size, see `fitted`.
        range: the values of 16-bit grey that become 0 and 1. Values beyond are clipped.
    Raises:
        ValueError: a file is not an image (the message names it), or channels is not 1 or 3.
        FileNotFoundError: a file does not exist.
    """
    if channels not in (1, 3):
        raise InputError(f"the model needs {channels} channels: image files have 1 (grey) or 3 (RGB).")
    images, levels = [], Levels()
    for file in files:
        image = fitted(read_image(file, channels), size, fit)
        levels.add(image)
        images.append(as_float(image, range))
    for doubt in levels.doubts(range):
        log.warning("%s", doubt)
    return torch.stack(images)
