"""Splits by fold and by group: what belongs together is never divided, and every image is tested once."""

import pytest
import torch
from made_folder import flat, png, write

from partialsym.config import ConfigError, DataConfig
from partialsym.config.short import in_full
from partialsym.data.sources.build import spread
from partialsym.data.sources.folder import folder
from partialsym.data.sources.hf import hf
from partialsym.training.fit import load_data


@pytest.fixture
def patients(tmp_path):
    """Twelve patients with three images each, of both classes."""
    root = flat(tmp_path / "images", a=18, b=18)
    for label in ("a", "b"):
        for i, path in enumerate(sorted((root / label).iterdir())):
            path.rename(path.with_name(f"p{i % 12:02}_{label}{i}.png"))
    return root


def test_folds_test_every_image_once_and_share_no_original(tmp_path):
    root = flat(tmp_path / "images", a=20, b=10)
    sets = [folder(root, size=(12, 12), folds=3, fold=fold) for fold in range(3)]
    tested = torch.cat([data.test.originals for data in sets])
    assert sorted(tested.tolist()) == list(range(30))
    for data in sets:
        assert data.test.labels.bincount().tolist() in ([7, 3], [6, 4], [7, 4], [6, 3])
        assert set(data.validation.labels.tolist()) == {0, 1}
        parts = [set(split.originals.tolist()) for split in (data.train, data.validation, data.test)]
        assert sum(map(len, parts)) == 30 == len(set.union(*parts))


@pytest.mark.parametrize("folds", [None, 3])
def test_no_split_divides_a_group(patients, folds):
    """Also where a group has images of both classes; without the pattern some are divided."""

    def divided(split_by):
        data = folder(patients, size=(12, 12), folds=folds, validation=0.3, split_by=split_by)
        splits = [split.originals.unique().tolist() for split in (data.train, data.validation, data.test)]
        return data, sum(map(len, splits))

    data, groups = divided(r"p\d+")
    assert groups == 12
    assert len(data.train) + len(data.validation) + len(data.test) == 36
    assert divided(r"(p\d+)_")[1] == 12
    assert divided(None)[1] == 36


def test_identical_files_join_their_groups(patients):
    first, *_, other = sorted((patients / "a").iterdir())
    other.write_bytes(first.read_bytes())
    data = folder(patients, size=(12, 12), folds=3, validation=0.3, split_by="p[0-9]+")
    everything = torch.cat([split.originals for split in (data.train, data.validation, data.test)])
    assert len(everything.unique()) == 11


def test_parts_get_their_shares_of_every_class():
    units = [{i % 3: 1 + i % 4} for i in range(300)]
    parts = spread(units, [0.2, 0.8], torch.Generator().manual_seed(0))
    for label in range(3):
        shares = [sum(u.get(label, 0) for u, p in zip(units, parts, strict=True) if p == part) for part in range(2)]
        assert shares[0] / sum(shares) == pytest.approx(0.2, abs=0.02)


def test_groups_across_given_splits_are_refused(tmp_path):
    names = ("train/a/p1_0", "train/a/p2_1", "train/b/p1_2", "train/b/p2_3", "test/a/p3_4", "test/b/p1_5")
    write(tmp_path, {f"{name}.png": seed for seed, name in enumerate(names)})
    with pytest.raises(ValueError, match=r"groups with images in two splits, 1 .*\n  p1: train/a/p1_0.png \(train\)"):
        folder(tmp_path, size=(12, 12), split_by=r"p\d")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"split_by": "("}, "must be a regular expression"),
        ({"split_by": "q[0-9]+"}, "does not say what it belongs to: 'q\\[0-9\\]\\+' is not in it"),
        ({"folds": 13, "split_by": "p[0-9]+"}, "classes in too few groups, or distinct images, for all of 13 parts"),
        ({"folds": 3, "fold": 3}, "fold is 3 of 3"),
    ],
)
def test_mistakes_are_named(patients, options, said):
    with pytest.raises(ValueError, match=said):
        folder(patients, size=(12, 12), **options)


def test_a_config_names_fold_and_group(patients):
    data = DataConfig(source="folder", root=str(patients), size=12, folds=3, fold=1, split_by="p[0-9]+", validation=0.3)
    assert (
        load_data(data).test.originals.tolist()
        == folder(patients, size=(12, 12), folds=3, fold=1, split_by="p[0-9]+", validation=0.3).test.originals.tolist()
    )
    for wrong, said in (
        ({"folds": 1}, "data.folds is 1: must be at least 2"),
        ({"fold": 1}, "data.fold is 1: must be 0 without folds"),
        ({"folds": 2, "fold": 2}, r"data.fold is 2: must be in \[0, 2\)"),
    ):
        with pytest.raises(ConfigError, match=said):
            DataConfig(source="folder", root="x", **wrong)
    with pytest.raises(ConfigError, match="left out"):
        DataConfig("MNIST", folds=3)


@pytest.mark.parametrize("given", [["--split-by", "p[0-9]+"], ["--split-by=p[0-9]+"]])
def test_the_short_form_is_the_key(given):
    assert "=".join(in_full(["ask", *given])[1:]) == "--data.split_by=p[0-9]+"
    assert in_full(["ask", "--split-byte", "x"]) == ["ask", "--split-byte", "x"]


def test_a_column_of_a_hugging_face_data_set_names_the_groups(library, tmp_path):
    features = {
        "picture": library.Image(),
        "kind": library.ClassLabel(names=["a", "b"]),
        "patient": library.Value("int64"),
    }
    content = {
        "picture": [{"bytes": png(i), "path": None} for i in range(24)],
        "kind": [i % 2 for i in range(24)],
        "patient": [i // 4 for i in range(24)],
    }
    library.Dataset.from_dict(content, features=library.Features(features)).save_to_disk(str(tmp_path / "saved"))
    data = hf(str(tmp_path / "saved"), folds=3, fold=1, validation=0.3, split_by="patient")
    parts = [split.originals.unique().tolist() for split in (data.train, data.validation, data.test)]
    assert sum(map(len, parts)) == 6 == len(set().union(*parts))
    assert data.folds == 3
    with pytest.raises(ValueError, match="split_by is 'slide': it must be a column, one of picture, kind, patient"):
        hf(str(tmp_path / "saved"), split_by="slide")
