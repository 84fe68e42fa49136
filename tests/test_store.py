"""Models on disk: the same model comes back, and nothing else does."""

import errno
import json
import os

import pytest
import torch

from partialsym import files, freeze
from partialsym.models import GResNet
from partialsym.store import StoreError, load_model, save_model

GROUPS = ["T2", "Mirror", "SE2", "E2", "C4", "D4"]


def small(group="E2", **settings):
    samples = {"T2": 1, "Mirror": 2, "D4": 8}.get(group, 4)
    return GResNet(group, samples=samples, width=2, hidden=4, kernel_size=3, classes=3, **settings)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("kernel", ["SIREN", "MAGNet"])
def test_save_load_gives_identical_outputs_in_train_and_eval(tmp_path, group, kernel):
    model = small(group, kernel=kernel)
    x = torch.randn(4, 1, 12, 12)
    model.train()(x)  # moves the running statistics
    save_model(model, tmp_path, mean=(0.1,))
    loaded, about = load_model(tmp_path)
    assert about["mean"] == [0.1]
    for mode in (False, True):
        outputs = []
        for m in (model.train(mode), loaded.train(mode)):
            torch.manual_seed(7)
            outputs.append(m(x))
        assert torch.equal(*outputs)
    assert {f.suffix for f in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_every_setting_is_restored(tmp_path):
    model = small("SE2", partial=False, dropout=0.25, pools=["block2"], sampling="iid", kernel_options={"omega0": 3.0})
    save_model(model, tmp_path)
    assert load_model(tmp_path)[0].settings == model.settings


def test_float64_comes_back_as_float64(tmp_path):
    torch.set_default_dtype(torch.float64)
    model = small("D4").eval()
    save_model(model, tmp_path)
    torch.set_default_dtype(torch.float32)
    x = torch.randn(2, 1, 12, 12, dtype=torch.float64)
    assert torch.equal(load_model(tmp_path)[0](x), model(x))
    assert torch.get_default_dtype() == torch.float32


def test_an_activation_by_name_is_saved_and_a_function_is_refused_before_anything_is_written(tmp_path):
    model = small("SE2", kernel="MLP", kernel_options={"activation": "tanh"}).eval()
    save_model(model, tmp_path / "a")
    x = torch.randn(2, 1, 12, 12)
    assert torch.equal(load_model(tmp_path / "a")[0](x), model(x))
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_model(small("SE2", kernel="MLP", kernel_options={"activation": torch.tanh}), tmp_path / "b")
    assert not (tmp_path / "b").exists()
    with pytest.raises(ValueError, match="about has 'weights'"):
        save_model(model, tmp_path / "b", weights="mine")


def test_saving_again_leaves_one_model(tmp_path):
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = small()
        save_model(model, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert torch.equal(load_model(tmp_path)[0].classifier.weight, model.classifier.weight)


@pytest.mark.parametrize("call", [1, 2])
def test_a_full_disk_leaves_the_previous_model(tmp_path, monkeypatch, call):
    first = small()
    save_model(first, tmp_path)
    count = 0

    def full(fd):
        nonlocal count
        count += 1
        if count == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_model(small(), tmp_path)
    assert torch.equal(load_model(tmp_path)[0].classifier.weight, first.classifier.weight)
    assert not list(tmp_path.glob(".*"))


def edit(folder, **changes):
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: edit(f, format=2), "format version 2; this version reads 1"),
        (lambda f: edit(f, model="Net"), "names the model 'Net': must be one of GResNet"),
        (lambda f: edit(f, weights="../secret"), "names the weights '../secret'"),
        (lambda f: edit(f, sha256="0" * 64), "is damaged: its sha256 is .*, expected 000"),
        (lambda f: edit(f, settings={"gruop": "E2"}), "gruop"),
        (lambda f: edit(f, settings={**json.loads((f / "model.json").read_text())["settings"], "width": 3}), "size"),
        (lambda f: (f / "model.json").write_text("{"), "is not a model record"),
        (lambda f: (f / "model.json").write_text("[]"), "is not a model record"),
        (lambda f: next(f.glob("*.safetensors")).write_bytes(b"x"), "is damaged"),
        (lambda f: next(f.glob("*.safetensors")).unlink(), "no such file beside it"),
    ],
)
def test_a_damaged_folder_is_refused(tmp_path, damage, message):
    save_model(small(), tmp_path)
    damage(tmp_path)
    with pytest.raises(StoreError, match=message):
        load_model(tmp_path)


def test_an_empty_folder_and_a_foreign_model_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model\.json"):
        load_model(tmp_path)
    with pytest.raises(ValueError, match="Linear cannot be saved: must be one of GResNet"):
        save_model(torch.nn.Linear(1, 1), tmp_path)


def test_a_frozen_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="this GResNet is frozen and cannot be saved: save the model"):
        save_model(freeze(GResNet("SE2", width=2, samples=4, kernel_size=3)), tmp_path)
    assert not list(tmp_path.iterdir())
