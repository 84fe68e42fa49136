"""The idx format of MNIST: 8-bit arrays behind a small big-endian header, gzipped or not."""

import gzip
import hashlib
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def header(shape: tuple[int, ...]) -> bytes:
    """The idx header of an 8-bit array of this shape."""
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)


def md5(array: Bytes) -> str:
    """MD5 of the array written as an uncompressed idx file."""
    digest = hashlib.md5(header(array.shape), usedforsecurity=False)
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def read_idx(path: str | os.PathLike[str], ndim: int) -> Bytes:
    """The `ndim`-dimensional uint8 array in an idx file; gzip is told by content, not by name.

    Raises ValueError, naming the file, on a wrong magic number and on missing or surplus bytes.
    """
    raw = Path(path).read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip file ({error}): expected a whole one") from None
    magic, size = bytes((0, 0, 8, ndim)), 4 + 4 * ndim
    if raw[:4] != magic:
        raise ValueError(
            f"{path}: starts with 0x{raw[:4].hex()}, expected 0x{magic.hex()} (idx, uint8, {ndim} dimensions)"
        )
    if len(raw) < size:
        raise ValueError(f"{path}: truncated header: {len(raw)} bytes, expected {size}")
    shape = struct.unpack(f">{ndim}I", raw[4:size])
    found, expected = len(raw) - size, math.prod(shape)
    if found != expected:
        what = "truncated" if found < expected else "trailing bytes"
        raise ValueError(f"{path}: {what}: {found} bytes of data, expected {expected} for shape {list(shape)}")
    return np.frombuffer(raw, np.uint8, offset=size).reshape(shape).copy()  # frombuffer is read-only
