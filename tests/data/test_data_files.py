"""Data files: one result from every container, damage refused, downloads checked, missing extras named."""

import contextlib
import functools
import gzip
import hashlib
import http.server
import sys
import threading
import traceback

import numpy as np
import pytest
import torch

from partialsym.data import load
from partialsym.data.reading.idx import header, md5, read_idx
from partialsym.data.sources.mnist import mnist, mnist6
from partialsym.data.sources.mnist_files import FILES, read_mnist


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    made = {}
    for part, n in (("train", 40), ("test", 20)):
        made[f"x_{part}"] = rng.integers(0, 256, (n, 28, 28), np.uint8)
        made[f"y_{part}"] = np.arange(n, dtype=np.uint8) % 10
    return made


def write(folder, arrays, *, zipped=False, names=FILES):
    folder.mkdir(parents=True, exist_ok=True)
    for key, name in names.items():
        raw = header(arrays[key].shape) + arrays[key].tobytes()
        (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(raw, mtime=0) if zipped else raw)
    return folder


def splits(data):
    return {"train": data.train, "validation": data.validation, "test": data.test}


@contextlib.contextmanager
def refused(error, *words):
    with pytest.raises(error) as caught:
        yield caught
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message


def test_every_container_gives_the_same(tmp_path, arrays):
    np.savez_compressed(write(tmp_path / "npz", {}, names={}) / "mnist.npz", **arrays)
    write(tmp_path / "raw", arrays)
    write(tmp_path / "gz", arrays, zipped=True)
    write(tmp_path / "deep" / "MNIST" / "raw", arrays, zipped=True)
    write(tmp_path / "dotted", arrays, names={k: n.replace("-idx", ".idx") for k, n in FILES.items()})
    for folder in tmp_path.iterdir():
        data = mnist(folder, content_md5={k: md5(v) for k, v in arrays.items()}, mirrors=(), split_seed=3)
        merged = torch.zeros(60, 1, 28, 28, dtype=torch.uint8)
        for split in splits(data).values():
            merged[split.originals] = split.images
        expected = np.concatenate([arrays["x_train"], arrays["x_test"]])
        assert torch.equal(merged[:, 0], torch.from_numpy(expected))
        assert [len(s) for s in splits(data).values()] == [36, 4, 20]
    assert len(mnist6("M", folder, content_md5={}, validation=0.5).validation) == 4


@pytest.mark.parametrize("container", ["npz", "idx"])
@pytest.mark.parametrize("key", FILES)
def test_changed_content_is_refused(tmp_path, arrays, container, key):
    expected = {k: md5(v) for k, v in arrays.items()}
    arrays[key].flat[5] ^= 1
    write(tmp_path, arrays) if container == "idx" else np.savez(tmp_path / "mnist.npz", **arrays)
    with refused(ValueError, key if container == "npz" else FILES[key], md5(arrays[key]), expected[key]):
        read_mnist(tmp_path, content_md5=expected)
    with pytest.raises(ValueError, match="6bbc9ace898e44ae57da46a324031adb"):
        load("MNIST", tmp_path)


IDX = header((2, 2, 2)) + bytes(8)
DAMAGED = {
    "magic": (b"\0\0\x08\x01" + IDX[4:], "0x00000801, expected 0x00000803"),
    "empty": (b"", "expected 0x00000803"),
    "header": (IDX[:9], "9 bytes, expected 16"),
    "truncated": (IDX[:-1], "truncated: 7 bytes of data, expected 8"),
    "trailing": (IDX + b"\0", "trailing bytes: more than 8 bytes of data, expected 8"),
    "gzip cut": (gzip.compress(IDX)[:-9], "damaged gzip"),
    "gzip changed": (gzip.compress(IDX)[:-5] + bytes(5), "damaged gzip"),
}


@pytest.mark.parametrize(("content", "words"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_idx(tmp_path, content, words):
    (tmp_path / "some-idx").write_bytes(content)
    with refused(ValueError, "some-idx", words):
        read_idx(tmp_path / "some-idx", 3)


def test_damaged_npz(tmp_path, arrays):
    path = tmp_path / "mnist.npz"
    np.savez_compressed(path, **arrays)
    whole = path.read_bytes()
    middle = len(whole) // 2
    changed = whole[:middle] + bytes(b ^ 255 for b in whole[middle : middle + 64]) + whole[middle + 64 :]
    for content in (b"", b"PK", whole[:middle], whole[:-30], changed, b"\x93NUMPY\x01\0"):
        path.write_bytes(content)
        with refused(ValueError, "mnist.npz", "damaged", "x_train") as error:
            read_mnist(tmp_path, content_md5={})
        assert "zipfile" not in "".join(traceback.format_exception(error.value))
    for change, words in (
        ({"x_test": arrays["x_test"].astype(float)}, "float64 [20, 28, 28], expected uint8"),
        ({"y_train": arrays["x_test"]}, "expected uint8 with 1"),
        ({"y_test": np.array([None])}, "damaged"),
        ({"y_test": arrays["y_test"][:-1]}, "19 labels, expected 20"),
    ):
        np.savez(path, **(arrays | change))
        with refused(ValueError, "mnist.npz", words):
            read_mnist(tmp_path, content_md5={})
    np.savez(path, x_train=arrays["x_train"])
    with pytest.raises(ValueError, match=r"no array 'y_train', found \['x_train'\]"):
        read_mnist(tmp_path)


@pytest.fixture
def mirror(tmp_path, arrays, monkeypatch):
    pytest.importorskip("pooch")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = write(tmp_path / "served", arrays, zipped=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


def test_download(tmp_path, arrays, mirror):
    url, served = mirror
    root = write(tmp_path / "root", {}, names={})
    known = {k: hashlib.md5((served / f"{n}.gz").read_bytes()).hexdigest() for k, n in FILES.items()}
    read = functools.partial(read_mnist, root, gzip_md5=known, content_md5={})
    with refused(ValueError, FILES["y_train"], "0" * 32, known["y_train"], str(root)):
        read(mirrors=[url], gzip_md5=known | {"y_train": "0" * 32})
    assert [p.name for p in root.iterdir()] == [FILES["x_train"] + ".gz"]
    with pytest.raises(OSError, match=f"{url}/missing/{FILES['y_train']}.*404"):
        read(mirrors=[f"{url}/missing"])
    got = read(mirrors=[f"{url}/missing/", f"{url}/"])
    assert all(np.array_equal(got[k], arrays[k]) for k in FILES)
    assert sorted(p.name for p in root.iterdir()) == sorted(f"{n}.gz" for n in FILES.values())
    assert read(mirrors=[])["x_test"].shape == (20, 28, 28)


def test_where_the_data_lie(tmp_path, arrays, monkeypatch):
    write(tmp_path / "there", arrays)
    monkeypatch.setenv("PARTIALSYM_DATA", str(tmp_path / "there"))
    assert len(mnist(content_md5={}).test) == 20
    with pytest.raises(FileNotFoundError, match=r"root is '.*gone'"):
        load("MNIST", tmp_path / "gone")
    monkeypatch.setenv("PARTIALSYM_DATA", str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match=r"PARTIALSYM_DATA is '.*gone'"):
        load("MNIST")
    monkeypatch.delenv("PARTIALSYM_DATA")
    pooch = pytest.importorskip("pooch")
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "there" if name == "partialsym" else None)
    assert len(mnist(content_md5={}).test) == 20


def test_missing_extras_are_named(tmp_path, monkeypatch):
    for module in ("pooch", "sklearn", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, module, None)
    with refused(ImportError, "pooch", "pip install 'partialsym[train]'"):
        load("MNIST", tmp_path)
    with refused(ImportError, "scikit-learn", "pip install 'partialsym[demo]'"):
        load("digits-6-M")


def test_loading_leaves_the_global_generators_alone(tmp_path, arrays):
    write(tmp_path, arrays)
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    load("digits-6-180", split_seed=5)
    mnist(tmp_path, content_md5={}, split_seed=5)
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)
