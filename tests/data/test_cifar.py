"""CIFAR: one data set from every container, and the official one only."""

import hashlib
import os
import pickle
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from made_cifar import archive, digests, fortran, known, make, members, packed, refused

from partialsym.data import load
from partialsym.data.base import statistics
from partialsym.data.sources.cifar import CLASSES, CONTENT_SHA256, STATISTICS, cifar
from partialsym.data.sources.cifar_files import LAYOUTS, MIRRORS

NAMES = list(LAYOUTS)


@pytest.fixture(scope="module")
def made():
    return make()


@pytest.mark.parametrize("name", NAMES)
def test_every_container_gives_the_same(tmp_path, made, name):
    folders = [tmp_path / what for what in ("packed", "archive", "fortran", "python 3", "unpacked")]
    for folder in folders:
        folder.mkdir()
    np.savez(folders[0] / LAYOUTS[name].packed, **packed(made, name))
    files, dump = members(made, name), lambda content: pickle.dumps(content, 4)
    hashes = [{}, known(archive(folders[1], name, files), files)]
    hashes += [known(archive(folders[2], name, fortran(files)), fortran(files))]
    path = archive(folders[3], name, files, dump)
    hashes += 2 * [known(path, files, dump)]
    with tarfile.open(path) as tar:
        tar.extractall(folders[4], filter="data")
    state, results = torch.get_rng_state(), []
    for folder, md5 in zip(folders, hashes, strict=True):
        data = cifar(name, folder, split_seed=3, mirrors=(), content_sha256=digests(made, name), **md5)
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
    changed, md5 = made | {("CIFAR-10", split): (images, labels)}, {}
    if container == "packed":
        np.savez(path := tmp_path / "cifar10.npz", **packed(changed, "CIFAR-10"))
    else:
        files = members(changed, "CIFAR-10")
        md5 = known(path := archive(tmp_path, "CIFAR-10", files), files)
    with refused(f"{path}: not the official {split} split", digests(changed, "CIFAR-10")[split], expected[split]):
        cifar("CIFAR-10", tmp_path, content_sha256=expected, **md5)
    right = CONTENT_SHA256["CIFAR-10"]["train"] if container == "packed" else LAYOUTS["CIFAR-10"].archive_md5
    with refused(f"{path}: ", f"expected {right}"):
        load("CIFAR-10", tmp_path)
    assert len(cifar("CIFAR-10", tmp_path, content_sha256={}, **md5).test) == 9


@pytest.mark.parametrize("name", NAMES)
def test_the_packed_file_comes_first_then_the_archive_then_the_folder(tmp_path, made, name):
    layout, wrong = LAYOUTS[name], "damaged"
    (tmp_path / layout.folder).mkdir()
    with refused(f"{tmp_path / layout.folder}: no member '{next(iter(layout.batches['train']))}'"):
        cifar(name, tmp_path)
    (tmp_path / layout.archive).write_bytes(b"")
    with refused(str(tmp_path / layout.archive), wrong):
        cifar(name, tmp_path)
    (tmp_path / layout.packed).write_bytes(b"")
    with refused(str(tmp_path / layout.packed), wrong):
        cifar(name, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_is_downloaded(tmp_path, made, monkeypatch, name):
    (tmp_path / "root").mkdir()
    asked, files = [], members(made, name)
    there = archive(tmp_path, name, files)
    md5 = known(there, files)

    def fetch(*args):
        asked.append(args)
        return there.replace(tmp_path / "root" / there.name)

    monkeypatch.setattr("partialsym.data.sources.cifar_files.fetch", fetch)
    for _ in range(2):  # the second time it is there
        assert len(cifar(name, tmp_path / "root", content_sha256=digests(made, name), **md5).test) == 9
    assert asked == [(LAYOUTS[name].archive, md5["archive_md5"], tmp_path / "root", MIRRORS)]
    assert all(mirror.startswith("https://") for mirror in MIRRORS)
    (tmp_path / "root" / LAYOUTS[name].archive).rename(there)
    with refused(f"{there.name}: MD5 {md5['archive_md5']}, expected {LAYOUTS[name].archive_md5}"):
        cifar(name, tmp_path / "root", mirrors=["there"])
    assert asked[1][1:] == (LAYOUTS[name].archive_md5, tmp_path / "root", ["there"])


def test_bad_arguments_and_a_missing_extra(tmp_path, made, monkeypatch):
    with refused("name is 'CIFAR-11': it must be one of 'CIFAR-10', 'CIFAR-100'"):
        cifar("CIFAR-11", tmp_path)
    np.savez(tmp_path / "cifar10.npz", **packed(made, "CIFAR-10"))
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"cifar10.npz needs .*pip install 'partialsym\[train\]'"):
        load("CIFAR-10", tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_the_real_one(name):
    beside = Path(__file__).parents[3] / "shared" / "data"
    root, layout = Path(os.environ.get("PARTIALSYM_DATA") or beside), LAYOUTS[name]
    if not any((root / file).exists() for file in (layout.packed, layout.archive, layout.folder)):
        pytest.skip(f"{name} is not on this machine: set PARTIALSYM_DATA")
    data, classes = load(name, root), len(CLASSES[name])  # the content is checked by its hash
    assert [len(split) for split in (data.train, data.validation, data.test)] == [45_000, 5_000, 10_000]
    pool = torch.cat([data.train.images, data.validation.images])
    labels = torch.cat([data.train.labels, data.validation.labels])
    assert labels.bincount().tolist() == [50_000 // classes] * classes
    assert data.test.labels.bincount().tolist() == [10_000 // classes] * classes
    assert tuple(tuple(round(x, 4) for x in values) for values in statistics(pool)) == STATISTICS[name]
    train, test = ({hashlib.sha256(x).digest() for x in images.numpy()} for images in (pool, data.test.images))
    assert len(train & test) == {"CIFAR-10": 0, "CIFAR-100": 10}[name]
