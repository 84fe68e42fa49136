"""The provenance of a result: versions, machine and commit."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import partialsym


def provenance() -> dict[str, Any]:
    """Versions, machine and git commit (None outside a checkout; `dirty` where files of the package differ from it)."""
    packages = ("torch", "lightning", "numpy")
    return {
        "versions": {
            "partialsym": partialsym.__version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in packages},
        },
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "system": platform.system(),
        },
        "git": _commit(),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> dict[str, Any]:
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:  # installed, perhaps inside another repository
        return {"commit": None, "dirty": None}
    return {"commit": _git("rev-parse", "HEAD"), "dirty": bool(_git("status", "--porcelain", "."))}


def _git(*args: str) -> str | None:
    folder = Path(partialsym.__file__).parent
    try:
        done = subprocess.run(["git", "-C", str(folder), *args], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
