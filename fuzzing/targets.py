"""What is fuzzed: for every reader a function of bytes, and seeds to begin with, made here."""

import gzip
import hashlib
import io
import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import yaml
from PIL import Image

from partialsym.config import Experiment, read_yaml
from partialsym.data.reading import as_float, files, fitted
from partialsym.data.reading.idx import header, read_idx
from partialsym.data.reading.npz import read_npz
from partialsym.data.sources.rotmnist import read_amat
from partialsym.models import GResNet, saving

FORMS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "TGA", "ICO", "PCX", "SGI", "DDS", "JPEG2000")


class Target(NamedTuple):
    """A reader: what it does with bytes, and bytes it reads, or nearly."""

    read: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]


def one_line(target: Target, data: bytes) -> None:
    """Read `data`; what is refused must be refused by a ValueError or OSError of one line: anything else escapes."""
    try:
        target.read(data)
    except (ValueError, OSError) as error:
        message = str(error)
        if not message or "\n" in message:
            raise AssertionError(f"not one line: {message!r}") from error


@cache
def _folder() -> Path:
    """One temporary folder a process, in memory where there is such a file system."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="fuzzing-", dir=memory if memory.is_dir() else None))


def _file(data: bytes, name: str = "fuzzed") -> Path:
    path = _folder() / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def _configs() -> list[bytes]:
    tree = Experiment(name="a/b").to_dict()
    flow = yaml.safe_dump(tree, default_flow_style=True)
    return [yaml.safe_dump(tree).encode(), flow.encode(), b"name: x\nmodel: {kernel_options: {omega0: .inf}}\n", b"- 1"]


def _read_image(data: bytes) -> object:
    """Of small ones: what is within the limit of pixels costs time alone; to a size, in [0, 1]."""
    with patch.object(files, "MOST_PIXELS", 2**16):
        image = as_float(fitted(files.decode(io.BytesIO(data), "fuzzed"), (4, 7), "crop"), (3, 4095))
    assert float(image.min()) >= 0
    assert float(image.max()) <= 1
    return image


def _images() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    made = []
    for mode in ("RGB", "L", "P", "1", "RGBA"):
        for form in FORMS:
            try:
                Image.fromarray(pixels).convert(mode).save(file := io.BytesIO(), form)
            except (OSError, ValueError, KeyError):  # not every format has every mode
                continue
            made.append(file.getvalue())
    for form in ("PNG", "TIFF"):
        Image.fromarray(257 * pixels[:, :, 0].astype(np.uint16)).save(file := io.BytesIO(), form)
        made.append(file.getvalue())
    return made


def _idx() -> list[bytes]:
    raw = header((2, 3, 3)) + bytes(range(18))
    return [raw, gzip.compress(raw, mtime=0), raw[:-1]]


def _npz() -> list[bytes]:
    made = []
    for save in (np.savez, np.savez_compressed):
        save(file := io.BytesIO(), x=np.arange(6, dtype=np.uint8).reshape(2, 3), y=np.array(["a", "b"]))
        made.append(file.getvalue())
    return made


def _amat() -> list[bytes]:
    row = " ".join(["0.5"] * 784)
    return [f"{row} 1.0\n{row} 9\n".encode(), b"1 2 3\n", b"\n\n", b"1e999 nan\n"]


@cache
def _network() -> GResNet:
    return GResNet("T2", samples=1, width=1, hidden=2, kernel_size=3, num_classes=2)


@cache
def _model() -> Path:
    folder = _folder() / "model"
    saving.save_model(_network(), folder)
    return folder


def _weights() -> Path:
    record = json.loads((_model() / "model.json").read_text())
    return _model() / record["weights"]


def _read_record(data: bytes) -> object:
    folder = _folder() / "record"
    folder.mkdir(exist_ok=True)
    (folder / _weights().name).write_bytes(_weights().read_bytes())
    (folder / "model.json").write_bytes(data)
    return saving.load_model(folder)


def _read_weights(data: bytes) -> object:
    """The sha256 is made to fit, as a forger would; the network, which is slow to make, is the same every time."""
    record = json.loads((_model() / "model.json").read_text()) | {
        "weights": "w",
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    _file(data, "weights/w")
    _file(json.dumps(record).encode(), "weights/model.json")
    with patch.object(saving, "rebuild", return_value=_network()):
        return saving.load_model(_folder() / "weights")


TARGETS = {
    "config": Target(lambda data: Experiment.from_dict(read_yaml(_file(data))), _configs),
    "image": Target(_read_image, _images),
    "idx": Target(lambda data: read_idx(_file(data), 3), _idx),
    "npz": Target(lambda data: read_npz(_file(data), ("x", "y")), _npz),
    "amat": Target(lambda data: read_amat(io.BytesIO(data), "fuzzed", 2), _amat),
    "record": Target(_read_record, lambda: [(_model() / "model.json").read_bytes()]),
    "weights": Target(_read_weights, lambda: [_weights().read_bytes()]),
}
