"""Models on disk: the same model comes back, and nothing else does."""

import errno
import json
import os
import shutil
from itertools import product

import pytest
import torch
from helpers import few

from partialsym import to_conv2d
from partialsym._utils import atomic
from partialsym.models import GCNN13, Augerino, GResNet
from partialsym.models.saving import StoreError, load_model, save_model

GROUPS = ["T2", "Mirror", "SE2", "E2", "C4", "D4"]


def small(group="E2", **settings):
    samples = {"T2": 1, "Mirror": 2, "D4": 8}.get(group, 4)
    return GResNet(group, samples=samples, width=2, hidden=4, kernel_size=3, num_classes=3, **settings)


@pytest.mark.parametrize(
    ("group", "kernel"), few(product(GROUPS, ["SIREN", "MAGNet"]), ("T2", "SIREN"), ("E2", "MAGNet"), ("D4", "SIREN"))
)
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


def test_a_run_folder_contains_its_model(tmp_path):
    model = small("SE2").eval()
    save_model(model, tmp_path / "model")
    x = torch.randn(2, 1, 12, 12)
    assert torch.equal(load_model(tmp_path)[0](x), model(x))


def test_every_setting_is_restored(tmp_path):
    model = small("SE2", partial=False, dropout=0.25, pools=["block2"], sampling="iid", kernel_options={"omega0": 3.0})
    save_model(model, tmp_path)
    assert load_model(tmp_path)[0].settings == model.settings


def around(model=None, **options):
    return Augerino(small("SE2") if model is None else model, "E2", copies=6, sampling="iid", **options)


@pytest.mark.parametrize(
    "model",
    [
        lambda: small("SE2", head="plane"),
        lambda: small("SE2", head="linear"),
        lambda: around(proportional=True),
        lambda: around(small("E2", head="linear")),
        lambda: around(GCNN13("D4", width=2, hidden=4)),
    ],
    ids=["plane", "linear", "Augerino", "Augerino round linear", "Augerino round CNN13"],
)
def test_heads_and_what_is_wrapped_round_a_network_come_back(model, tmp_path):
    model, x = model(), torch.randn(2, 1, 12, 12)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.9)
    model(x)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)[0]
    assert type(loaded) is type(model)
    assert loaded.settings == json.loads(json.dumps(model.settings))
    for mode in (False, True):
        outputs = []
        for m in (model.train(mode), loaded.train(mode)):
            torch.manual_seed(7)
            outputs.append(m(x))
        assert torch.equal(*outputs)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of models that are only read: of `small()` and `around()`."""
    torch.manual_seed(0)
    folders = {name: tmp_path_factory.mktemp("saved") for name in ("small", "around")}
    for make, folder in zip((small, around), folders.values(), strict=True):
        save_model(make(), folder)
    return folders


def test_augerino_round_a_foreign_or_converted_model_is_refused(tmp_path):
    with pytest.raises(
        ValueError,
        match="Flatten cannot be saved: must be one of GResNet, GCNN13, GCNN3, GStagedResNet, GConvNeXt, GUNet, Aug",
    ):
        save_model(around(torch.nn.Flatten()), tmp_path)
    with pytest.raises(ValueError, match="this Augerino is frozen"):
        save_model(to_conv2d(around()), tmp_path)
    assert not list(tmp_path.iterdir())


INSIDE = {"group": "SE2", "samples": 4, "width": 2, "hidden": 4, "kernel_size": 3, "num_classes": 3}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "os.system", "settings": "true"}, "names the model 'os.system': must be one of GResNet"),
        ({"model": "Linear", "settings": {"in_features": 1, "out_features": 1}}, "names the model 'Linear'"),
        ({"model": "__class__", "settings": {}}, "names the model '__class__'"),
        ({"model": ["GResNet"], "settings": INSIDE}, r"names the model \['GResNet'\]"),
        ({"model": None, "settings": INSIDE}, "names the model None"),
        ({"settings": INSIDE}, "names the model None"),
        ({}, "names the model None"),
        ([], r"has the settings \[\] of Augerino: must be a dict"),
        ({"model": "GResNet", "settings": None}, "has the settings None of GResNet"),
        ({"model": "GResNet", "settings": "E2"}, "has the settings 'E2' of GResNet"),
        ({"model": "Augerino", "settings": {"model": "GResNet", "settings": INSIDE}}, "an Augerino in an Augerino"),
        ({"model": "GResNet", "settings": {**INSIDE, "self": 1}}, "self"),
        ({"model": "GResNet", "settings": {**INSIDE, "group": 5}}, "does not fit Augerino"),
        ({"model": "GResNet", "settings": {**INSIDE, "head": ["plane"]}}, "head is"),
        ({"model": "GResNet", "settings": {**INSIDE, "kernel": ["SIREN"]}}, "does not fit Augerino"),
        ({"model": "GResNet", "settings": {**INSIDE, "width": 10**400}}, "does not fit Augerino"),
        (
            {"model": "GResNet", "settings": {**INSIDE, "width": 3}},
            r"lifting.bias is \[2\] of float32 in the file, but \[3\] of",
        ),
        ({"model": "GResNet", "settings": INSIDE, "copies": "6"}, "does not fit Augerino"),
        ({"model": "GResNet", "settings": INSIDE, "copies": 5}, "copies is 5"),
        ({"model": "GResNet", "settings": INSIDE, "density": 1}, "density"),
    ],
)
def test_a_damaged_record_of_what_is_inside_is_refused(saved, tmp_path, settings, message):
    shutil.copytree(saved["around"], tmp_path, dirs_exist_ok=True)
    if isinstance(settings, dict):
        settings = {"group": "E2", "copies": 6, **settings}
    edit(tmp_path, settings=settings)
    with pytest.raises(StoreError, match=message):
        load_model(tmp_path)


def test_a_record_nested_without_end_is_refused(tmp_path):
    save_model(around(), tmp_path)
    (tmp_path / "model.json").write_text('{"settings": ' * 200_000)
    with pytest.raises(StoreError, match="is not a model record"):
        load_model(tmp_path)


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


@pytest.mark.parametrize("call", [1, 3])  # of the weights and of the record; between them the folder is synced
def test_a_full_disk_leaves_the_previous_model(tmp_path, monkeypatch, call):
    first = small()
    save_model(first, tmp_path)
    count = 0

    def full(fd):
        nonlocal count
        count += 1
        if count == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.os, "fsync", full)
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
        (lambda f: edit(f, format=9), "format version 9; this version reads 1"),
        (lambda f: edit(f, model="Net"), "names the model 'Net': must be one of GResNet"),
        (lambda f: edit(f, weights="../secret"), "names the weights file '../secret'"),
        (lambda f: edit(f, sha256="0" * 64), "is damaged: its sha256 is .*, expected 000"),
        (lambda f: edit(f, settings={"gruop": "E2"}), "gruop"),
        (
            lambda f: edit(f, settings={**json.loads((f / "model.json").read_text())["settings"], "width": 3}),
            "does not fit its weights",
        ),
        (lambda f: (f / "model.json").write_text("{"), "is not a model record"),
        (lambda f: (f / "model.json").write_text("[]"), "is not a model record"),
        (lambda f: next(f.glob("*.safetensors")).write_bytes(b"x"), "is damaged"),
        (lambda f: next(f.glob("*.safetensors")).unlink(), "there is no such file beside it"),
    ],
)
def test_a_damaged_folder_is_refused(saved, tmp_path, damage, message):
    shutil.copytree(saved["small"], tmp_path, dirs_exist_ok=True)
    damage(tmp_path)
    with pytest.raises(StoreError, match=message):
        load_model(tmp_path)


def test_an_empty_folder_and_a_foreign_model_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model\.json"):
        load_model(tmp_path)
    with pytest.raises(ValueError, match="Linear cannot be saved: must be one of GResNet"):
        save_model(torch.nn.Linear(1, 1), tmp_path)


def test_a_converted_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="this GResNet is frozen and cannot be saved: save the model"):
        save_model(to_conv2d(GResNet("SE2", width=2, samples=4, kernel_size=3)), tmp_path)
    assert not list(tmp_path.iterdir())
