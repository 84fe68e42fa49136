"""Hostile files, and what it means to refuse one: a line that names it, in little time and memory."""

import contextlib
import gzip
import io
import json
import os
import pickle
import resource
import signal
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from partialsym.models import GResNet
from partialsym.models.saving import save_model

MEGABYTES, SECONDS = 512, 60  # of the processor: a bomb would take for ever, and what is refused thousandths of it
VAST = 2**40


class Late(BaseException):
    """It took too long."""


@contextlib.contextmanager
def bounded(megabytes=MEGABYTES, seconds=SECONDS):
    """So much more memory, and so much of the processor's time: else MemoryError or Late."""

    def late(*_):
        raise Late

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = signal.signal(signal.SIGPROF, late)
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20, hard))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def refused(name, *words):
    """By a ValueError or OSError of one line that names the file, within bounds."""
    with pytest.raises((ValueError, OSError)) as caught, bounded():
        yield
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in (str(name), *words) if word not in message] == [], message[:1000]


class Bomb:
    """Makes the file `proof` where it is unpickled."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return os.mkdir, (str(self.proof),)


def pickle_bomb(proof, protocol=2):
    return pickle.dumps(Bomb(proof), protocol)


def goes_off(proof, load):
    """The control: an unguarded reader runs it."""
    with contextlib.suppress(Exception):
        load()
    gone = proof.is_dir()
    if gone:
        proof.rmdir()
    return gone


def truncations(content):
    """At every 1 % of its length."""
    return [content[: len(content) * share // 100] for share in range(100)]


def flips(content, stop=None, step=1):
    """Every byte turned over, one at a time."""
    for i in range(0, len(content) if stop is None else min(stop, len(content)), step):
        yield content[:i] + bytes([content[i] ^ 0xFF]) + content[i + 1 :]


def sparse(path, size=VAST, start=b""):
    """A file of that many zeros, of which none is on the disk."""
    path.write_bytes(start)
    os.truncate(path, size)
    return path


def gzip_bomb(start=b"", zeros=2**32):
    """`start` and 4 GiB of zeros, in 4 MiB."""
    block = 2**24
    return gzip.compress(start, 1) + gzip.compress(bytes(block)) * (zeros // block)


def npy(shape, data=b"", dtype="|u1"):
    """An .npy file that declares any shape."""
    head = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head) + 1) + head + b"\n" + data


def zipped(**members):
    """A zip file of members by name; __ stands for a dot."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return file.getvalue()


def zip_bomb(name, start=b"", zeros=2**28):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(name, start + bytes(zeros))
    return file.getvalue()


def image_bomb(width, height):
    """A PNG that declares so many pixels and has none."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def small_model(folder, **about):
    """A folder that loads, to be damaged."""
    save_model(GResNet("T2", samples=1, width=1, hidden=2, kernel_size=3, num_classes=2), folder, **about)
    return folder


def edit(folder, **changes):
    """Other values in the record of a model."""
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def weights_of(folder):
    return next(folder.glob("*.safetensors"))


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
