"""Nothing that is read is run, wherever it is read; nothing is fetched but by https and with a hash."""

import ast
import hashlib
import os
import pickle
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile import Bomb, edit, goes_off, npy, pickle_bomb, refused, small_model, weights_of, zipped
from PIL import Image

import partialsym
from partialsym.config import read_yaml
from partialsym.data.reading import read_image
from partialsym.data.reading.download import fetch
from partialsym.data.reading.idx import read_idx
from partialsym.data.reading.npz import read_npz
from partialsym.data.sources import cifar_files, mnist_files
from partialsym.data.sources.cifar import CLASSES
from partialsym.data.sources.pcam import _read
from partialsym.data.sources.rotmnist import ARCHIVE, MEMBERS, read_archive
from partialsym.models.saving import load_model
from partialsym.runs.checkpoints import read_checkpoint
from partialsym.runs.schema import read_result

SOURCES = {path: ast.parse(path.read_text()) for path in Path(partialsym.__file__).parent.rglob("*.py")}
CIFAR = cifar_files.LAYOUTS["CIFAR-10"]
BATCH_MD5 = CIFAR.batches["train"]["data_batch_1"]
PLACES = {
    "model.json": lambda path: load_model(path.parent),
    "config.yaml": read_yaml,
    "result.json": read_result,
    "last.ckpt": read_checkpoint,
    "mnist.npz": lambda path: read_npz(path, ["x"]),
    "t10k-images-idx3-ubyte": lambda path: read_idx(path, 3),
    "x.png": read_image,
    "data_batch_1": lambda path: cifar_files.read_batch(str(path), path.read_bytes(), BATCH_MD5, "labels"),
    "cifar-10-python.tar.gz": lambda path: cifar_files.read_cifar(CIFAR, CLASSES["CIFAR-10"], path.parent),
    "camelyonpatch.h5": lambda path: _read(path, "x"),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch's, before it refuses
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", PLACES)
def test_a_pickle_in_place_of_a_file_does_nothing(tmp_path, name, protocol):
    path, proof = tmp_path / name, tmp_path / "proof"
    path.write_bytes(pickle_bomb(proof, protocol))
    with refused(path):
        PLACES[name](path)
    assert not proof.exists()


def test_a_pickle_inside_a_file_does_nothing(tmp_path):
    proof = tmp_path / "proof"
    bomb = pickle_bomb(proof)
    (npz := tmp_path / "x.npz").write_bytes(zipped(x__npy=npy((1,), bomb, "|O")))
    with refused(npz):
        read_npz(npz, ["x"])
    assert not proof.exists()
    assert goes_off(proof, lambda: np.load(npz, allow_pickle=True)["x"])
    torch.save({"partialsym": Bomb(proof)}, checkpoint := tmp_path / "last.ckpt")
    with refused(checkpoint):
        read_checkpoint(checkpoint)
    assert not proof.exists()
    assert goes_off(proof, lambda: torch.load(checkpoint, weights_only=False))
    folder = small_model(tmp_path / "model")
    weights_of(folder).write_bytes(bomb)
    with refused(folder):
        load_model(folder)
    edit(folder, settings={"kernel_options": {"activation": "os.system"}, "kernel": "MLP"})
    with refused(folder):
        load_model(folder)
    with zipfile.ZipFile(tmp_path / ARCHIVE, "w") as archive:
        for member in MEMBERS:
            archive.writestr(member, bomb)
    md5 = hashlib.md5((tmp_path / ARCHIVE).read_bytes()).hexdigest()
    with refused(tmp_path / ARCHIVE):
        read_archive(tmp_path / ARCHIVE, md5, {"train": 1, "validation": 1, "test": 1})
    assert not proof.exists()


def test_nothing_is_unpacked_to_the_disk(tmp_path):
    """Names that lead out of an archive, and links in it, are names of nothing."""
    names = {"../out__npy": npy((1,), b"1"), "/tmp/out__npy": npy((1,), b"1"), "x__npy": npy((1,), b"1")}
    (path := tmp_path / "in" / "x.npz").parent.mkdir()
    path.write_bytes(zipped(**names))
    assert read_npz(path, ["x"])["x"].tolist() == [49]
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "x.npz"]


@cache
def all_calls():
    nodes = [(path.name, node) for path, tree in SOURCES.items() for node in ast.walk(tree)]
    return [(ast.unparse(node.func), file, node.keywords) for file, node in nodes if isinstance(node, ast.Call)]


def calls(name):
    """Every call of that name in the package: its file, and its keyword arguments."""
    found = ((file, keywords) for called, file, keywords in all_calls() if called == name)
    return [(file, {keyword.arg: ast.unparse(keyword.value) for keyword in keywords}) for file, keywords in found]


def imports():
    for path, tree in SOURCES.items():
        for node in ast.walk(tree):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            yield from ((path.name, name.split(".")[0]) for name in names)


def test_the_package_has_no_other_way_to_run_or_fetch():
    assert {file for file, name in imports() if name in ("pickle", "dill", "marshal", "shelve")} <= {
        "cifar_files.py",  # the official files, after their hash
        "checkpoints.py",  # the name of an error
    }
    assert not [(f, n) for f, n in imports() if n in ("urllib3", "requests", "http", "ftplib", "httpx", "aiohttp")]
    assert not [*calls("eval"), *calls("exec"), *calls("os.system"), *calls("pickle.load"), *calls("pickle.Unpickler")]
    assert calls("pickle.loads") == [("cifar_files.py", {"encoding": "'latin1'"})]
    assert not [*calls("yaml.load"), *calls("yaml.unsafe_load"), *calls("np.load"), *calls("urlopen")]
    loads = calls("torch.load")
    assert loads
    assert all(options["weights_only"] == "True" for _, options in loads)
    assert calls("pooch.retrieve") == [("download.py", {"known_hash": "f'md5:{md5}'", "fname": "name", "path": "root"})]


def test_the_one_call_of_pickle_comes_after_a_hash_that_differs_for_all_but_the_official_file(tmp_path):
    """Read off the source: the first statement of the function that loads a pickle compares the MD5 of what it loads.
    And tried: with the MD5 of a hostile file in place of the official one that file runs, which is the control."""
    tree = next(tree for path, tree in SOURCES.items() if path.name == "cifar_files.py")
    loading = [f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) and "pickle.loads" in ast.unparse(f)]
    assert [f.name for f in loading] == ["read_batch"]
    assert ast.unparse(loading[0].body[1]) == "check_md5(origin, raw, md5, 'file')"  # body[0] is the docstring
    assert "pickle.loads(raw, " in ast.unparse(loading[0])
    bomb = pickle_bomb(proof := tmp_path / "proof")
    for layout in cifar_files.LAYOUTS.values():
        for md5 in (md5 for names in layout.batches.values() for md5 in names.values()):
            with refused("data_batch_1", f"expected {md5}: damaged or not the official file, so it is not read"):
                cifar_files.read_batch("data_batch_1", bomb, md5, layout.labels_key)
    assert not proof.exists()
    assert goes_off(proof, lambda: cifar_files.read_batch("x", bomb, hashlib.md5(bomb).hexdigest(), "labels"))


@pytest.mark.parametrize("mirror", [*mnist_files.MIRRORS, *cifar_files.MIRRORS])
def test_mirrors_are_https(mirror):
    assert mirror.startswith("https://")


def test_every_download_has_a_hash():
    hashes = [*mnist_files.GZIP_MD5.values(), *(layout.archive_md5 for layout in cifar_files.LAYOUTS.values())]
    assert len(set(hashes)) == 6
    for layout in cifar_files.LAYOUTS.values():
        hashes += [md5 for names in layout.batches.values() for md5 in names.values()]
    assert len(set(hashes)) == 6 + 6 + 2
    assert all(len(value) == 32 and int(value, 16) for value in hashes)


@pytest.mark.parametrize("mirror", ["http://example.org/", "ftp://example.org", "file:///etc", "example.org", ""])
def test_other_mirrors_are_refused_before_anything_is_asked(tmp_path, mirror):
    with refused("x.gz", repr(mirror), "a mirror must be https"):
        fetch("x.gz", "0" * 32, tmp_path, ["https://127.0.0.1:9/", mirror])


@pytest.mark.long
def test_training_and_prediction_connect_to_nothing(tmp_path):
    """A run and a prediction of it, under an audit of every look-up and connection; the control connects."""
    code = """
import sys
seen = []
sys.addaudithook(lambda event, args: seen.append(event) if event in ("socket.connect", "socket.getaddrinfo") else None)
from partialsym.cli.main import main
options = "--data.name digits-6-180 --model.width 2 --model.hidden 4 --training.epochs 1 --training.compile never"
assert main(["fit", "--name", "x", "--out", sys.argv[1], *options.split()]) == 0
assert main(["predict", sys.argv[1] + "/x/seed0", sys.argv[2]]) == 0
assert not seen, seen
import socket
try:
    socket.create_connection(("127.0.0.1", 9), 1)
except OSError:
    pass
assert seen
"""
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(tmp_path / "x.png")
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "runs"), str(tmp_path / "x.png")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr


def test_the_bombs_here_go_off(tmp_path):
    """The control of all the above."""
    for protocol in (0, 2, 4):
        assert goes_off(tmp_path / "proof", lambda p=protocol: pickle.loads(pickle_bomb(tmp_path / "proof", p)))
