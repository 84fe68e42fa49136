"""Find or download the files of MNIST, read them and check them."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from partialsym.data.reading.download import data_root, fetch
from partialsym.data.reading.idx import Bytes, md5, read_idx
from partialsym.data.reading.npz import read_npz
from partialsym.errors import InputError

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
GZIP_MD5 = {
    "x_train": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "y_train": "d53e105ee54ea40749a09fcbcd1e9432",
    "x_test": "9fb629c4189551a2d022fa330f9573f3",
    "y_test": "ec29112dd5afa0611ce80d1b7f02629c",
}
# of the uncompressed files, so that arrays from any container can be checked
CONTENT_MD5 = {
    "x_train": "6bbc9ace898e44ae57da46a324031adb",
    "y_train": "a25bea736e30d166cdddb491f175f624",
    "x_test": "2646ac647ad5339dbf082846283269ea",
    "y_test": "27ae3e4e09519cfbb04c329615203637",
}


def read_mnist(
    root: str | os.PathLike[str] | None = None,
    *,
    mirrors: Sequence[str] = MIRRORS,
    gzip_md5: Mapping[str, str] = GZIP_MD5,
    content_md5: Mapping[str, str] = CONTENT_MD5,
) -> dict[str, Bytes]:
    """MNIST in uint8: x_train [60000, 28, 28], y_train [60000], x_test [10000, 28, 28], y_test [10000].

    They are read from `mnist.npz`, else from the four idx files (gzipped or not, in `root` or `root/MNIST/raw`).
    Missing idx files are downloaded from `mirrors` and checked with `gzip_md5`. `content_md5`: the expected MD5 of each
    array as an idx file; an array without one is not checked. Raises ValueError, naming the file, if a file is damaged;
    for other errors see `data_root` and `fetch`.
    """
    folder = data_root(root)
    npz = folder / "mnist.npz"
    if npz.is_file():
        arrays = _read_npz(npz)
        origin = {key: f"{npz} [{key}]" for key in FILES}
    else:
        paths = {
            key: _find(folder, name) or fetch(f"{name}.gz", gzip_md5[key], folder, mirrors)
            for key, name in FILES.items()
        }
        arrays = {key: read_idx(path, _ndim(key)) for key, path in paths.items()}
        origin = {key: str(path) for key, path in paths.items()}
    for key, expected in content_md5.items():
        if (found := md5(arrays[key])) != expected:
            raise InputError(f"{origin[key]}: not the official content: MD5 as idx {found}, expected {expected}")
    for x, y in (("x_train", "y_train"), ("x_test", "y_test")):
        if len(arrays[x]) != len(arrays[y]):
            raise InputError(f"{origin[y]}: {len(arrays[y])} labels, expected {len(arrays[x])}, one per image")
    return arrays


def _ndim(key: str) -> int:
    return 3 if key.startswith("x") else 1


def _find(folder: Path, name: str) -> Path | None:
    spellings = [spelt + end for spelt in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]
    candidates = (place / spelt for place in (folder, folder / "MNIST" / "raw") for spelt in spellings)
    return next((path for path in candidates if path.is_file()), None)


def _read_npz(path: Path) -> dict[str, Bytes]:
    loaded = read_npz(path, list(FILES))
    for key, array in loaded.items():
        if array.dtype != np.uint8 or array.ndim != _ndim(key):
            found = f"{array.dtype} {list(array.shape)}"
            raise InputError(f"{path} [{key}]: {found}, expected uint8 with {_ndim(key)} dimensions")
    return loaded
