"""PCam: the six official files, small ones made here, and what is wrong with others."""

import sys

import h5py
import numpy as np
import pytest
import torch

from partialsym.data import load
from partialsym.data.base import statistics
from partialsym.data.sources.pcam import pcam

SIZES = {"train": 12, "valid": 5, "test": 4}


def name(split, key):
    return f"camelyonpatch_level_2_split_{split}_{key}.h5"


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    made = {}
    for split, n in SIZES.items():
        made[split, "x"] = rng.integers(0, 256, (n, 96, 96, 3), np.uint8)
        made[split, "y"] = (np.arange(n, dtype=np.uint8) % 2).reshape(n, 1, 1, 1)
    return made


def write(folder, arrays, **options):
    folder.mkdir(parents=True, exist_ok=True)
    for (split, key), array in arrays.items():
        with h5py.File(folder / name(split, key), "w") as file:
            file.create_dataset(key, data=array, **options)
    return folder


@pytest.mark.parametrize("place", [".", "pcam"])
@pytest.mark.parametrize("options", [{}, {"chunks": True, "compression": "gzip"}], ids=["plain", "gzip"])
def test_the_splits_are_the_files(tmp_path, arrays, monkeypatch, place, options):
    monkeypatch.setattr("partialsym.data.sources.pcam.BLOCK", 5)  # 12 images in blocks of 5: the last is short
    write(tmp_path / place, arrays, **options)
    data = load("PCam", tmp_path)
    for split, got in (("train", data.train), ("valid", data.validation), ("test", data.test)):
        assert np.array_equal(got.images.numpy(), arrays[split, "x"].transpose(0, 3, 1, 2))
        assert got.labels.tolist() == arrays[split, "y"].ravel().tolist()
        assert got.images.is_contiguous()
    originals = torch.cat([split.originals for split in (data.train, data.validation, data.test)])
    assert originals.tolist() == list(range(21))
    assert (data.name, data.classes) == ("PCam", ("no tumour", "tumour"))
    assert (data.channels, data.size) == (3, (96, 96))
    assert (data.mean, data.std) == statistics(data.train.images)
    mean = arrays["train", "x"].mean((0, 1, 2)) / 255
    assert data.mean == pytest.approx(mean.tolist(), rel=1e-12)


def test_validation_and_seed_are_checked_but_without_effect(tmp_path, arrays):
    write(tmp_path, arrays)
    state = torch.get_rng_state()
    one, two = pcam(tmp_path), pcam(tmp_path, validation=0.5, split_seed=9)
    assert torch.equal(one.validation.images, two.validation.images)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match=r"validation is 0.6"):
        pcam(tmp_path, validation=0.6)
    with pytest.raises(ValueError, match="split_seed is -1"):
        pcam(tmp_path, split_seed=-1)


@pytest.mark.parametrize("split", SIZES)
@pytest.mark.parametrize("key", "xy")
def test_a_missing_file_is_named_with_where_to_get_it(tmp_path, arrays, split, key):
    write(tmp_path, arrays)
    path = tmp_path / name(split, key)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"no {path.name} in .*https://github.com/basveeling/pcam"):
        pcam(tmp_path)
    (tmp_path / "pcam").mkdir()
    (tmp_path / "pcam" / f"{path.name}.gz").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=rf"no {path.name}, but .*{path.name}.gz: unpack it"):
        pcam(tmp_path)


WRONG = {
    "float": ("x", lambda x: x.astype(np.float32), r"float32 \[5, 96, 96, 3\], expected uint8 \[N, 96, 96, 3\]"),
    "small": ("x", lambda x: x[:, :32, :32], r"uint8 \[5, 32, 32, 3\], expected uint8 \[N, 96, 96, 3\]"),
    "channels first": ("x", lambda x: x.transpose(0, 3, 1, 2), r"\[5, 3, 96, 96\]"),
    "one image": ("x", lambda x: x[0], r"uint8 \[96, 96, 3\]"),
    "none": ("x", lambda x: x[:0], r"\[0, 96, 96, 3\].*N >= 1"),
    "fewer images": ("x", lambda x: x[:-1], "5 labels, expected 4, one per image"),
    "flat labels": ("y", lambda y: y.ravel(), r"uint8 \[5\], expected uint8 \[N, 1, 1, 1\]"),
    "wide labels": ("y", lambda y: y.astype(np.int64), r"int64 \[5, 1, 1, 1\]"),
    "more labels": ("y", lambda y: np.concatenate([y, y]), "10 labels, expected 5, one per image"),
    "third class": ("y", lambda y: y * 2, "label 2, expected 0 or 1"),
}


@pytest.mark.parametrize(("key", "change", "words"), WRONG.values(), ids=WRONG)
def test_wrong_arrays_are_refused(tmp_path, arrays, key, change, words):
    write(tmp_path, arrays | {("valid", key): change(arrays["valid", key])})
    with pytest.raises(ValueError, match=words) as error:
        pcam(tmp_path)
    assert "split_valid_" in str(error.value)
    assert "\n" not in str(error.value)


DAMAGED = {
    "empty": lambda raw: b"",
    "text": lambda raw: b"not an h5 file",
    "truncated": lambda raw: raw[: len(raw) // 2],
    "gzip": lambda raw: b"\x1f\x8b" + raw,
}


@pytest.mark.parametrize("change", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("key", "xy")
def test_damaged_files_are_refused(tmp_path, arrays, change, key):
    path = write(tmp_path, arrays) / name("test", key)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"{path.name}: damaged or not an HDF5 file .*expected uint8 \[N, ") as error:
        pcam(tmp_path)
    assert "\n" not in str(error.value)


def test_a_damaged_block_inside_is_refused(tmp_path, arrays):
    path = write(tmp_path, arrays, chunks=True, compression="gzip", fletcher32=True) / name("train", "x")
    with h5py.File(path) as file:
        start = file["x"].id.get_chunk_info(0).byte_offset
    with path.open("r+b") as file:
        file.seek(start + 100)
        file.write(bytes(200))
    with pytest.raises(ValueError, match=r"train_x\.h5: damaged"):
        pcam(tmp_path)


def test_a_missing_key_is_refused(tmp_path, arrays):
    path = write(tmp_path, arrays) / name("train", "y")
    with h5py.File(path, "w") as file:
        file["labels"] = arrays["train", "y"]
        file.create_group("y")
    with pytest.raises(ValueError, match=r"train_y.h5: no array 'y', found \['labels', 'y'\]: expected uint8"):
        pcam(tmp_path)


def test_the_extra_is_named(tmp_path, arrays, monkeypatch):
    write(tmp_path, arrays)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"PCam needs h5py: pip install 'partialsym\[pcam\]'"):
        pcam(tmp_path)
