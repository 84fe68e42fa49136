"""Read whole files with a limit on their size."""

import os
import stat
from pathlib import Path

from partialsym.errors import InputError


def read_bytes(path: str | os.PathLike[str], most: int) -> bytes:
    """The content of a regular file of at most `most` bytes.

    Raises:
        ValueError: the file is larger, or is not a regular file.
        OSError: the file cannot be opened.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # a pipe or a device might never end
        raise InputError(f"{path} is not a regular file.")
    if status.st_size > most:
        raise InputError(f"{path} has {status.st_size:,} bytes: at most {most:,} are read.")
    with Path(path).open("rb") as file:
        return file.read(status.st_size)
