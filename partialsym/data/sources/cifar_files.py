"""The files of CIFAR-10 and CIFAR-100: found, or downloaded, read and checked."""

import gzip
import io
import os
import sys
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from einops import rearrange

from partialsym._utils.limited_read import read_bytes
from partialsym.data.reading.download import MOST_BYTES, data_root, extra, fetch
from partialsym.data.reading.idx import Bytes
from partialsym.data.reading.inert import unpickle
from partialsym.data.reading.npz import LISTED, read_npz

MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
TILES, SIDE = 8, 32  # a packed picture is TILES x TILES images of SIDE x SIDE
MOST_PICTURES = 1024  # the official splits have 157 and 782
MOST_PADDING = 2**20
PACKED = {"blob": np.uint8, "offsets": np.int64, "y": np.uint8}


class Layout(NamedTuple):
    """How one of the data sets lies in files: the packed one, and the official archive with its members."""

    packed: str
    archive: str
    archive_md5: str
    folder: str
    batches: Mapping[str, tuple[str, ...]]
    meta: str
    labels_key: str
    classes_key: str


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
        batches={"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
        meta="batches.meta",
        labels_key="labels",
        classes_key="label_names",
    ),
    "CIFAR-100": Layout(
        packed="cifar100.npz",
        archive="cifar-100-python.tar.gz",
        archive_md5="eb9058c3a382ffc7106e4002c42a8d85",
        folder="cifar-100-python",
        batches={"train": ("train",), "test": ("test",)},
        meta="meta",
        labels_key="fine_labels",
        classes_key="fine_label_names",
    ),
}


def read_cifar(
    layout: Layout,
    classes: Sequence[str],
    root: str | os.PathLike[str] | None = None,
    *,
    mirrors: Sequence[str] = MIRRORS,
) -> tuple[Path, dict[str, Part]]:
    """What was read, and the splits "train" and "test" in the order they have there.

    Read from the packed npz, else the official archive, else the folder it unpacks to; where there is none, the
    archive is downloaded from `mirrors`. `classes`: the names they must give, in label order. Raises ValueError,
    naming the file, on anything damaged; for the rest see `data_root` and `fetch`.
    """
    folder = data_root(root)
    packed, archive, unpacked = (folder / name for name in (layout.packed, layout.archive, layout.folder))
    if packed.is_file():
        return packed, _read_packed(packed, layout, classes)
    if archive.is_file() or not unpacked.is_dir():
        path = archive if archive.is_file() else fetch(archive.name, layout.archive_md5, folder, mirrors)
        return path, _read_official(path, layout, classes)
    return unpacked, _read_official(unpacked, layout, classes)


def _read_packed(path: Path, layout: Layout, classes: Sequence[str]) -> dict[str, Part]:
    keys = ["classes", *(f"{kind}_{split}" for split in layout.batches for kind in PACKED)]
    arrays = read_npz(path, keys)
    for key in keys:
        array, right = arrays[key], "str" if key == "classes" else np.dtype(PACKED[key.split("_")[0]])
        if array.ndim != 1 or (array.dtype.kind != "U" if right == "str" else array.dtype != right):
            raise ValueError(f"{path} [{key}]: {array.dtype} {list(array.shape)}, expected {right} with 1 dimension")
    names = arrays["classes"]
    if not names.dtype.isnative or not names.itemsize or (names.view(np.uint32) > sys.maxunicode).any():
        raise ValueError(f"{path} [classes]: {names.dtype}, expected str of Unicode")  # tolist would not survive it
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
        raise ValueError(f"{path} [offsets_{split}]: {wrong}: expected {right}")
    pictures, each = len(offsets) - 1, TILES * TILES
    if pictures > MOST_PICTURES:
        raise ValueError(f"{path} [offsets_{split}]: {pictures:,} pictures: at most {MOST_PICTURES:,} are read")
    if not each * (pictures - 1) < len(labels) <= each * pictures:
        right = f"{each * (pictures - 1) + 1} to {each * pictures} for {pictures} pictures of {each} images"
        raise ValueError(f"{path} [y_{split}]: {len(labels)} labels, expected {right}")
    _check_labels(f"{path} [y_{split}]", labels, classes)
    opener, whole = extra("PIL.Image", "train", path.name), f"RGB {TILES * SIDE}x{TILES * SIDE}"
    mosaics = np.empty((pictures, TILES * SIDE, TILES * SIDE, 3), np.uint8)
    for k, (start, stop) in enumerate(pairwise(offsets.tolist())):
        origin = f"{path} [blob_{split}]: picture {k}"
        try:
            with opener.open(io.BytesIO(blob[start:stop].tobytes()), formats=("WEBP",)) as picture:
                if (found := f"{picture.mode} {picture.width}x{picture.height}") == whole:
                    mosaics[k] = picture
        except Exception as error:  # Pillow's own message is an address or less
            raise ValueError(f"{origin} is damaged ({type(error).__name__}): expected a whole WebP file") from None
        if found != whole:
            raise ValueError(f"{origin} is {found}, expected {whole}")
    images = rearrange(mosaics, "k (r h) (c w) rgb -> (k r c) h w rgb", r=TILES, c=TILES)
    return Part(images[: len(labels)], labels)


def _read_official(path: Path, layout: Layout, classes: Sequence[str]) -> dict[str, Part]:
    """The splits in the official archive at `path`, or in the folder that it unpacks to."""
    members = [layout.meta, *(name for names in layout.batches.values() for name in names)]
    if path.is_dir():
        files = {name: read_bytes(path / name, MOST_BYTES) for name in members if (path / name).is_file()}
    else:
        try:
            with gzip.open(path) as stream:
                wanted = {f"{layout.folder}/{name}": name for name in members}
                files = {wanted[name]: content for name, content in _untar(stream) if name in wanted}
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: damaged tar.gz file ({error}): expected a whole one") from None
    for name in members:
        if name not in files:
            raise ValueError(f"{path}: no member {name!r}: expected {', '.join(members)} in {layout.folder}")
    content = _unpickle(files.pop(layout.meta), f"{path} [{layout.meta}]", layout.classes_key)
    _check_classes(f"{path} [{layout.meta}]", content[layout.classes_key], classes)
    splits = {}
    for split, names in layout.batches.items():
        parts = [_batch(files.pop(name), f"{path} [{name}]", layout.labels_key, len(classes)) for name in names]
        splits[split] = Part(*(np.concatenate(field) for field in zip(*parts, strict=True)))
    return splits


def _untar(stream: gzip.GzipFile) -> Iterator[tuple[str, bytes]]:
    """Name and content of the regular files of a tar, in memory: nothing is ever written, and no link followed.

    The official archives have neither long names nor sparse files: what tarfile would do for those is left out.
    """
    left, block = MOST_BYTES, tarfile.BLOCKSIZE
    while any(head := stream.read(block)):
        entry = tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
        padded = -(-entry.size // block) * block
        if not 0 <= padded <= left:
            raise tarfile.ReadError(f"more than {MOST_BYTES:,} bytes")
        left -= padded + block
        content = stream.read(padded)
        if len(content) < padded:
            raise EOFError("it ends within a member")
        if entry.isreg():
            yield entry.name, content[: entry.size]
    if not head:
        raise EOFError("it has no end")
    if len(stream.read(MOST_PADDING)) == MOST_PADDING:  # read to the end, to have the checksum compared
        raise tarfile.ReadError("more after its end")


def _unpickle(raw: bytes, origin: str, *keys: str) -> dict[str, Any]:
    try:
        content = unpickle(raw)
    except Exception as error:  # a damaged pickle fails in a dozen ways
        reason = " ".join(str(error).split())
        raise ValueError(f"{origin}: refused or damaged pickle ({reason}): expected a dict of arrays") from None
    for key in keys:
        if not isinstance(content, dict) or key not in content:
            found = sorted(content)[:LISTED] if isinstance(content, dict) else type(content).__name__
            raise ValueError(f"{origin}: no {key!r}, found {found}: expected a dict with {', '.join(keys)}")
    return content


def _batch(raw: bytes, origin: str, labels_key: str, classes: int) -> Part:
    """One pickle of the archive: "data" uint8 [N, 3072] of 3 channels after one another, and a list of N labels."""
    content = _unpickle(raw, origin, "data", labels_key)
    pixels = rearrange(_pixels(content["data"], origin), "n (rgb h w) -> n h w rgb", h=SIDE, w=SIDE)
    labels, origin = content[labels_key], f"{origin} {labels_key}"
    if not isinstance(labels, list) or any(type(label) is not int for label in labels):
        raise ValueError(f"{origin}: a {type(labels).__name__}, expected a list of whole numbers")
    if len(labels) != len(pixels):
        raise ValueError(f"{origin}: {len(labels)} labels, expected {len(pixels)}, one an image")
    _check_labels(origin, labels, classes)
    return Part(pixels, np.array(labels, np.uint8))


def _pixels(raw: Any, origin: str) -> Bytes:
    width = 3 * SIDE * SIDE
    try:
        _, shape, kind, fortran, data = raw.state
        if not all(type(part) in (int, str) for part in (*shape, kind.args[0])):  # others might not even be shown
            raise TypeError("neither a shape nor a type")
        data = data.encode("latin1") if isinstance(data, str) else memoryview(data).tobytes()
        found, right = (kind.args[0], shape), ("u1", (len(data) // width, width))
        if found == right and data and len(data) % width == 0:
            return np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")
        wrong = f"{len(data)} bytes as {found[0]!r} {found[1]}"
    except (AttributeError, IndexError, TypeError, ValueError):
        wrong = "not an array"
    raise ValueError(f"{origin} data: {wrong}, expected 'u1' (uint8) of shape (N, {width})")


def _check_labels(origin: str, labels: Any, classes: int) -> None:
    low, high = int(min(labels)), int(max(labels))
    if low < 0 or high >= classes:
        raise ValueError(f"{origin}: labels from {low} to {high}, expected 0 to {classes - 1}")


def _check_classes(origin: str, found: Any, classes: Sequence[str]) -> None:
    if not isinstance(found, list) or len(found) != len(classes):
        what = f"{len(found)} names" if isinstance(found, list) else f"a {type(found).__name__}"
        raise ValueError(f"{origin}: {what} of classes, expected {len(classes)}, {classes[0]!r} to {classes[-1]!r}")
    for i, (got, right) in enumerate(zip(found, classes, strict=True)):
        if got != right:
            what = repr(got[:80]) if isinstance(got, str) else f"a {type(got).__name__}"
            raise ValueError(f"{origin}: class {i} is {what}, expected {right!r}")
