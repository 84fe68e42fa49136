"""Decode one image file to pixels: 8 bits, grey or RGB, or 16 bits, grey. The result is upright and opaque."""

import os
import re
import stat
import struct
import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from partialsym.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

MOST_PIXELS = 64_000_000
MOST_BYTES = 2**30  # a file of MOST_PIXELS pixels is smaller in any format
BACKGROUND = 255  # white, because drawings on a transparent background are mostly dark
GREY = ("1", "L", "LA", "La")
SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N")
ONE_PICTURE = ("MPO", "PSD")  # the first frame is the picture; further frames are previews, views or layers
SIZES = {b"\x89PNG": (16, ">II"), b"GIF8": (6, "<HH"), b"BM": (18, "<ii")}  # position and format of width and height
KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


class _Refused(Exception):
    """A reason that follows the name of the file."""


def read_image(path: str | os.PathLike[str], channels: int | None = None, *, name: str | None = None) -> Tensor:
    """Read an image file: uint8 [C, H, W], or uint16 with unchanged values for 16-bit grey.

    The image is rotated upright according to its EXIF data; transparent pixels are blended with white.

    Args:
        path: the file.
        channels: 1 for grey, 3 for RGB, None for those of the file.
        name: name of the file in errors.
    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is not a regular file, is empty, damaged or not an image, has several frames or more than
            MOST_PIXELS pixels (according to the header), or has a mode with an unknown range.
        ImportError: Pillow is missing.
    """
    name = shown(path) if name is None else name
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            kind = KINDS.get(stat.S_IFMT(status.st_mode), "a device")
            raise InputError(f"{name} is {kind}: it must be a regular file.")
        if status.st_size > MOST_BYTES:
            raise InputError(f"{name} has {status.st_size:,} bytes: at most {MOST_BYTES:,} are read.")
        with Path(path).open("rb") as file:
            return decode(file, name, channels)
    except FileNotFoundError:
        raise FileNotFoundError(f"{name} does not exist.") from None
    except OSError as error:  # errors of reading; errors of decoding are ValueErrors
        raise InputError(f"{name} cannot be opened: {error.strerror or error}.") from None


def decode(file: IO[bytes], name: str, channels: int | None = None) -> Tensor:
    """Decode an open binary file as `read_image` does. Raise only ValueError; its message starts with `name`."""
    if channels not in (None, 1, 3):
        raise InputError(f"channels is {channels!r}: it must be 1 (grey), 3 (RGB) or None (as the file has it)")
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise MissingExtraError("reading images needs the extra `train`: pip install 'partialsym[train]'.") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they concern metadata; damaged pixels are errors
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                _check(image)
                _fix_transparency(image)
                image.load()
                _check_pixels(image.width * image.height)  # the header of an icon may be wrong
                return _pixels(ImageOps.exif_transpose(image), channels)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        count = re.search(r"\d+", str(error))
        reason = _bomb(int(count.group()) if count else MOST_PIXELS + 1)
    except UnidentifiedImageError:
        reason = _unidentified(file)
    except _Refused as error:
        reason = str(error)
    except Exception as error:  # damaged images raise many different errors
        why = " ".join(str(error).split()) or type(error).__name__
        reason = f"cannot be read as an image: {why}."
    raise InputError(f"{name} {reason}")


def shown(path: str | os.PathLike[str]) -> str:
    """A path for a message: unchanged, or quoted with escapes if it has characters that cannot be printed."""
    text = os.fsdecode(path)
    return text if text.isprintable() else ascii(text)


def _check(image: "ImageFile") -> None:
    """Reject unsupported images by their header, before a pixel is decoded."""
    _check_pixels(image.width * image.height)
    if image.format == "EPS":  # Ghostscript would run it
        raise _Refused("is PostScript, a program: export it as an image.")
    if getattr(image, "is_animated", False) and image.format not in ONE_PICTURE:
        raise _Refused("is animated or has several pages: it must contain one image.")
    mode = image.mode
    tags = getattr(image, "tag_v2", {})
    if mode in SIXTEEN and (tags.get(258, (16,)) != (16,) or tags.get(262, 1) != 1):
        raise _Refused("is TIFF of 12 bits or with white as 0: it must have 8 or 16 bits, with black as 0.")
    if mode == "F" or (mode == "I" and image.format not in ("PPM", "PNG")):  # in these two formats it means 16 bits
        raise _Refused(f"has mode {mode}: must be 8 bits per channel, or 16-bit grey.")


def _fix_transparency(image: "ImageFile") -> None:
    """Scale the transparent colour of a PNG like its pixels: Pillow scales 2 and 4 bits to 8, but not that colour."""
    if image.format != "PNG" or "transparency" not in image.info or not image.tile:
        return
    stored = image.tile[0].args
    if stored == "RGB;16B":  # Pillow drops the lower 8 bits of the pixels, but not of that colour
        raise _Refused("has 16 bits per channel and a transparent colour: it must have 8, or an alpha channel.")
    if stored in ("L;2", "L;4"):
        image.info["transparency"] *= 85 if stored == "L;2" else 17


def _check_pixels(count: int) -> None:
    if count > MOST_PIXELS:
        raise _Refused(_bomb(count))
    if count == 0:
        raise _Refused("has a width or height of 0: both must be >= 1.")


def _bomb(pixels: int) -> str:
    return f"has {pixels:,} pixels: at most {MOST_PIXELS:,} are read."


def _unidentified(file: IO[bytes]) -> str:
    file.seek(0)
    if not (start := file.read(32)):
        return "is empty: it must be an image."
    for magic, (at, form) in SIZES.items():
        if start.startswith(magic):
            if len(start) >= at + struct.calcsize(form) and 0 in (size := struct.unpack_from(form, start, at)):
                return f"has width {size[0]} and height {size[1]}: both must be >= 1."
            return "cannot be read as an image: its header is damaged."
    return "cannot be read as an image: it is not an image, its start is damaged, or Pillow does not know its format."


def _pixels(image: "Image", channels: int | None) -> Tensor:
    from PIL import Image

    grey = image.mode in GREY
    if image.mode in (*SIXTEEN, "I"):
        deep = np.array(image).astype(np.uint16)
        if (clear := image.info.get("transparency")) is not None:
            deep[deep == clear] = 257 * BACKGROUND
        return torch.from_numpy(deep).expand(channels or 1, -1, -1).contiguous()
    if image.has_transparency_data:
        rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        paper = Image.new("RGBA", image.size, (BACKGROUND,) * 4)
        opaque = Image.alpha_composite(paper, rgba).convert("RGB")
    else:
        opaque = image.convert("L" if grey else "RGB")
    if image.mode in ("P", "PA"):  # a palette says nothing about its colours
        array = np.asarray(opaque)
        grey = bool((array == array[..., :1]).all())
    wanted = channels or (1 if grey else 3)
    flat = np.array(opaque.convert("L" if wanted == 1 else "RGB"))
    return torch.from_numpy(flat).view(image.height, image.width, wanted).permute(2, 0, 1).contiguous()
