"""Data files from a stranger: bombs, forged shapes, cut and altered ones are refused, in little time and memory."""

import gzip
import hashlib
import io
import pickle
import tarfile

import numpy as np
import pytest
from helpers import few
from hostile import (
    VAST,
    bounded,
    flips,
    gzip_bomb,
    image_bomb,
    noise,
    npy,
    refused,
    sparse,
    truncations,
    zip_bomb,
    zipped,
)
from PIL import Image

from partialsym.data.reading import read_image
from partialsym.data.reading.idx import header, read_idx
from partialsym.data.reading.npz import read_npz
from partialsym.data.sources.cifar_files import LAYOUTS, _read_official, _read_packed
from partialsym.data.sources.rotmnist import read_amat

CLASSES = tuple("ab")
HUGE = header((2**31, 2**31, 2**31))


def png(pixels=None):
    Image.fromarray(noise((6, 5, 3)) if pixels is None else pixels).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def tar(**members):
    with tarfile.open(fileobj=(file := io.BytesIO()), mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"cifar-100-python/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(file.getvalue(), mtime=0)


BATCH = pickle.dumps({"data": noise((2, 3072)), "fine_labels": [0, 1]}, 3)
ARCHIVE = tar(train=BATCH, test=BATCH)
LAYOUT = LAYOUTS["CIFAR-100"]._replace(
    archive_md5=hashlib.md5(ARCHIVE).hexdigest(),
    batches={split: {split: hashlib.md5(BATCH).hexdigest()} for split in ("train", "test")},
)
ROW = b"0.5 " * 784 + b"7\n"


def amat(path):
    with path.open("rb") as file:
        return read_amat(file, path.name, 2)


READERS = {
    "idx": (lambda path: read_idx(path, 3), header((2, 3, 3)) + bytes(18)),
    "idx.gz": (lambda path: read_idx(path, 3), gzip.compress(header((2, 3, 3)) + bytes(18), mtime=0)),
    "npz": (lambda path: read_npz(path, ("x", "y")), zipped(x__npy=npy((2, 2), bytes(4)), y__npy=npy((3,), bytes(3)))),
    "amat": (amat, ROW * 2),
    "tar.gz": (lambda path: _read_official(path, LAYOUT), ARCHIVE),
    "png": (read_image, png()),
}


BOMBS = {
    "idx": [HUGE, header((2**32 - 1, 1, 1)) + b"0", header((2**16, 2**12, 2)), b"\0\0\x08\xff" + b"\xff" * 1020],
    "idx.gz": [lambda: gzip_bomb(HUGE), lambda: gzip_bomb(header((2, 3, 3))), lambda: gzip_bomb()],
    "npz": [
        lambda: zip_bomb("x.npy", npy((2**28,))),
        lambda: zip_bomb("x"),
        zipped(x__npy=npy((2**40, 2**20)), y__npy=b""),
        zipped(x__npy=npy((2**62,) * 9)),
        zipped(x__npy=npy((-1,))),
        zipped(x__npy=npy((1,), bytes(8), "|O")),
        zipped(x__npy=npy("(" * 5000)),
        zipped(x__npy=b"\x93NUMPY\x02\x00" + b"\xff" * 4),
        zipped(x=b"raw", y=b"raw"),
        npy((2**40,)),
    ],
    "amat": [lambda: b"\n" * 2**24, b"0 " * 2**20, ROW + b"nan " * 785, ROW + b"1e999 " * 785, ROW * 3, b"\0" * 2**20],
    "tar.gz": [
        lambda: gzip_bomb(),
        lambda: ARCHIVE + gzip_bomb(),
        lambda: tar(train=bytes(2**28), test=BATCH),
    ],
    "png": [image_bomb(2**31 - 1, 2**31 - 1), image_bomb(8001, 8000), image_bomb(0, 1)],
}


LARGE = [("npz", 0), ("npz", 1), ("tar.gz", 2)]  # take a second to make
EVERY_BOMB = [(kind, i) for kind, contents in BOMBS.items() for i in range(len(contents))]


@pytest.mark.parametrize(("kind", "i"), few(EVERY_BOMB, *(bomb for bomb in EVERY_BOMB if bomb not in LARGE)))
def test_bombs_are_refused(tmp_path, kind, i):
    content = BOMBS[kind][i]
    path = tmp_path / f"x.{kind}"
    path.write_bytes(content() if callable(content) else content)
    with refused(path.name):
        READERS[kind][0](path)


@pytest.mark.parametrize("kind", READERS)
def test_every_truncation_is_refused_and_the_whole_is_read(tmp_path, kind):
    (path := tmp_path / f"x.{kind}").write_bytes(whole := READERS[kind][1])
    with bounded():
        assert READERS[kind][0](path) is not None
    needed = {"amat": whole.rstrip(b"\n"), "png": whole[: whole.find(b"IEND") - 16]}  # checksums come after
    for content in truncations(needed.get(kind, whole)):
        path.write_bytes(content)
        with refused(path.name):
            READERS[kind][0](path)


@pytest.mark.parametrize("kind", READERS)
def test_every_flipped_byte_is_refused_or_read(tmp_path, kind):
    """Of headers, which the small files mostly are; what no checksum covers may be read as something else."""
    path, refusals = tmp_path / f"x.{kind}", 0
    for content in flips(READERS[kind][1], 1024):
        path.write_bytes(content)
        try:
            with bounded():
                READERS[kind][0](path)
        except (ValueError, OSError) as error:
            refusals += 1
            assert path.name in str(error).split("\n")[-1]  # noqa: PT017 (either is right)
    assert refusals >= 8


@pytest.mark.parametrize("kind", READERS)
def test_files_without_end_are_not_read_to_it(tmp_path, kind):
    path = sparse(tmp_path / f"x.{kind}", start=READERS[kind][1][:8])
    with refused(path.name):
        READERS[kind][0](path)
    assert path.stat().st_size == VAST


def test_packed_pictures_are_counted_before_they_are_made(tmp_path):
    many = {"blob": np.zeros(10**6, np.uint8), "offsets": np.arange(10**6 + 1)}
    arrays = {f"{key}_{split}": value for key, value in many.items() for split in ("train", "test")}
    labels = {f"y_{split}": np.zeros(1, np.uint8) for split in ("train", "test")}
    np.savez(path := tmp_path / "cifar100.npz", classes=np.array(CLASSES), **arrays, **labels)
    with refused(path, "1,000,000 pictures: at most 1,024 are read"):
        _read_packed(path, LAYOUT, CLASSES)
    beyond = np.array([0x7FFFFFFF] * 2, np.uint32).view("<U1")
    np.savez(path, classes=beyond, **arrays, **labels)
    with refused(path, "[classes]"):
        _read_packed(path, LAYOUT, CLASSES)
