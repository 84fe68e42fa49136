"""A lock that allows only one process at a time to use a folder."""

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
NAME = 1  # offset of the holder's name: on Windows the lock covers byte 0, which nobody else can read


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder, and create it if it does not exist. The system releases the lock when the process ends.

    Raises:
        ConfigError: another process has locked it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "ab+", buffering=0) as file:  # never removed: two processes could then hold a lock
        if not _lock(file.fileno()):
            file.seek(NAME)
            holder = file.read().decode("utf-8", "replace").strip() or "another process"
            raise ConfigError(f"{folder} is in use by {holder}: wait for it, stop it, or choose another name or --out.")
        file.truncate(0)
        file.write(NAME * b" " + f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield


def in_use(folder: Path) -> bool:
    """Whether a process has locked the folder."""
    try:
        with open(folder / LOCK, "rb") as file:
            return not _lock(file.fileno())
    except FileNotFoundError:
        return False


def _lock(handle: int) -> bool:
    """Try to lock the file. Return whether that succeeded."""
    try:
        return lock_descriptor(handle, blocking=False)
    except OSError as error:
        log.warning("files cannot be locked here (%s): make sure that no other process trains the same run", error)
        return True
