"""The idx format of MNIST: a small big-endian header followed by an 8-bit array, gzipped or not."""

import gzip
import hashlib
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from partialsym.data.reading.download import MOST_BYTES
from partialsym.errors import InputError

Bytes = NDArray[np.uint8]
GZIP = b"\x1f\x8b"


def header(shape: tuple[int, ...]) -> bytes:
    """The idx header of an 8-bit array of this shape."""
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)


def md5(array: Bytes) -> str:
    """MD5 of the array as an uncompressed idx file."""
    digest = hashlib.md5(header(array.shape), usedforsecurity=False)
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def read_idx(path: str | os.PathLike[str], ndim: int) -> Bytes:
    """The `ndim`-dimensional uint8 array in an idx file. Gzip is detected by content, not by name.

    Only the bytes that the header declares are unpacked, at most MOST_BYTES. Raises ValueError, naming the file, for a
    wrong magic number, for missing or surplus bytes, and if more than MOST_BYTES are declared.
    """
    with Path(path).open("rb") as file, gzip.open(file) if file.peek(2)[:2] == GZIP else file as stream:
        try:
            shape = _shape(path, stream.read(4 + 4 * ndim), ndim)
            expected = math.prod(shape)
            raw = bytearray(stream.read(expected + 1))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"{path}: damaged gzip file ({error}): expected a whole one") from None
    if len(raw) != expected:
        what = f"truncated: {len(raw)}" if len(raw) < expected else f"trailing bytes: more than {expected}"
        raise InputError(f"{path}: {what} bytes of data, expected {expected} for shape {list(shape)}")
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _shape(path: str | os.PathLike[str], head: bytes, ndim: int) -> tuple[int, ...]:
    magic, size = bytes((0, 0, 8, ndim)), 4 + 4 * ndim
    if head[:4] != magic:
        raise InputError(
            f"{path}: starts with 0x{head[:4].hex()}, expected 0x{magic.hex()} (idx, uint8, {ndim} dimensions)"
        )
    if len(head) < size:
        raise InputError(f"{path}: truncated header: {len(head)} bytes, expected {size}")
    shape = struct.unpack(f">{ndim}I", head[4:])
    if math.prod(shape) > MOST_BYTES:
        raise InputError(f"{path}: declares {list(shape)}, {math.prod(shape):,} bytes: at most {MOST_BYTES:,} are read")
    return shape
