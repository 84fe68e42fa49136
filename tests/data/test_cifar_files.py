"""What is wrong with a file of CIFAR is said, and no pickle does anything."""

import gzip
import os
import pickle

import numpy as np
import pytest
from made_cifar import archive, make, members, packed, python2, refused, webp

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


def changed(batch=BATCH, **change):
    """An edit of one file of the archive: other values for some of its keys."""
    return lambda files: files | {batch: files[batch] | change}


def without(key, batch=BATCH):
    return lambda files: files | {batch: {k: v for k, v in files[batch].items() if k != key}}


def replaced(content, batch=BATCH):
    return lambda files: files | {batch: content}


def cut(files):
    return files | {BATCH: python2(files[BATCH])[:-500]}


ARCHIVES = {
    "no member": (lambda files: {k: v for k, v in files.items() if k != BATCH}, f"no member '{BATCH}': expected"),
    "no meta": (lambda files: {k: v for k, v in files.items() if k != "batches.meta"}, "no member 'batches.meta'"),
    "cut pickle": (cut, f"[{BATCH}]: refused or damaged pickle"),
    "empty pickle": (replaced(b""), f"[{BATCH}]: refused or damaged pickle"),
    "persistent id": (replaced(b"P0\n."), f"[{BATCH}]: refused or damaged pickle (it asks for 'PERSID'"),
    "a list": (replaced([1]), "no 'data', found list: expected a dict with data, labels"),
    "an array": (replaced(np.zeros(3, np.uint8)), "no 'data', found Raw"),
    "no data": (without("data"), "no 'data', found ['coarse_labels', 'filenames', 'labels']"),
    "no labels": (without("labels"), f"[{BATCH}]: no 'labels', found ['coarse_labels', 'data', 'filenames']"),
    "no names": (without("label_names", "batches.meta"), "[batches.meta]: no 'label_names', found ['num_vis']"),
    "names": (changed("batches.meta", label_names=["cat"]), "1 names of classes, expected 10, 'airplane' to 'truck'"),
    "names as text": (changed("batches.meta", label_names="cat"), "a str of classes, expected 10"),
    "dtype": (changed(data=np.zeros((14, 3072), np.int16)), "data: 86016 bytes as 'i2' (14, 3072), expected 'u1'"),
    "shape": (changed(data=np.zeros((14, 32, 96), np.uint8)), "as 'u1' (14, 32, 96), expected 'u1' (uint8) of shape"),
    "width": (changed(data=np.zeros((14, 3071), np.uint8)), "as 'u1' (14, 3071), expected"),
    "no images": (changed(data=np.zeros((0, 3072), np.uint8)), "0 bytes as 'u1' (0, 3072), expected"),
    "objects": (changed(data=np.full((1, 3072), None)), f"[{BATCH}] data: not an array"),
    "no array": (changed(data=[0] * 3072), f"[{BATCH}] data: not an array, expected 'u1' (uint8) of shape (N, 3072)"),
    "few labels": (changed(labels=[0] * 13), f"[{BATCH}] labels: 13 labels, expected 14, one an image"),
    "high label": (changed(labels=[0] * 13 + [10]), "labels from 0 to 10, expected 0 to 9"),
    "low label": (changed(labels=[-1] + [0] * 13), "labels from -1 to 0, expected 0 to 9"),
    "real labels": (changed(labels=[0.5] * 14), f"[{BATCH}] labels: a list, expected a list of whole numbers"),
    "text labels": (changed(labels="0" * 14), f"[{BATCH}] labels: a str, expected a list of whole numbers"),
}


@pytest.mark.parametrize(("change", "words"), ARCHIVES.values(), ids=ARCHIVES)
def test_wrong_archives_are_refused(tmp_path, change, words):
    path = archive(tmp_path, "CIFAR-10", change(members(MADE, "CIFAR-10")))
    with refused(str(path), words):
        cifar("CIFAR-10", tmp_path, content_sha256={})


def test_damaged_archives_are_refused(tmp_path):
    path = archive(tmp_path, "CIFAR-100", members(MADE, "CIFAR-100"))
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes(byte ^ 255 for byte in whole[middle : middle + 64]) + whole[middle + 64 :]
    tar = gzip.decompress(whole)
    cut = gzip.compress(tar[: len(tar) // 2], 1)
    for content in (b"", b"<html>", whole[:9], whole[:middle], whole[:-9], flipped, tar, cut):
        path.write_bytes(content)
        with refused(f"{path}: damaged tar.gz file", "expected a whole one"):
            cifar("CIFAR-100", tmp_path, content_sha256={})


class Bomb:
    def __init__(self, call, *args):
        self.call = call, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("where", ["batches.meta", BATCH, "test_batch"])
@pytest.mark.parametrize("packing", ["archive", "folder"])
def test_a_pickle_that_calls_is_refused_and_calls_nothing(tmp_path, protocol, where, packing):
    proof, files = tmp_path / "executed", members(MADE, "CIFAR-10")
    bomb = pickle.dumps(files[where] | {"more": Bomb(os.system, f"touch {proof}")}, protocol)
    files = {k: bomb if k == where else python2(v) for k, v in files.items()}
    if packing == "archive":
        archive(tmp_path, "CIFAR-10", files)
    else:
        (folder := tmp_path / LAYOUTS["CIFAR-10"].folder).mkdir()
        for name, raw in files.items():
            (folder / name).write_bytes(raw)
    with refused(f"[{where}]: refused or damaged pickle (it asks for '", "which plain arrays do not need"):
        cifar("CIFAR-10", tmp_path, content_sha256={})
    assert not proof.exists()
    pickle.loads(bomb)  # without the guard it goes off
    assert proof.exists()


@pytest.mark.parametrize("call", [eval, getattr, np.fromfile, np.load, pickle.loads, Bomb])
def test_neither_builtins_nor_the_rest_of_numpy_are_to_be_had(tmp_path, call):
    raw = pickle.dumps({"data": Bomb(call, "0", "0")}, 2)
    archive(tmp_path, "CIFAR-10", members(MADE, "CIFAR-10") | {BATCH: raw})
    with refused(f"[{BATCH}]: refused", "it asks for '", call.__name__):
        cifar("CIFAR-10", tmp_path, content_sha256={})
