"""Atomic writes: write a temporary file, then rename it."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` on a temporary file beside `path`, then rename it. At any moment `path` is the old or the new file.

    Raises:
        OSError: for example, the disk is full. `path` is then unchanged, and the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync(path.parent)


def replace_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, by `replace_file`."""
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def leftovers(folder: Path) -> list[Path]:
    """Temporary files that a killed process could not remove, anywhere under `folder`."""
    return sorted(folder.rglob(".*.tmp"))


def _sync(folder: Path) -> None:
    """Make a rename survive a power failure, if the file system supports it. Only POSIX can open a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
