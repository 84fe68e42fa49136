"""Compiles cuda_guard.cpp, by which a torch that is built without CUDA takes an emulated GPU for one."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import torch

SOURCE = Path(__file__).with_name("cuda_guard.cpp")


def compiled():
    """The library, which is to be loaded before torch: compiled once for each version of torch and of its source."""
    compiler = shutil.which("g++")
    if torch.version.cuda or torch.version.hip:
        pytest.skip("this torch is built with CUDA, whose own guard is in the way of an emulated one")
    if compiler is None:
        pytest.skip("an emulated GPU needs a C++ compiler: g++")
    folder, root = _own_folder(), Path(torch.__file__).parent
    about = SOURCE.read_bytes() + str(root).encode() + torch.version.git_version.encode()
    library = folder / f"{hashlib.sha256(about).hexdigest()[:16]}.so"
    if not library.exists():
        aside = library.with_suffix(f".{os.getpid()}")
        options = ["-shared", "-fPIC", "-std=c++20", "-O0", f"-I{root / 'include'}"]
        libraries = [f"-L{root / 'lib'}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{root / 'lib'}"]
        subprocess.run([compiler, *options, SOURCE, "-o", aside, *libraries], check=True)
        aside.replace(library)  # another process may compile it, too
    return library


def _own_folder():
    folder = Path(tempfile.gettempdir()) / f"partialsym-cuda-guard-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder if folder.stat().st_uid == os.getuid() else Path(tempfile.mkdtemp())
