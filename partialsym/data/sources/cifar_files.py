"""Find or download the files of CIFAR-10 and CIFAR-100, read them and check them."""

import hashlib
import io
import os
import pickle
import sys
import tarfile
import warnings
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.exceptions import VisibleDeprecationWarning

from partialsym._utils.limited_read import read_bytes
from partialsym.data.reading.download import MOST_BYTES, data_root, extra, fetch
from partialsym.data.reading.idx import Bytes
from partialsym.data.reading.npz import read_npz
from partialsym.errors import InputError

MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
TILES, SIDE = 8, 32  # a packed picture is TILES x TILES images of SIDE x SIDE
MOST_PICTURES = 1024  # the official splits have 157 and 782
PACKED = {"blob": np.uint8, "offsets": np.int64, "y": np.uint8}


class Layout(NamedTuple):
    """The files of one of the data sets: the packed file, and the official archive with its batch files.

    `batches`: for each split, the names of its files and their MD5s.
    """

    packed: str
    archive: str
    archive_md5: str
    folder: str
    batches: Mapping[str, Mapping[str, str]]
    labels_key: str


class Part(NamedTuple):
    """One split: images uint8 [N, 32, 32, 3], labels uint8 [N]."""

    images: Bytes
    labels: Bytes


LAYOUTS = {
    "CIFAR-10": Layout(
        packed="cifar10.npz",
        archive="cifar-10-python.tar.gz",
        archive_md5="c58f30108f718f92721af3b95e74349a",
        folder="cifar-10-batches-py",
        batches={
            "train": {
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            },
            "test": {"test_batch": "40351d587109b95175f43aff81a1287e"},
        },
        labels_key="labels",
    ),
    "CIFAR-100": Layout(
        packed="cifar100.npz",
        archive="cifar-100-python.tar.gz",
        archive_md5="eb9058c3a382ffc7106e4002c42a8d85",
        folder="cifar-100-python",
        batches={
            "train": {"train": "16019d7e3df5f24257cddd939b257f8d"},
            "test": {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
        },
        labels_key="fine_labels",
    ),
}


def read_cifar(
    layout: Layout,
    classes: Sequence[str],
    root: str | os.PathLike[str] | None = None,
    *,
    mirrors: Sequence[str] = MIRRORS,
) -> tuple[Path, dict[str, Part]]:
    """Return the path that was read, and the splits "train" and "test" in the order of the files.

    The packed npz is used first, then the official archive, then the folder that it unpacks to. If none exists, the
    archive is downloaded from `mirrors`. `classes`: the names that a packed file must have, in label order. Raises
    ValueError, naming the file, if a file is damaged or changed; for other errors see `data_root` and `fetch`.
    """
    folder = data_root(root)
    packed, archive, unpacked = (folder / name for name in (layout.packed, layout.archive, layout.folder))
    if packed.is_file():
        return packed, _read_packed(packed, layout, classes)
    if archive.is_file() or not unpacked.is_dir():
        path = archive if archive.is_file() else fetch(archive.name, layout.archive_md5, folder, mirrors)
        return path, _read_official(path, layout)
    return unpacked, _read_official(unpacked, layout)


def _read_packed(path: Path, layout: Layout, classes: Sequence[str]) -> dict[str, Part]:
    keys = ["classes", *(f"{kind}_{split}" for split in layout.batches for kind in PACKED)]
    arrays = read_npz(path, keys)
    for key in keys:
        array, right = arrays[key], "str" if key == "classes" else np.dtype(PACKED[key.split("_")[0]])
        if array.ndim != 1 or (array.dtype.kind != "U" if right == "str" else array.dtype != right):
            raise InputError(f"{path} [{key}]: {array.dtype} {list(array.shape)}, expected {right} with 1 dimension")
    names = arrays["classes"]
    if not names.dtype.isnative or not names.itemsize or (names.view(np.uint32) > sys.maxunicode).any():
        raise InputError(f"{path} [classes]: {names.dtype}, expected str of Unicode")  # tolist would not survive it
    _check_classes(f"{path} [classes]", names.tolist(), classes)
    return {split: _unpack(path, split, arrays, len(classes)) for split in layout.batches}


def _unpack(path: Path, split: str, arrays: Mapping[str, Any], classes: int) -> Part:
    """The images of a packed split: WebP pictures, file k of them at blob[offsets[k] : offsets[k + 1]]."""
    blob, offsets, labels = (arrays[f"{kind}_{split}"] for kind in PACKED)
    falls = np.flatnonzero(offsets[1:] <= offsets[:-1])
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(blob) or len(falls):
        wrong = f"{len(offsets)}, from {offsets[:1].tolist()} to {offsets[-1:].tolist()}"
        if len(falls):
            wrong = f"{offsets[falls[0] + 1]} after {offsets[falls[0]]}"
        right = f"2 or more that ascend from 0 to {len(blob)}, the bytes of blob_{split}"
        raise InputError(f"{path} [offsets_{split}]: {wrong}: expected {right}")
    pictures, each = len(offsets) - 1, TILES * TILES
    if pictures > MOST_PICTURES:
        raise InputError(f"{path} [offsets_{split}]: {pictures:,} pictures: at most {MOST_PICTURES:,} are read")
    if not each * (pictures - 1) < len(labels) <= each * pictures:
        right = f"{each * (pictures - 1) + 1} to {each * pictures} for {pictures} pictures of {each} images"
        raise InputError(f"{path} [y_{split}]: {len(labels)} labels, expected {right}")
    _check_labels(f"{path} [y_{split}]", labels, classes)
    opener, whole = extra("PIL.Image", "train", path.name), f"RGB {TILES * SIDE}x{TILES * SIDE}"
    mosaics = np.empty((pictures, TILES * SIDE, TILES * SIDE, 3), np.uint8)
    for k, (start, stop) in enumerate(pairwise(offsets.tolist())):
        origin = f"{path} [blob_{split}]: picture {k}"
        try:
            with opener.open(io.BytesIO(blob[start:stop].tobytes()), formats=("WEBP",)) as picture:
                if (found := f"{picture.mode} {picture.width}x{picture.height}") == whole:
                    mosaics[k] = picture
        except Exception as error:  # Pillow's message shows at most an object's address
            raise InputError(f"{origin} is damaged ({type(error).__name__}): expected a whole WebP file") from None
        if found != whole:
            raise InputError(f"{origin} is {found}, expected {whole}")
    tiles = mosaics.reshape(pictures, TILES, SIDE, TILES, SIDE, 3).swapaxes(2, 3)
    return Part(tiles.reshape(-1, SIDE, SIDE, 3)[: len(labels)], labels)


def _read_official(path: Path, layout: Layout) -> dict[str, Part]:
    """The splits in the official archive at `path`, or in the folder that it unpacks to."""
    names = [name for batches in layout.batches.values() for name in batches]
    if path.is_dir():
        files = {name: read_bytes(path / name, MOST_BYTES) for name in names if (path / name).is_file()}
    else:
        raw = read_bytes(path, MOST_BYTES)
        check_md5(str(path), raw, layout.archive_md5, "archive")
        files = _untar(path, raw, {f"{layout.folder}/{name}": name for name in names})
    for name in names:
        if name not in files:
            raise InputError(f"{path}: no member {name!r}: expected {', '.join(names)} in {layout.folder}")
    splits = {}
    for split, batches in layout.batches.items():
        parts = [
            read_batch(f"{path} [{name}]", files.pop(name), md5, layout.labels_key) for name, md5 in batches.items()
        ]
        splits[split] = Part(*(np.concatenate(field) for field in zip(*parts, strict=True)))
    return splits


def _untar(path: Path, raw: bytes, wanted: Mapping[str, str]) -> dict[str, bytes]:
    """The content of the members in `wanted`, by the name that `wanted` maps them to. Nothing is written to disk."""
    try:
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:gz") as archive:
            return {wanted[member.name]: _content(archive, member) for member in archive if member.name in wanted}
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged tar.gz file ({error}): expected a whole one") from None


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member) if member.isreg() else None
    if file is None:
        raise tarfile.ReadError(f"{member.name} is not a regular file")
    return file.read()


def read_batch(origin: str, raw: bytes, md5: str, labels_key: str) -> Part:
    """One official batch file: a pickled dict with uint8 "data" [N, 3072], channel after channel, and N labels.

    A pickle can run any code. This one is loaded only if its MD5 is that of the official file, which runs none.
    """
    check_md5(origin, raw, md5, "file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VisibleDeprecationWarning)  # NumPy of 2009 wrote flags as 0 and 1
        content = pickle.loads(raw, encoding="latin1")  # as Python 2 wrote it
    pixels = content["data"].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return Part(pixels, np.array(content[labels_key], np.uint8))


def check_md5(origin: str, raw: bytes, md5: str, what: str) -> None:
    """Raise ValueError, naming `origin`, if the MD5 of `raw` differs from `md5`."""
    if (found := hashlib.md5(raw).hexdigest()) != md5:
        raise InputError(
            f"{origin}: MD5 {found}, expected {md5}: damaged or not the official {what}, so it is not read"
        )


def _check_labels(origin: str, labels: Any, classes: int) -> None:
    low, high = int(min(labels)), int(max(labels))
    if low < 0 or high >= classes:
        raise InputError(f"{origin}: labels from {low} to {high}, expected 0 to {classes - 1}")


def _check_classes(origin: str, found: Any, classes: Sequence[str]) -> None:
    if not isinstance(found, list) or len(found) != len(classes):
        what = f"{len(found)} names" if isinstance(found, list) else f"a {type(found).__name__}"
        raise InputError(f"{origin}: {what} of classes, expected {len(classes)}, {classes[0]!r} to {classes[-1]!r}")
    for i, (got, right) in enumerate(zip(found, classes, strict=True)):
        if got != right:
            what = repr(got[:80]) if isinstance(got, str) else f"a {type(got).__name__}"
            raise InputError(f"{origin}: class {i} is {what}, expected {right!r}")
