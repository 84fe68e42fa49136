"""CIFAR: one data set from every container, the official one only, and no pickle that does anything."""

import contextlib
import hashlib
import io
import os
import pickle
import struct
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from partialsym.data import load
from partialsym.data.base import statistics
from partialsym.data.cifar import CLASSES, CONTENT_SHA256, STATISTICS, cifar
from partialsym.data.cifar_files import LAYOUTS

NAMES = list(LAYOUTS)


@pytest.fixture(scope="module")
def made():
    """For each name and split: images [N, 32, 32, 3] and labels [N]; the first two images are the same."""
    rng, sets = np.random.default_rng(0), {}
    for name in NAMES:
        for split, n in (("train", 70), ("test", 9)):
            images, labels = rng.integers(0, 256, (n, 32, 32, 3), np.uint8), rng.integers(0, 10, n).astype(np.uint8)
            images[1], labels[:2] = images[0], (9, 3)
            sets[name, split] = images, labels
    return sets


def digests(made, name):
    """What the canonical splits should hash to, by plain sorting of triples."""
    found = {}
    for split in ("train", "test"):
        triples = sorted(
            (hashlib.sha256(x.tobytes()).digest(), int(y), x.tobytes()) for x, y in zip(*made[name, split])
        )
        found[split] = hashlib.sha256(b"".join(x for *_, x in triples) + bytes(y for _, y, _ in triples)).hexdigest()
    return found


def webp(mosaic, **options):
    buffer = io.BytesIO()
    Image.fromarray(mosaic).save(buffer, "WEBP", **({"lossless": True, "method": 0} | options))
    return np.frombuffer(buffer.getvalue(), np.uint8)


def packed(made, name):
    """The arrays of a packed file, its images in an order of their own."""
    arrays = {"classes": np.array(CLASSES[name])}
    for split in ("train", "test"):
        images, labels = made[name, split]
        order = np.random.default_rng(1).permutation(len(images))
        tiles = np.zeros((-(-len(images) // 64) * 64, 32, 32, 3), np.uint8)
        tiles[: len(images)] = images[order]
        mosaics = tiles.reshape(-1, 8, 8, 32, 32, 3).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 256, 256, 3)
        files = [webp(mosaic) for mosaic in mosaics]
        arrays |= {f"blob_{split}": np.concatenate(files), f"y_{split}": labels[order]}
        arrays[f"offsets_{split}"] = np.cumsum([0, *map(len, files)])
    return arrays


class Python2(pickle._Pickler):
    """Writes as Python 2 did: a string is bytes, and numpy lives in numpy.core."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, text):
        raw = text.encode() if isinstance(text, str) else text
        self.write(b"T" + struct.pack("<i", len(raw)) + raw)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string

    def save_global(self, obj, name=None):
        self.write(f"c{obj.__module__.replace('numpy._core', 'numpy.core')}\n{obj.__name__}\n".encode())
        self.memoize(obj)


def python2(content):
    buffer = io.BytesIO()
    Python2(buffer, 2).dump(content)
    return buffer.getvalue()


def members(made, name):
    """The files of the official archive, before they are pickled."""
    layout, files = LAYOUTS[name], {}
    files[layout.meta] = {"num_vis": 3072, layout.classes_key: list(CLASSES[name])}
    for split, batches in layout.batches.items():
        images, labels = (np.array_split(field, len(batches)) for field in made[name, split])
        for batch, x, y in zip(batches, images, labels, strict=True):
            data = np.ascontiguousarray(x.transpose(0, 3, 1, 2)).reshape(-1, 3072)
            files[batch] = {"data": data, layout.labels_key: y.tolist(), "coarse_labels": [0], "filenames": ["é.png"]}
    return files


def archive(folder, name, files, dump=python2):
    layout = LAYOUTS[name]
    with tarfile.open(folder / layout.archive, "w:gz", compresslevel=1) as tar:
        for member, content in {"readme.html": b"<html>", **files}.items():
            raw = content if isinstance(content, bytes) else dump(content)
            entry = tarfile.TarInfo(f"{layout.folder}/{member}")
            entry.size = len(raw)
            tar.addfile(entry, io.BytesIO(raw))
    return folder / layout.archive


def fortran(files):
    return {k: v | {"data": np.asfortranarray(v["data"])} if "data" in v else v for k, v in files.items()}


@contextlib.contextmanager
def refused(*words):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the words are checked below)
        yield
    message = str(error.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize("name", NAMES)
def test_every_container_gives_the_same(tmp_path, made, name):
    folders = [tmp_path / what for what in ("packed", "archive", "fortran", "python 3", "unpacked")]
    for folder in folders:
        folder.mkdir()
    np.savez(folders[0] / LAYOUTS[name].packed, **packed(made, name))
    archive(folders[1], name, members(made, name))
    archive(folders[2], name, fortran(members(made, name)))
    path = archive(folders[3], name, members(made, name), dump=lambda content: pickle.dumps(content, 4))
    with tarfile.open(path) as tar:
        tar.extractall(folders[4], filter="data")
    state, results = torch.get_rng_state(), []
    for folder in folders:
        data = cifar(name, folder, split_seed=3, mirrors=(), content_sha256=digests(made, name))
        results.append((data.train, data.validation, data.test))
        assert [len(split) for split in results[-1]] == [63, 7, 9]
        assert (data.name, data.classes, (data.mean, data.std)) == (name, CLASSES[name], STATISTICS[name])
        assert (data.channels, data.size, data.train.images.is_contiguous()) == (3, (32, 32), True)
    assert torch.equal(torch.get_rng_state(), state)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            for field in ("images", "labels", "originals"):
                assert torch.equal(getattr(one, field), getattr(two, field))
    whole = {(x.tobytes(), int(y)) for split in ("train", "test") for x, y in zip(*made[name, split], strict=True)}
    images, labels, originals = (
        torch.cat([getattr(s, f) for s in results[0]]) for f in ("images", "labels", "originals")
    )
    assert {(x.tobytes(), y) for x, y in zip(images.permute(0, 2, 3, 1).numpy(), labels.tolist(), strict=True)} == whole
    assert sorted(originals.tolist()) == list(range(79))
    assert int(results[0][2].originals.min()) == 70
    hashes = [hashlib.sha256(x.tobytes()).digest() for x in results[0][2].images.permute(0, 2, 3, 1).numpy()]
    assert hashes == sorted(hashes)


@pytest.mark.parametrize("what", ["pixel", "label"])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("container", ["packed", "archive"])
def test_changed_content_is_refused(tmp_path, made, container, split, what):
    expected = digests(made, "CIFAR-10")
    images, labels = (field.copy() for field in made["CIFAR-10", split])
    (images if what == "pixel" else labels).flat[5] ^= 1
    changed = made | {("CIFAR-10", split): (images, labels)}
    if container == "packed":
        np.savez(path := tmp_path / "cifar10.npz", **packed(changed, "CIFAR-10"))
    else:
        path = archive(tmp_path, "CIFAR-10", members(changed, "CIFAR-10"))
    with refused(f"{path}: not the official {split} split", digests(changed, "CIFAR-10")[split], expected[split]):
        cifar("CIFAR-10", tmp_path, content_sha256=expected)
    with refused("not the official train split", CONTENT_SHA256["CIFAR-10"]["train"]):
        load("CIFAR-10", tmp_path)
    assert len(cifar("CIFAR-10", tmp_path, content_sha256={}).test) == 9


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
    "label": (lambda a: {"y_test": swap(a["y_test"], 2, 10)}, "[y_test]: labels from 0 to 10, expected 0 to 9"),
    "few labels": (lambda a: {"y_train": a["y_train"][:64]}, "[y_train]: 64 labels, expected 65 to 128 for 2 pictures"),
    "no labels": (lambda a: {"y_test": a["y_test"][:0]}, "[y_test]: 0 labels, expected 1 to 64 for 1 pictures"),
    "many labels": (lambda a: {"y_test": np.zeros(65, np.uint8)}, "[y_test]: 65 labels, expected 1 to 64"),
}


@pytest.mark.parametrize(("change", "words"), PACKED.values(), ids=PACKED)
def test_wrong_packed_files_are_refused(tmp_path, made, change, words):
    arrays = packed(made, "CIFAR-10")
    arrays = {key: value for key, value in (arrays | change(arrays)).items() if value is not None}
    np.savez(tmp_path / "cifar10.npz", **arrays)
    with refused(str(tmp_path / "cifar10.npz"), words):
        cifar("CIFAR-10", tmp_path, content_sha256={})
