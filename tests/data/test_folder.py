"""People's own folders: what becomes a data set, exactly."""

import logging
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from made_folder import HOSTILE, SPLITS, counts, flat, png, refused, same, three, write
from PIL import Image

from partialsym.data.base import statistics
from partialsym.data.sources.folder import folder, imbalance


@pytest.mark.parametrize("validation", ["val", "validation", "valid", "Val"])
def test_given_splits_are_taken_as_they_are(tmp_path, validation):
    data = folder(three(tmp_path / "mine", (3, 2, 1), ("train", validation, "test")))
    assert (data.name, data.classes) == ("mine", ("a", "b"))
    assert counts(data) == {"train": [3, 3], "validation": [2, 2], "test": [1, 1]}
    for which, part in (("train", "train"), ("validation", validation), ("test", "test")):
        paths = sorted((tmp_path / "mine" / part).glob("*/*"))
        expected = np.stack([np.asarray(Image.open(path)) for path in paths]).transpose(0, 3, 1, 2)
        split = getattr(data, which)
        assert split.images.dtype == torch.uint8
        assert np.array_equal(split.images.numpy(), expected)
    assert (data.mean, data.std) == statistics(data.train.images)
    assert torch.cat([getattr(data, which).originals for which in SPLITS]).unique().numel() == 12


def test_one_level_is_divided_by_class(tmp_path):
    data = folder(flat(tmp_path, big=100, mid=20, small=3))
    assert data.classes == ("big", "mid", "small")
    assert counts(data) == {"train": [72, 14, 1], "validation": [8, 2, 1], "test": [20, 4, 1]}
    other = folder(tmp_path, validation=0.5, test=0.5)
    assert counts(other) == {"train": [25, 5, 1], "validation": [25, 5, 1], "test": [50, 10, 1]}
    everything = torch.cat([getattr(data, which).images for which in SPLITS]).flatten(1).unique(dim=0)
    assert len(everything) == 123


def test_what_is_missing_is_taken_from_train(tmp_path):
    both = folder(three(tmp_path / "1", (10,), ("train",)))
    assert counts(both) == {"train": [7, 7], "validation": [1, 1], "test": [2, 2]}
    one = folder(three(tmp_path / "2", (10, 4), ("train", "test")))
    assert counts(one) == {"train": [9, 9], "validation": [1, 1], "test": [4, 4]}
    other = folder(three(tmp_path / "3", (10, 4), ("train", "val")), test=0.5)
    assert counts(other) == {"train": [5, 5], "validation": [4, 4], "test": [5, 5]}
    (tmp_path / "3" / "test" / "a").mkdir(parents=True)  # empty folders are none
    assert same(folder(tmp_path / "3", test=0.5), other)


def test_seeds_choose_and_the_order_of_a_listing_does_not(tmp_path, monkeypatch):
    root = flat(tmp_path / "one", a=30, b=20)
    before = torch.get_rng_state()
    data = folder(root)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(folder(root), data)
    assert not same(folder(root, split_seed=1), data)
    listed = Path.iterdir

    def shuffled(path):
        entries = list(listed(path))
        random.shuffle(entries)
        return iter(entries)

    monkeypatch.setattr(Path, "iterdir", shuffled)
    assert same(folder(root), data)
    assert same(folder(flat(tmp_path / "another place", b=0, a=30) and root.rename(tmp_path / "moved")), data)


def test_a_class_may_be_called_as_a_split(tmp_path):
    assert folder(flat(tmp_path / "1", train=3, bus=3)).classes == ("bus", "train")
    assert folder(flat(tmp_path / "2", valid=3, invalid=3)).classes == ("invalid", "valid")
    assert folder(three(tmp_path / "3", (3,), ("train",), ("test", "train"))).classes == ("test", "train")


def test_class_names_are_any(tmp_path):
    names = tuple(sorted((*HOSTILE, "a", "B", "10", "9")))
    assert folder(flat(tmp_path, **dict.fromkeys(names, 3))).classes == names


def test_hidden_files_and_empty_folders_are_skipped(tmp_path):
    data = folder(flat(tmp_path, a=3, b=3))
    write(tmp_path, dict.fromkeys((".DS_Store", "a/.hidden.png", "b/Thumbs.db", "__MACOSX/a/x", ".git/x"), b""))
    (tmp_path / "c").mkdir()
    (tmp_path / "a" / "sub").mkdir()
    assert same(folder(tmp_path), data)


def test_sizes(tmp_path):
    root = write(flat(tmp_path, a=3, b=3), {"a/wide.png": png(1, (4, 9)), "b/high.png": png(2, (8, 5))})
    with refused("images of 3 sizes, 4×5 (6), 4×9 (1), 8×5 (1): give a size"):
        folder(root)
    assert folder(root, size=(6, 6)).size == (6, 6)
    cropped = folder(root, size=(4, 5), fit="crop")
    everything = torch.cat([getattr(cropped, which).images for which in SPLITS]).tolist()
    middle = np.asarray(Image.open(root / "a" / "wide.png"))[:, 2:7].transpose(2, 0, 1).tolist()
    assert middle in everything
    (root / "a" / "wide.png").unlink()
    (root / "b" / "high.png").unlink()
    assert folder(root).size == (4, 5)


def test_channels(tmp_path):
    grey = {f"{name}/{i}.png": png(i + 10 * (name == "b"), mode="L") for name in "ab" for i in range(3)}
    assert folder(write(tmp_path, grey)).channels == 1
    assert folder(tmp_path, channels=3).channels == 3
    mixed = folder(write(tmp_path, {"b/colour.png": 99}))
    assert mixed.channels == 3
    assert (
        sum(int((s.images[:, :1] == s.images).all((1, 2, 3)).sum()) for s in map(mixed.__getattribute__, SPLITS)) == 6
    )
    assert folder(tmp_path, channels=1).channels == 1


@pytest.mark.parametrize("split_seed", range(5))
def test_identical_files_stay_together(tmp_path, split_seed):
    copies = {
        f"{name}/copy{i}-{k}.png": 5000 + i + 100 * (name == "b") for name in "ab" for i in range(8) for k in "xyz"
    }
    data = folder(write(flat(tmp_path, a=2, b=2), copies), test=0.4, validation=0.4, split_seed=split_seed)
    assert counts(data)["test"] != [0, 0]
    originals = {which: getattr(data, which).originals.tolist() for which in SPLITS}
    assert Counter(Counter(i for which in SPLITS for i in originals[which]).values()) == {3: 16, 1: 4}
    assert [len(set(originals[which])) for which in SPLITS] == [8, 4, 8]


def test_identical_files_under_two_classes_are_mentioned(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        folder(flat(tmp_path, a=4, b=4))
        assert caplog.text == ""
        folder(write(tmp_path, {"a/x.png": 77, "b/y.png": 77}))
    assert "identical files under two classes, 1 in all: a/x.png and b/y.png" in caplog.text


def test_imbalance(tmp_path):
    assert imbalance(folder(flat(tmp_path, big=100, small=10))) == {
        "train": {"images": {"big": 72, "small": 7}, "largest": "big", "share": 72 / 79},
        "validation": {"images": {"big": 8, "small": 1}, "largest": "big", "share": 8 / 9},
        "test": {"images": {"big": 20, "small": 2}, "largest": "big", "share": 20 / 22},
    }
