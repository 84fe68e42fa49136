"""Small files read whole, and never more of one than its kind can need."""

import os
import stat
from pathlib import Path

from partialsym.errors import InputError


def read_bytes(path: str | os.PathLike[str], most: int) -> bytes:
    """The content of a regular file of at most `most` bytes.

    Raises:
        ValueError: it is larger, or no regular file.
        OSError: it cannot be opened.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # a pipe or a device might never end
        raise InputError(f"{path} is not a regular file.")
    if status.st_size > most:
        raise InputError(f"{path} has {status.st_size:,} bytes: at most {most:,} are read.")
    with Path(path).open("rb") as file:
        return file.read(status.st_size)
