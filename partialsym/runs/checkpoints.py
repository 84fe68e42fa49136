"""Read the checkpoints of a run and check their format."""

import io
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from partialsym.errors import InputError

FORMAT = 1  # of the entry `partialsym` in a checkpoint


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU.

    Raises:
        ValueError: the file is damaged, or has another format version.
    """
    data = io.BytesIO(path.read_bytes())
    try:
        checkpoint: dict[str, Any] = torch.load(data, map_location="cpu", weights_only=True)
        version = dict(checkpoint["partialsym"]).get("format", 1)  # the first release wrote none
    except (RuntimeError, UnpicklingError, EOFError, OSError, LookupError, ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged ({' '.join(str(error).split())[:100]}).") from None
    if version != FORMAT:
        raise InputError(f"{path} has format version {version!r}: this version reads {FORMAT}.")
    return checkpoint
