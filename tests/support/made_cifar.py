"""Small files of CIFAR in both containers, made of random images."""

import contextlib
import hashlib
import io
import pickle
import struct
import tarfile
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from partialsym.data.sources.cifar import CLASSES
from partialsym.data.sources.cifar_files import LAYOUTS


def make():
    """For each name and split: images [N, 32, 32, 3] and labels [N]; the first two images are the same."""
    rng, sets = np.random.default_rng(0), {}
    for name in LAYOUTS:
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
            (hashlib.sha256(x.tobytes()).digest(), int(y), x.tobytes()) for x, y in zip(*made[name, split], strict=True)
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

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, text):
        raw = text.encode() if isinstance(text, str) else text
        self.write(b"T" + struct.pack("<i", len(raw)) + raw)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string

    def reducer_override(self, obj):
        """NumPy of that time wrote the flags of a dtype as numbers."""
        if isinstance(obj, np.dtype):
            return np.dtype, (obj.str[1:], 0, 1), obj.__reduce__()[2]
        return NotImplemented

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
    for split, batches in layout.batches.items():
        images, labels = (np.array_split(field, len(batches)) for field in made[name, split])
        for batch, x, y in zip(batches, images, labels, strict=True):
            data = np.ascontiguousarray(x.transpose(0, 3, 1, 2)).reshape(-1, 3072)
            files[batch] = {"data": data, layout.labels_key: y.tolist(), "coarse_labels": [0], "filenames": ["é.png"]}
    return files


def pickled(files, dump=python2):
    return {name: content if isinstance(content, bytes) else dump(content) for name, content in files.items()}


def known(path, files, dump=python2):
    """The MD5s of an archive and its files, by the names that `cifar` has for them."""
    md5 = {name: hashlib.md5(raw).hexdigest() for name, raw in pickled(files, dump).items()}
    return {"archive_md5": hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() else None, "batch_md5": md5}


def archive(folder, name, files, dump=python2):
    layout = LAYOUTS[name]
    with tarfile.open(folder / layout.archive, "w:gz", compresslevel=1) as tar:
        for member, raw in {"readme.html": b"<html>", **pickled(files, dump)}.items():
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
