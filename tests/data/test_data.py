"""The laws of the data sets: counts, splits without leaks, exact copies, early errors."""

import functools
import os
from pathlib import Path

import pytest
import torch
from helpers import few

from partialsym.data import Dataset, Split, as_float, load, normalise, pairs, split_by_original
from partialsym.data.base import statistics
from partialsym.data.sources.mnist import mnist6
from partialsym.data.sources.mnist_files import FILES
from partialsym.registry import DATASETS

TURNS = {"180": lambda x: torch.rot90(x, k=2, dims=(-2, -1)), "M": lambda x: torch.flip(x, dims=(-1,))}
ORIGINALS = {"digits-6-M": 181, "MNIST6-180": 5918 + 958, "resplit-MNIST6-M": 5918 + 958, "MNIST": 70_000}
PAIRED = [name for name in DATASETS if name.endswith(("-180", "-M"))]


@functools.lru_cache(maxsize=2)
def real(name, split_seed=0):
    beside = Path(__file__).parents[3] / "shared" / "data"
    root = Path(os.environ.get("PARTIALSYM_DATA") or beside)
    if "MNIST" in name and not any((root / f).exists() for f in ("mnist.npz", FILES["x_train"], "MNIST")):
        pytest.skip("MNIST is not on this machine: set PARTIALSYM_DATA")
    return load(name, root if "MNIST" in name else None, split_seed=split_seed)


def splits(data):
    return {"train": data.train, "validation": data.validation, "test": data.test}


@pytest.mark.parametrize("name", PAIRED)
def test_counts_balance_and_copies(name):
    data = real(name)
    pool, test = (5918, 958) if "MNIST" in name else (136, 45)  # another split has the same sizes
    held = round(0.1 * pool)
    assert [len(s) for s in splits(data).values()] == [2 * (pool - held), 2 * held, 2 * test]
    for split in splits(data).values():
        assert split.labels.bincount().tolist() == [len(split) // 2] * 2
        originals, copies = split.labels == 0, split.labels == 1
        assert torch.equal(split.originals[originals], split.originals[copies])
        assert torch.equal(split.images[copies], TURNS[name.rsplit("-")[-1]](split.images[originals]))
    assert (data.channels, data.size, data.classes[0]) == (1, (28, 28), "6")
    assert data.test.images.dtype == (torch.uint8 if "MNIST" in name else torch.float32)


@pytest.mark.parametrize("name", few(ORIGINALS, "digits-6-M", "MNIST6-180", "resplit-MNIST6-M"))
def test_no_original_on_two_sides_and_a_fixed_test_set(name):
    first, validations = real(name), []
    for seed in (0, 1, 2) if "6" in name else (0, 1):
        data = real(name, seed)
        sides = [set(s.originals.tolist()) for s in splits(data).values()]
        assert len(set.union(*sides)) == sum(map(len, sides))
        assert len(set.union(*sides)) == ORIGINALS[name]
        assert torch.equal(data.test.images, first.test.images)
        assert torch.equal(data.test.originals, first.test.originals)
        validations.append(frozenset(sides[1]))
    assert len(set(validations)) == len(validations)


def test_a_part_of_the_test_images_keeps_copies_together_and_is_fixed():
    data = real("digits-6-M")
    some = data.with_test(20, 0)
    assert some.test.labels.bincount().tolist() == [10, 10]
    originals = [some.test.originals[some.test.labels == k].tolist() for k in (0, 1)]
    assert originals[0] == originals[1]
    assert set(originals[0]) < set(data.with_test(40, 0).test.originals.tolist()) < set(data.test.originals.tolist())
    assert some.test.originals.tolist() == data.with_test(20, 0).test.originals.tolist()
    assert some.test.originals.tolist() != data.with_test(20, 1).test.originals.tolist()
    assert some.train is data.train
    assert some.validation is data.validation
    with pytest.raises(ValueError, match="digits-6-M has 90 test images, not the 91 asked for"):
        data.with_test(91, 0)


def test_a_part_of_the_test_images_has_every_class_alike_though_files_list_them_class_by_class():
    data = real("digits-6-M")
    labels = torch.tensor([0] * 5 + [1] * 80 + [2] * 5)
    ordered = Split(torch.rand(90, *data.test.images.shape[1:]), labels, torch.arange(1000, 1090))
    data = Dataset("ordered", ("a", "b", "c"), data.train, data.validation, ordered, data.mean, data.std, probe=ordered)
    some = data.with_test(12, 0)
    assert some.test.labels.bincount().tolist() == [4, 4, 4]
    assert some.probe.labels.bincount().tolist() == [4, 4, 4]
    assert data.test[:12].labels.bincount().tolist() == [5, 7]  # what the first ones would be
    assert data.with_test(30, 0).test.labels.bincount().tolist() == [5, 20, 5]  # two classes have no more
    second = some.test.originals[4:8]
    assert second.tolist() != list(range(1005, 1009))
    assert torch.equal(some.test.images[4:8], ordered.images[second - 1000])


def test_mnist_counts_and_sixes():
    data, sixes = real("MNIST"), real("MNIST6-180")
    assert [len(s) for s in splits(data).values()] == [54_000, 6_000, 10_000]
    counts = data.train.labels.bincount() + data.validation.labels.bincount()
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    six = data.test.images[data.test.labels == 6]
    assert torch.equal(six, sixes.test.images[sixes.test.labels == 0])
    assert sixes.test.originals.unique().tolist() == data.test.originals[data.test.labels == 6].tolist()
    assert (data.mean, data.std) == ((0.1307,), (0.3081,)) == (sixes.mean, sixes.std)


def test_another_split_draws_its_test_images_from_all_sixes():
    official, other = real("MNIST6-180"), real("resplit-MNIST6-180")
    held = set(other.test.originals.tolist())
    assert len(held) == 958
    from_official = len(held & set(official.test.originals.tolist()))
    assert 100 < from_official < 170  # 133 are expected
    assert other.name == "resplit-MNIST6-180"
    assert held == set(real("resplit-MNIST6-M").test.originals.tolist())


def test_enlarging_the_digits_commutes_with_turn_and_mirror():
    sklearn = pytest.importorskip("sklearn.datasets")
    from partialsym.data.sources.digits import enlarge

    small = torch.from_numpy(sklearn.load_digits().images)[:, None] / 16
    for turn in TURNS.values():
        assert torch.equal(enlarge(turn(small)), turn(enlarge(small)))
    assert enlarge(small).shape == (1797, 1, 28, 28)


def test_digits_statistics_are_those_of_the_training_split():
    data = real("digits-6-180")
    z = normalise(data.train.images.double(), data.mean, data.std)
    assert z.mean().abs() < 1e-9
    assert (z.std(correction=0) - 1).abs() < 1e-9
    assert normalise(data.test.images, data.mean, data.std).mean().abs() > 1e-5


def test_statistics_of_8_bit_images_are_counted():
    images = torch.randint(0, 256, (7, 3, 4, 5), dtype=torch.uint8)
    std, mean = torch.std_mean(images.double() / 255, dim=(0, 2, 3), correction=0)
    for found, expected in zip(statistics(images), (mean, std), strict=True):
        assert found == pytest.approx(expected.tolist(), rel=1e-12)
    black = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    assert statistics(black) == ((0.0,), (0.0,))


@pytest.mark.parametrize("kind", TURNS)
def test_pairs(kind):
    images = torch.rand(3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    both, labels, originals = pairs(images, kind)
    assert labels.tolist() == [0, 1] * 3
    assert originals.tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(both[0::2], images)
    assert torch.equal(both[1::2], TURNS[kind](images))
    with pytest.raises(ValueError, match=r"'90'.*'180', 'M'"):
        pairs(images, "90")
    with pytest.raises(ValueError, match=r"\[3, 4\]"):
        pairs(torch.rand(3, 4), kind)


def test_split_by_original():
    originals = torch.tensor([4, 9, 4, 7, 9, 2, 5, 5])
    kept, held = split_by_original(originals, 0.4, 0)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(8))
    assert not set(originals[kept].tolist()) & set(originals[held].tolist())
    assert len(originals[held].unique()) == 2
    for fraction in (0.01, 0.99):
        with pytest.raises(ValueError, match=f"{fraction}.*5 originals"):
            split_by_original(originals, fraction, 0)


def test_the_split_of_a_seed_does_not_drift():
    assert split_by_original(torch.arange(20), 0.25, 0)[1].tolist() == [4, 5, 7, 13, 19]


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="'mnist6-18O': did you mean 'MNIST6-180'") as error:
        load("mnist6-18O")
    assert all(name in str(error.value).partition("Valid: ")[2].split(", ") for name in DATASETS)
    for name in DATASETS:
        for fraction in (0, -0.1, 0.51, float("nan"), "0.1", None):
            with pytest.raises(ValueError, match=rf"validation is {fraction!r}.*\(0, 0.5\]"):
                load(name, tmp_path / "never read", validation=fraction)
        for seed in (-1, 0.5, True):
            with pytest.raises(ValueError, match=f"split_seed is {seed!r}"):
                load(name, tmp_path / "never read", split_seed=seed)
    with pytest.raises(ValueError, match="kind is '90'"):
        mnist6("90", tmp_path / "never read")


def make(n=2, start=0, **change):
    fields = {"images": torch.rand(n, 1, 4, 5), "labels": torch.arange(n) % 2}
    return Split(**({**fields, "originals": torch.arange(start, start + n)} | change))


NAN, INF = (torch.full((2, 1, 4, 5), value) for value in (float("nan"), float("inf")))
BAD_SPLITS = [
    ({"images": NAN}, "image 0 has NaN"),
    ({"images": INF}, "image 0 has NaN or infinite"),
    ({"images": torch.full((2, 1, 4, 5), 1.5)}, r"\[1.5, 1.5\].*\[0, 1\]"),
    ({"images": torch.full((2, 1, 4, 5), -0.5)}, r"\[-0.5, -0.5\]"),
    ({"images": torch.zeros(2, 4, 5)}, r"float32 \[2, 4, 5\].*uint8 or float32 \[N, C, H, W\]"),
    ({"images": torch.zeros(2, 4, 5, dtype=torch.uint8)}, r"uint8 \[2, 4, 5\].*\[N, C, H, W\]"),
    ({"images": torch.zeros(2, 1, 4, 5).double()}, "float64"),
    ({"images": torch.zeros(2, 1, 4, 5).long()}, "int64"),
    ({"n": 0}, r"\[0, 1, 4, 5\] are empty"),
    ({"labels": torch.arange(3)}, r"labels are torch.int64 \[3\].*\[2\]"),
    ({"labels": torch.zeros(2)}, "labels are torch.float32"),
    ({"labels": torch.tensor([0, -1])}, "labels contain -1"),
    ({"originals": torch.arange(1)}, r"originals are torch.int64 \[1\]"),
]
BAD_DATASETS = [
    ({"test": make(2, 0)}, "original 0 is in train and in test"),
    ({"validation": make(2, 4, labels=torch.tensor([0, 2]))}, "validation has label 2, but labels go to 1"),
    ({"test": make(2, 4, images=torch.rand(2, 1, 5, 4))}, r"test images are \[1, 5, 4\].*\[1, 4, 5\]"),
    ({"classes": ("a", "a")}, "'a', 'a'"),
    ({"mean": (0.0, 1.0)}, r"\(0.0, 1.0\).*1 channels"),
    ({"std": (0.0,)}, r"\(0.0,\).*std > 0"),
    ({"mean": (float("nan"),)}, "nan.*finite"),
]


@pytest.mark.parametrize(("change", "words"), BAD_SPLITS)
def test_bad_split(change, words):
    assert len(make()) == 2
    with pytest.raises(ValueError, match=words):
        make(**change)


@pytest.mark.parametrize(("change", "words"), BAD_DATASETS)
def test_bad_dataset(change, words):
    good = {"name": "x", "classes": ("a", "b"), "train": make(), "validation": make(2, 2), "test": make(2, 4)}
    good |= {"mean": (0.5,), "std": (2.0,)}
    assert Dataset(**good).size == (4, 5)
    with pytest.raises(ValueError, match=words):
        Dataset(**(good | change))


def test_normalise():
    images = torch.rand(3, 2, 4, 5)
    z = normalise(images, (0.5, 0.25), (2.0, 4.0))
    assert torch.allclose(z[:, 0], (images[:, 0] - 0.5) / 2)
    assert torch.allclose(z[:, 1], (images[:, 1] - 0.25) / 4)
    eight = (images * 255).byte()
    assert torch.equal(normalise(eight, (0.5, 0.25), (2.0, 4.0)), normalise(eight / 255, (0.5, 0.25), (2.0, 4.0)))
    assert torch.equal(as_float(torch.tensor([0, 51, 255], dtype=torch.uint8)), torch.tensor([0, 0.2, 1]))
    with pytest.raises(ValueError, match="int64: they must be uint8 or floating-point"):
        normalise(images.long(), (0.5, 0.25), (2.0, 4.0))
    with pytest.raises(ValueError, match="2 channels"):
        normalise(images, (0.5,), (2.0,))
    with pytest.raises(ValueError, match=r"\[4\]"):
        normalise(images[0, 0, 0, :4], (0.5,), (2.0,))
