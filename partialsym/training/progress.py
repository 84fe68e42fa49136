"""Log the progress of a long evaluation."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

log = logging.getLogger(__name__)
EVERY = 10.0  # seconds


@contextmanager
def log_images(model: nn.Module, what: str, most: int | None = None) -> Iterator[None]:
    """A context that logs how many images the model has answered, after each batch that ends EVERY seconds or more
    after the last such line.

    Args:
        model: the network that answers the images.
        what: the name of the activity, such as "evaluation".
        most: the largest number of images that it needs; None if that is unknown.
    """
    images, said = 0, time.monotonic()
    of = "" if most is None else f" of at most {most:,}"

    def count(_: nn.Module, args: tuple[Any, ...], __: object) -> None:
        nonlocal images, said
        images += len(args[0])
        if time.monotonic() - said >= EVERY:
            said = time.monotonic()
            log.info("%s: %s%s images", what, f"{images:,}", of)

    handle = model.register_forward_hook(count)
    try:
        yield
    finally:
        handle.remove()
