"""Named arrays in an .npz file, read without pickle."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def read_npz(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """The arrays `keys` of the file; raises ValueError, naming the file, where it is damaged or lacks one."""
    expected = f"expected {', '.join(keys)}"
    with path.open("rb") as file:
        try:
            archive = np.load(file, allow_pickle=False)
            names = archive.files
            arrays = {key: archive[key] for key in keys if key in names}
        except Exception as error:  # a damaged zip fails in a dozen ways
            raise ValueError(f"{path}: damaged or not an npz file ({error}): {expected}") from None
    for key in keys:
        if key not in arrays:
            raise ValueError(f"{path}: no array {key!r}, found {sorted(names)}: {expected}")
    return arrays
