"""Data sets of Hugging Face's library, made in memory: no network."""

import io
import sys

import numpy as np
import pytest
import torch
from made_folder import SPLITS, counts, png, refused
from PIL import Image

from partialsym.data.base import statistics
from partialsym.data.sources.folder import folder
from partialsym.data.sources.hf import hf


def rows(library, labels, start=0, names=("zebra", "<b>ape</b>"), **columns):
    """A data set of images by number, with these labels."""
    features = library.Features({"picture": library.Image(), "kind": library.ClassLabel(names=list(names))})
    content = {"picture": [{"bytes": png(start + i), "path": None} for i in range(len(labels))], "kind": labels}
    for name, feature in columns.items():
        features[name] = feature
        content[name] = content["picture"] if isinstance(feature, library.Image) else labels
    return library.Dataset.from_dict(content, features=features)


@pytest.fixture
def served(library, monkeypatch):
    """What `load_dataset` gives, and how it was called."""

    def serve(data):
        calls = []
        monkeypatch.setattr(library, "load_dataset", lambda *args, **options: calls.append((args, options)) or data)
        return calls

    return serve


def test_given_splits_are_taken_as_they_are(library, served):
    parts = {"train": rows(library, [0, 1, 1]), "valid": rows(library, [0, 1], 10), "test": rows(library, [1, 0], 20)}
    calls = served(library.DatasetDict({**parts, "unlabelled": rows(library, [0], 30)}))
    data = hf("owner/name", config="small", root="/downloads")
    assert calls == [(("owner/name", "small"), {"cache_dir": "/downloads"})]
    assert (data.name, data.classes) == ("owner/name", ("zebra", "<b>ape</b>"))
    for which, start, labels in (("train", 0, [0, 1, 1]), ("validation", 10, [0, 1]), ("test", 20, [1, 0])):
        split = getattr(data, which)
        expected = [np.asarray(Image.open(io.BytesIO(png(start + i)))).transpose(2, 0, 1) for i in range(len(labels))]
        assert split.images.dtype == torch.uint8
        assert np.array_equal(split.images.numpy(), np.stack(expected))
        assert split.labels.tolist() == labels
    assert (data.mean, data.std) == statistics(data.train.images)


def test_one_piece_on_disk_is_divided_as_a_folder_is(library, tmp_path):
    labels = [0] * 20 + [1] * 10
    for i, label in enumerate(labels):
        (place := tmp_path / "folder" / "ab"[label]).mkdir(parents=True, exist_ok=True)
        (place / f"{i:02}.png").write_bytes(png(i))
    rows(library, labels).save_to_disk(tmp_path / "saved")
    library.DatasetDict({"train": rows(library, labels)}).save_to_disk(tmp_path / "dict")
    expected = folder(tmp_path / "folder", size=(6, 6), fit="crop", channels=1, test=0.5, split_seed=3)
    assert counts(expected) == {"train": [9, 4], "validation": [1, 1], "test": [10, 5]}
    for name in ("saved", "dict"):
        data = hf(str(tmp_path / name), size=(6, 6), fit="crop", channels=1, test=0.5, split_seed=3)
        assert data.name == name
        for which in SPLITS:
            assert torch.equal(getattr(data, which).images, getattr(expected, which).images)
            assert torch.equal(getattr(data, which).originals, getattr(expected, which).originals)


def test_images_may_lie_in_files(library, served, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for i, path in enumerate(paths):
        path.write_bytes(png(i))
    features = library.Features({"picture": library.Image(), "kind": library.ClassLabel(names=["a", "b"])})
    content = {"picture": [str(path) for path in paths], "kind": [0, 0, 0, 1, 1, 1]}
    served(library.Dataset.from_dict(content, features=features))
    assert counts(hf("x")) == {which: [1, 1] for which in SPLITS}
    paths[1].unlink()
    with refused("x: 1 bad file\n", "train[1] does not exist"):
        hf("x")


def test_bad_images_and_labels_are_named_at_once(library, served):
    good = rows(library, [0, 0, 0, 1, 1, 1])
    features = good.features
    wrong = {"picture": [{"bytes": b"no", "path": None}, None, {"bytes": png(8), "path": None}], "kind": [0, 1, None]}
    bad = library.Dataset.from_dict(wrong, features=features)
    served(library.DatasetDict({"train": good, "test": bad}))
    with refused("3 bad files", "test[0] cannot be read as an image", "test[1] has no image", "test[2] has no label"):
        hf("x")
    served(library.DatasetDict({"train": good, "test": rows(library, [-1, -1], 10)}))
    with refused("2 bad files", "test[0] has no label", "test[1] has no label"):
        hf("x")


def test_columns_are_found_by_their_type_or_named(library, served):
    labels = [0, 0, 0, 1, 1, 1]
    served(rows(library, labels, other=library.ClassLabel(names=["c", "d"]), number=library.Value("int64")))
    with refused("2 columns of type ClassLabel: label must be one of 'kind', 'other'", "'number' (Value)"):
        hf("x")
    assert hf("x", label="other").classes == ("c", "d")
    with refused("label is 'number': label must be one of 'kind', 'other'"):
        hf("x", label="number")
    served(rows(library, labels, mask=library.Image()))
    with refused("2 columns of type Image: image must be one of 'picture', 'mask'"):
        hf("x")
    assert hf("x", image="mask").classes == ("zebra", "<b>ape</b>")
    served(rows(library, labels).remove_columns("kind"))
    with refused("0 columns of type ClassLabel: label must be of type ClassLabel. Columns: 'picture' (Image)"):
        hf("x")


def test_splits_that_do_not_fit_are_refused(library, served, caplog):
    train = rows(library, [0, 0, 0, 1, 1, 1])
    served(library.DatasetDict({"a": train, "b": train}))
    with refused("x has splits ['a', 'b']: one must be train"):
        hf("x")
    served(library.DatasetDict({"training": train, "b": train}))
    with refused("x has splits ['training', 'b']: one must be train; 'training' has a similar name"):
        hf("x")
    served(library.DatasetDict({"train": train, "testing": rows(library, [0, 1], 10)}))
    assert counts(hf("x"))["test"] == [1, 1]  # taken from train
    assert caplog.messages == ["x: split 'testing' is left out: did you mean test?"]
    served(library.DatasetDict({"train": train, "val": train, "valid": train}))
    with refused("only one may contain validation images"):
        hf("x")
    served(library.DatasetDict({"train": train, "test": rows(library, [0, 1], 10, names=("other", "names"))}))
    with refused("the columns of test differ from those of train"):
        hf("x")
    served(library.DatasetDict({"train": train, "test": train}))
    with refused("identical files in two splits, 6 in all", "train[0] (train) and test[0] (test)"):
        hf("x")


def test_what_cannot_be_loaded_is_one_error(library, tmp_path, monkeypatch):
    with refused(str(tmp_path), "data source `folder`", error=FileNotFoundError):
        hf(str(tmp_path))

    def fail(*args, **options):
        raise RuntimeError("Dataset scripts are\nno longer supported")

    monkeypatch.setattr(library, "load_dataset", fail)
    with refused("owner/name cannot be loaded: Dataset scripts are no longer supported"):
        hf("owner/name")
    with refused("test is 0: it must be a fraction"):
        hf("owner/name", test=0)


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"needs datasets: pip install 'partialsym\[hf\]'"):
        hf("owner/name")
