"""Image files as the network takes them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def read_images(files: Sequence[Path], size: tuple[int, int], channels: int) -> Tensor:
    """Files of any format Pillow reads → [N, channels, height, width] float32 in [0, 1], resized to `size`.

    Args:
        files: image files.
        size: height and width in pixels.
        channels: 1 for grey, 3 for RGB.
    Raises:
        ValueError: a file that is no image, naming it; channels other than 1 or 3.
        FileNotFoundError: a file that is not there.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise ImportError("reading images needs the extra `train`: pip install 'partialsym[train]'.") from None
    if channels not in (1, 3):
        raise ValueError(f"the model takes {channels} channels: image files give 1 (grey) or 3 (RGB).")
    read = []
    for file in files:
        try:
            with Image.open(file) as image:
                if image.mode == "F" or (image.mode.startswith("I") and channels != 1):
                    raise ValueError(f"{file} has mode {image.mode}: must be 8 bits a channel, or 16-bit grey.")
                wide = image.mode.startswith("I")  # 16-bit grey, which Pillow's own conversion would clip
                mode = "F" if wide else "L" if channels == 1 else "RGB"
                converted = image.convert(mode).resize((size[1], size[0]))
        except FileNotFoundError:
            raise FileNotFoundError(f"{file} does not exist.") from None
        except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{file} cannot be read as an image: {error}") from None
        read.append(
            torch.from_numpy(np.array(converted, dtype=np.float32) / (65535 if wide else 255)).view(*size, channels)
        )
    return torch.stack(read).permute(0, 3, 1, 2).contiguous()
