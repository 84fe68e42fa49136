"""One process to a folder."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import lock_descriptor

from partialsym.errors import ConfigError

log = logging.getLogger(__name__)
LOCK = ".lock"
NAME = 1  # where the holder's name begins: on Windows nobody else can read byte 0, which is what is locked there


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder, which is made where it does not exist. The system releases it when the process dies.

    Raises:
        ConfigError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "ab+", buffering=0) as file:  # it stays: removing it would let two in
        if not _lock(file.fileno()):
            file.seek(NAME)
            holder = file.read().decode("utf-8", "replace").strip() or "another process"
            raise ConfigError(f"{folder} is in use by {holder}: wait for it, stop it, or choose another name or --out.")
        file.truncate(0)
        file.write(NAME * b" " + f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


def in_use(folder: Path) -> bool:
    """Whether some process holds the folder."""
    try:
        with open(folder / LOCK, "rb") as file:
            return not _lock(file.fileno())
    except FileNotFoundError:
        return False


def _lock(handle: int) -> bool:
    """Whether nobody else has it."""
    try:
        return lock_descriptor(handle, blocking=False)
    except OSError as error:
        log.warning("files cannot be locked here (%s): see that no other process trains the same run", error)
        return True
