"""One process to a folder."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from partialsym._utils.errors import ConfigError

log = logging.getLogger(__name__)
LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder, which is made where it does not exist. The system lets go of it when the process dies.

    Raises:
        ConfigError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a+", encoding="utf-8") as file:  # it stays: removing it would let two in
        if not _lock(file.fileno()):
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise ConfigError(f"{folder} is in use by {holder}: wait for it, stop it, or choose another name or --out.")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def in_use(folder: Path) -> bool:
    """Whether some process holds the folder."""
    try:
        with open(folder / LOCK, "rb") as file:
            return not _lock(file.fileno(), shared=True)
    except FileNotFoundError:
        return False


def _lock(handle: int, shared: bool = False) -> bool:
    """Whether nobody else has it."""
    try:
        import fcntl

        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError) as error:
        log.warning("files cannot be locked here (%s): see that no other process trains the same run", error)
    return True
