"""What is wrong with a file of CIFAR is said, and no pickle is loaded but the official ones."""

import gzip
import hashlib
import os
import pickle
import tarfile

import numpy as np
import pytest
from made_cifar import archive, known, make, members, packed, pickled, refused, webp

from partialsym.data import load
from partialsym.data.sources.cifar import cifar
from partialsym.data.sources.cifar_files import LAYOUTS

MADE = make()
BATCH = "data_batch_2"


def swap(array, index, value):
    array = array.copy()
    array[index] = value
    return array


def shorter(a):
    """The last WebP file cut in half, and the offsets with it."""
    cut = (a["offsets_test"][-1]) // 2
    return {"blob_test": a["blob_test"][:cut], "offsets_test": swap(a["offsets_test"], -1, cut)}


def pictured(mosaic, **options):
    return lambda a: {"blob_test": (blob := webp(mosaic, **options)), "offsets_test": np.array([0, len(blob)])}


GREY, CLEAR = np.zeros((64, 64, 3), np.uint8), np.random.default_rng(0).integers(0, 9, (256, 256, 4), np.uint8)
PACKED = {
    "no array": (lambda a: {"y_train": None}, "no array 'y_train', found ['blob_test'"),
    "dtype": (lambda a: {"y_test": a["y_test"].astype(int)}, "[y_test]: int64 [9], expected uint8 with 1 dimension"),
    "offset dtype": (
        lambda a: {"offsets_test": a["offsets_test"] + 0.5},
        "[offsets_test]: float64 [2], expected int64",
    ),
    "shape": (lambda a: {"blob_train": a["blob_train"][:, None]}, "1], expected uint8 with 1 dimension"),
    "class dtype": (lambda a: {"classes": np.arange(10)}, "[classes]: int64 [10], expected str"),
    "classes": (lambda a: {"classes": a["classes"][::-1]}, "[classes]: class 0 is 'truck', expected 'airplane'"),
    "nine classes": (lambda a: {"classes": a["classes"][:9]}, "9 names of classes, expected 10, 'airplane' to 'truck'"),
    "falling": (
        lambda a: {"offsets_train": a["offsets_train"][[0, 2, 1, 2]]},
        "expected 2 or more that ascend from 0 to",
    ),
    "out of range": (lambda a: {"offsets_test": a["offsets_test"] * 2}, "[offsets_test]: 2, from [0] to ["),
    "late start": (lambda a: {"offsets_test": a["offsets_test"] + [7, 0]}, "[offsets_test]: 2, from [7] to ["),
    "one offset": (lambda a: {"offsets_test": a["offsets_test"][:1]}, "[offsets_test]: 1, from [0] to [0]"),
    "cut blob": (lambda a: {"blob_test": a["blob_test"][:-9]}, "the bytes of blob_test"),
    "cut WebP": (shorter, "[blob_test]: picture 0 is damaged (OSError): expected a whole WebP file"),
    "no WebP": (lambda a: {"blob_test": a["blob_test"] ^ 255}, "picture 0 is damaged (UnidentifiedImageError)"),
    "small": (pictured(GREY), "[blob_test]: picture 0 is RGB 64x64, expected RGB 256x256"),
    "transparent": (pictured(CLEAR), "picture 0 is RGBA 256x256, expected RGB 256x256"),
    "label": (lambda a: {"y_test": swap(a["y_test"], 2, 10)}, "[y_test]: labels from 2 to 10, expected 0 to 9"),
    "few labels": (lambda a: {"y_train": a["y_train"][:64]}, "[y_train]: 64 labels, expected 65 to 128 for 2 pictures"),
    "no labels": (lambda a: {"y_test": a["y_test"][:0]}, "[y_test]: 0 labels, expected 1 to 64 for 1 pictures"),
    "many labels": (lambda a: {"y_test": np.zeros(65, np.uint8)}, "[y_test]: 65 labels, expected 1 to 64"),
}


@pytest.mark.parametrize(("change", "words"), PACKED.values(), ids=PACKED)
def test_wrong_packed_files_are_refused(tmp_path, change, words):
    arrays = packed(MADE, "CIFAR-10")
    arrays = {key: value for key, value in (arrays | change(arrays)).items() if value is not None}
    np.savez(tmp_path / "cifar10.npz", **arrays)
    with refused(str(tmp_path / "cifar10.npz"), words):
        cifar("CIFAR-10", tmp_path, content_sha256={})


def test_damaged_npz_files_are_refused(tmp_path):
    path = tmp_path / "cifar10.npz"
    np.savez(path, **packed(MADE, "CIFAR-10"))
    whole = path.read_bytes()
    for content in (b"", whole[:100], whole[: len(whole) // 2], whole[:-30], b"\x93NUMPY\x01\0"):
        path.write_bytes(content)
        with refused(str(path), "damaged or not an npz file", "expected classes, blob_train"):
            cifar("CIFAR-10", tmp_path, content_sha256={})


def with_one_bit_more(raw):
    return raw[:-1] + bytes([raw[-1] ^ 1])


def store(folder, packing, files, md5_of=None):
    """An archive, or the folder it unpacks to; and the MD5s of `md5_of`, by default those of what is stored."""
    if packing == "archive":
        path = archive(folder, "CIFAR-10", files)
    else:
        (path := folder / LAYOUTS["CIFAR-10"].folder).mkdir()
        for name, raw in pickled(files).items():
            (path / name).write_bytes(raw)
    return path, known(path, files if md5_of is None else md5_of)


@pytest.mark.parametrize("packing", ["archive", "folder"])
@pytest.mark.parametrize("where", [BATCH, "test_batch"])
def test_a_batch_file_of_another_md5_is_refused_by_name(tmp_path, packing, where):
    right = pickled(members(MADE, "CIFAR-10"))
    wrong = right | {where: with_one_bit_more(right[where])}
    path, md5 = store(tmp_path, packing, wrong, right)
    found, expected = (hashlib.md5(files[where]).hexdigest() for files in (wrong, right))
    with refused(f"{path} [{where}]: MD5 {found}, expected {expected}: damaged or not the official file"):
        cifar("CIFAR-10", tmp_path, content_sha256={}, **md5)


@pytest.mark.parametrize("packing", ["archive", "folder"])
@pytest.mark.parametrize("where", [BATCH, "test_batch"])
def test_a_missing_batch_file_is_named(tmp_path, packing, where):
    files = members(MADE, "CIFAR-10")
    path, md5 = store(tmp_path, packing, {k: v for k, v in files.items() if k != where}, files)
    with refused(f"{path}: no member '{where}': expected data_batch_1, data_batch_2"):
        cifar("CIFAR-10", tmp_path, content_sha256={}, **md5)


def test_damaged_archives_are_refused(tmp_path):
    files = members(MADE, "CIFAR-100")
    path = archive(tmp_path, "CIFAR-100", files)
    md5, whole = known(path, files), path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    tar = gzip.decompress(whole)
    packed_anew = gzip.compress(tar, 9)
    cut = gzip.compress(tar[: len(tar) // 2], 1)
    for content in (b"", b"<html>", whole[:9], whole[:middle], whole[:-9], flipped, tar, packed_anew, cut):
        path.write_bytes(content)
        with refused(f"{path}: MD5 ", f"expected {md5['archive_md5']}: damaged or not the official archive"):
            cifar("CIFAR-100", tmp_path, content_sha256={}, **md5)
    for content in (b"<html>", whole[:middle], tar):  # an MD5 that somebody gave for it
        path.write_bytes(content)
        with refused(f"{path}: damaged tar.gz file", "expected a whole one"):
            cifar("CIFAR-100", tmp_path, content_sha256={}, **known(path, files))
    path.write_bytes(whole)
    assert len(cifar("CIFAR-100", tmp_path, content_sha256={}, **md5).test) == 9


def test_a_member_that_is_a_link_is_refused(tmp_path):
    path = tmp_path / LAYOUTS["CIFAR-100"].archive
    with tarfile.open(path, "w:gz") as tar:
        entry = tarfile.TarInfo("cifar-100-python/train")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(entry)
    with refused(f"{path}: damaged tar.gz file (cifar-100-python/train is not a regular file)"):
        cifar("CIFAR-100", tmp_path, **known(path, members(MADE, "CIFAR-100")))


class Bomb:
    def __init__(self, call, *args):
        self.call = call, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("where", [BATCH, "test_batch"])
@pytest.mark.parametrize("packing", ["archive", "folder"])
def test_a_pickle_that_calls_is_refused_and_calls_nothing(tmp_path, protocol, where, packing):
    """All else is right, the MD5 of the archive too; that it would be run if its own MD5 were, is the control."""
    proof, files = tmp_path / "executed", members(MADE, "CIFAR-10")
    bomb = pickle.dumps(files[where] | {"more": Bomb(os.system, f"touch {proof}")}, protocol)
    hostile = pickled(files) | {where: bomb}
    path, md5 = store(tmp_path, packing, hostile, files)
    with refused(f"{path} [{where}]: MD5 ", "not the official file, so it is not read"):
        cifar("CIFAR-10", tmp_path, content_sha256={}, **md5)
    with refused(str(path), "MD5 ", "so it is not read"):
        load("CIFAR-10", tmp_path)
    assert not proof.exists()
    cifar("CIFAR-10", tmp_path, content_sha256={}, **known(path, hostile))
    assert proof.exists()


def test_nothing_is_unpickled_before_its_hash_is_known(tmp_path, monkeypatch):
    """Every call of `pickle.loads` is on bytes of an official MD5: here the first four files, and not the fifth."""
    files = pickled(members(MADE, "CIFAR-10"))
    path, md5 = store(tmp_path, "folder", files | {"data_batch_5": with_one_bit_more(files["data_batch_5"])}, files)
    loads, seen = pickle.loads, []
    monkeypatch.setattr(pickle, "loads", lambda raw, **options: seen.append(raw) or loads(raw, **options))
    with refused(f"{path} [data_batch_5]: MD5 "):
        cifar("CIFAR-10", tmp_path, content_sha256={}, **md5)
    assert seen == [files[f"data_batch_{i}"] for i in range(1, 5)]
