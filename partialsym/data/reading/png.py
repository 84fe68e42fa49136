"""Write images as PNG."""

import io

from torch import Tensor


def png(image: Tensor) -> bytes:
    """The bytes of a PNG of a uint8 image [C, H, W], with C 1 or 3."""
    from PIL import Image

    pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(pixels.contiguous().cpu().numpy()).save(file, "PNG", optimize=True)
    return file.getvalue()
