"""Named arrays in an .npz file, read without pickle."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from partialsym.data.reading.download import MOST_BYTES
from partialsym.errors import InputError

LISTED = 20


def read_npz(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """The arrays `keys` of the file. Raises ValueError, naming the file, if it is damaged or lacks an array."""
    expected = f"expected {', '.join(keys)}"
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            arrays = {key: _array(archive.getinfo(f"{key}.npy"), archive) for key in keys if key in names}
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged zip can raise many different errors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: damaged or not an npz file ({reason}): {expected}") from None
    for key in keys:
        if key not in arrays:
            raise InputError(f"{path}: no array {key!r}, found {sorted(names)[:LISTED]}: {expected}")
    return arrays


def _array(entry: zipfile.ZipInfo, archive: zipfile.ZipFile) -> Any:
    if entry.file_size > MOST_BYTES:  # a zip never unpacks more than it declares
        raise InputError(f"{entry.filename} declares {entry.file_size:,} bytes: at most {MOST_BYTES:,} are read")
    with archive.open(entry) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)
