"""Single images before decoding: their name, their source and the options for reading them."""

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from partialsym.data.base import check_validation
from partialsym.data.reading import Fit, Range, as_float, check_range, decode, fitted, read_image
from partialsym.data.reading.download import extra
from partialsym.data.reading.sizing import check_fit
from partialsym.errors import InputError


class ImageSource(NamedTuple):
    """An image to read: its name in errors, its class (-1: unknown), its source and its group.

    The source is a file, the bytes of a file, a URL that Hugging Face's library opens, or None. Images with the same
    group are never divided between splits; None means no group.
    """

    name: str
    label: int
    source: Path | bytes | str | None
    group: str | None = None


@dataclass(frozen=True)
class ImageOptions:
    """Options for reading images: the arguments of `folder`. Raises ValueError if one is out of range."""

    size: tuple[int, int] | None = None
    fit: Fit = "resize"
    channels: Literal[1, 3] | None = None
    validation: float = 0.1
    test: float = 0.2
    split_seed: int = 0
    range: Range | None = None
    folds: int | None = None
    fold: int = 0

    def __post_init__(self) -> None:
        check_fit(self.size, self.fit)
        if self.folds is not None and not (self.folds >= 2 and 0 <= self.fold < self.folds):
            raise InputError(
                f"fold is {self.fold} of {self.folds}: it must be at least 0 and less than folds, and folds at least 2"
            )
        if self.range is not None:
            check_range(self.range)
        if self.channels not in (None, 1, 3):
            raise InputError(f"channels is {self.channels!r}: it must be 1 (grey), 3 (RGB) or None (as the images are)")
        check_validation(self.validation, self.split_seed)
        if not isinstance(self.test, int | float) or not 0 < self.test <= 0.5:
            raise InputError(f"test is {self.test!r}: it must be a fraction of the images in (0, 0.5]")


def fetched(picture: ImageSource) -> ImageSource:
    """Replace a URL by the bytes behind it. Raise ValueError if they cannot be fetched."""
    if not isinstance(picture.source, str):
        return picture
    library = extra("datasets.utils.file_utils", "hf", "an image behind a URL")
    try:
        with library.xopen(picture.source, "rb") as file:
            return picture._replace(source=file.read())
    except Exception as error:  # each file system raises its own errors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{picture.name} cannot be fetched: {reason}.") from None


def pixels(picture: ImageSource, how: ImageOptions) -> Tensor:
    """The image, uint8 or uint16 [C, H, W]. ValueError and FileNotFoundError have messages that start with its name."""
    source = picture.source
    if source is None or picture.label < 0:
        raise InputError(f"{picture.name} has no {'image' if source is None else 'label'}.")
    if isinstance(source, Path):
        image = read_image(source, how.channels, name=picture.name)
    else:
        found = fetched(picture).source
        assert isinstance(found, bytes)
        image = decode(io.BytesIO(found), picture.name, how.channels)
    return image if how.size is None else fitted(image, how.size, how.fit)


def digest(picture: ImageSource) -> bytes:
    """SHA-256 of the file of an image."""
    if isinstance(picture.source, Path):
        with picture.source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    assert isinstance(picture.source, bytes)
    return hashlib.sha256(picture.source).digest()


def stacked(pictures: Iterable[ImageSource], how: ImageOptions, shape: tuple[int, ...]) -> Tensor:
    """Stack images of one shape [C, H, W] to [N, C, H, W]: float32 in [0, 1] if `how` has a range, else uint8.

    Grey images are repeated for C = 3. Raises ValueError and FileNotFoundError as `pixels` does, and ValueError if an
    image has another shape, or 16 bits with an unknown range.
    """
    images = []
    for picture in pictures:
        image = pixels(picture, how)
        if image.shape[1:] != shape[1:] or len(image) not in (1, shape[0]):
            raise InputError(
                f"{picture.name} is {list(image.shape)} [C, H, W]: it must be {list(shape)}, like the others."
            )
        if image.dtype == torch.uint16 and how.range is None:
            raise InputError(f"{picture.name} has 16 bits, but the images before had 8: pass a range.")
        images.append((image if how.range is None else as_float(image, how.range)).expand(*shape))
    return torch.stack(images)
