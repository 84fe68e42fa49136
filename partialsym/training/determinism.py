"""Training with torch's deterministic algorithms alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from partialsym.errors import ConfigError

WORKSPACE, FIXED = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"


def prepare(deterministic: bool) -> None:
    """Set, where it is not, the variable that cuBLAS and torch need: they read it when a GPU is first used.

    Raises:
        ConfigError: one has been used in this process, so that it is too late.
    """
    if not deterministic or WORKSPACE in os.environ or not torch.cuda.is_available():
        return
    if torch.cuda.is_initialized():
        raise ConfigError(
            f"training.deterministic is true, but this process has used a GPU without {WORKSPACE}={FIXED}, which is "
            "read at the first use alone: set it before, or train in a process of its own."
        )
    os.environ[WORKSPACE] = FIXED


@contextmanager
def algorithms(deterministic: bool) -> Iterator[None]:
    """Where `deterministic`, an operation without a deterministic algorithm is an error; as before afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    if deterministic:
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
