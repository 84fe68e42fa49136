"""HDF5 files from a stranger: what they name elsewhere is not read, what they declare is not believed."""

import os
import subprocess
import sys

import hostile
import numpy as np
import pytest
from hostile import flips, noise, refused, sparse, truncations

from partialsym.data.sources.pcam import MOST_IMAGES, _read

h5py = pytest.importorskip("h5py")
SHAPE = (96, 96, 3)


def write(path, make):
    with h5py.File(path, "w") as file:
        make(file)
    return path


def virtual(file):
    layout = h5py.VirtualLayout((2, *SHAPE), np.uint8)
    layout[:] = h5py.VirtualSource("other.h5", "x", (2, *SHAPE))
    file.create_virtual_dataset("x", layout)


def link(file, to):
    file["x"] = to


FILES = {
    "an external link": (
        lambda file: link(file, h5py.ExternalLink("other.h5", "/x")),
        "is a link to another file or object",
    ),
    "a soft link": (lambda file: link(file, h5py.SoftLink("/y")), "is a link to another file or object"),
    "external storage": (
        lambda file: file.create_dataset("x", (2, *SHAPE), np.uint8, external=[("other.h5", 0, 2 * 96 * 96 * 3)]),
        "is stored in other files",
    ),
    "a virtual array": (virtual, "is stored in other files"),
    "a bomb": (
        lambda file: file.create_dataset("x", (MOST_IMAGES + 1, *SHAPE), np.uint8, chunks=(1, *SHAPE)),
        "declares 262,145 images",
    ),
    "a group": (lambda file: file.create_group("x"), "no array 'x'"),
    "objects": (lambda file: file.create_dataset("x", (1,), h5py.string_dtype()), "object [1]"),
    "nothing": (lambda file: None, "no array 'x', found []"),
}


@pytest.mark.parametrize(("make", "words"), FILES.values(), ids=FILES)
def test_hostile_files_are_refused(tmp_path, make, words):
    write(tmp_path / "other.h5", lambda file: file.create_dataset("x", data=noise((2, *SHAPE))))
    with refused(path := write(tmp_path / "x.h5", make), words):
        _read(path, "x")


def test_every_truncation_is_refused_and_the_whole_is_read(tmp_path):
    pixels = noise((2, *SHAPE))
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=pixels))
    whole = path.read_bytes()
    assert _read(path, "x").shape == (2, 3, 96, 96)
    for content in truncations(whole):
        path.write_bytes(content)
        with refused(path):
            _read(path, "x")
    with refused(sparse(path)):
        _read(path, "x")


@pytest.mark.long
def test_every_flipped_byte_of_the_header_is_refused_or_read(tmp_path):
    """In a process of its own: the library below is not ours."""
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=noise((1, *SHAPE))))
    for i, content in enumerate(flips(path.read_bytes(), 2048)):
        (tmp_path / f"{i}.h5").write_bytes(content)
    code = """
import sys
from pathlib import Path
from partialsym.data.sources.pcam import _read
sys.path.append(sys.argv[2])
from hostile import bounded
for path in Path(sys.argv[1]).glob("*.h5"):
    try:
        with bounded():
            _read(path, "x")
    except (ValueError, OSError) as error:
        assert path.name in str(error) and chr(10) not in str(error), error
"""
    command = [sys.executable, "-c", code, str(tmp_path), os.path.dirname(hostile.__file__)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
