"""Training with only torch's deterministic algorithms."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from partialsym.errors import ConfigError

WORKSPACE, FIXED = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"


def prepare(deterministic: bool) -> None:
    """Set the environment variable that cuBLAS and torch need, unless it is set. They read it at the first GPU use.

    Raises:
        ConfigError: this process has already used a GPU.
    """
    if not deterministic or WORKSPACE in os.environ or not torch.cuda.is_available():
        return
    if torch.cuda.is_initialized():
        raise ConfigError(
            f"training.deterministic is true, but this process has used a GPU without {WORKSPACE}={FIXED}, which is "
            "read only at the first use: set it before, or train in a separate process."
        )
    os.environ[WORKSPACE] = FIXED


@contextmanager
def algorithms(deterministic: bool) -> Iterator[None]:
    """With `deterministic`, an operation without a deterministic algorithm raises an error within this context."""
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    if deterministic:
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
