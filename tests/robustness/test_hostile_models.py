"""A model folder from a stranger: nothing in it is run, and nothing of it grows."""

import hashlib
import json
import math
import os
import shutil
import struct

import pytest
import torch
from hostile import bounded, edit, flips, refused, small_model, sparse, truncations, weights_of
from safetensors.torch import load, save

from partialsym.models import GResNet, saving
from partialsym.models.saving import StoreError, load_model, save_model


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    torch.manual_seed(0)
    return small_model(tmp_path_factory.mktemp("made") / "model")


@pytest.fixture
def folder(made, tmp_path):
    """A copy of its own."""
    return shutil.copytree(made, tmp_path / "model")


def forge(folder, data):
    """Other weights, whose hash fits."""
    weights_of(folder).write_bytes(data)
    edit(folder, sha256=hashlib.sha256(data).hexdigest())


def declared(shape, dtype="F32", data=b""):
    head = json.dumps({"classifier.weight": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    return struct.pack("<Q", len(head)) + head + data


@pytest.mark.parametrize(
    "settings",
    [
        {"width": 2**20},
        {"hidden": 2**20},
        {"in_channels": 2**30},
        {"num_classes": 2**30},
        {"kernel_size": 100_001},
        {"kernel_size": 1e9 + 1},
        {"samples": 10**9},
        {"samples": 10**6, "group": "SE2"},
        {"group": "C9999", "samples": 9999},
        {"group": "D9999", "samples": 19998},
        {"group": "D600", "samples": 1200},
        {"kernel_options": {"layers": 10**9}},
        {"kernel_options": {"layers": 20}},
        {"head": "linear"},
        {"kernel": "MAGNet"},
        {"width": 2**20, "hidden": 2**20, "kernel_size": 2**20 + 1},
        {"width": 1e300},
        {"width": math.inf},
        {"hidden": "x" * 9},
        {"samples": [1] * 9},
        {"kernel_options": [1]},
        {"dropout": math.nan},
        {"group": "C" + "9" * 5000},
    ],
    ids=lambda settings: str(settings)[:60],
)
def test_a_network_larger_than_its_weights_is_not_made(folder, settings):
    record = json.loads((folder / "model.json").read_text())
    edit(folder, settings=record["settings"] | settings)
    with refused(folder):
        load_model(folder)
    around = {"model": "GResNet", "settings": record["settings"] | settings, "group": "E2", "copies": 6}
    edit(folder, model="Augerino", settings=around)
    with refused(folder):
        load_model(folder)


def test_weights_are_compared_before_any_memory_is_taken(folder, monkeypatch):
    """A network is made on `meta`, and on the processor only where its weights fit; the generator advances for one."""
    made, settings = [], json.loads((folder / "model.json").read_text())["settings"]
    rebuild = saving.rebuild
    monkeypatch.setattr(saving, "rebuild", lambda *args: made.append(torch.get_default_device().type) or rebuild(*args))
    torch.manual_seed(0)
    GResNet(**settings)
    expected = torch.get_rng_state()
    torch.manual_seed(0)
    load_model(folder)
    assert torch.equal(torch.get_rng_state(), expected)
    assert made == ["meta", "cpu"]
    edit(folder, settings=settings | {"num_classes": 3})
    with refused(folder, "classifier.weight is [2, 2] of float32 in the file, but [3, 2] of float32 in the network"):
        load_model(folder)
    edit(folder, settings=settings, dtype="float64")
    with refused(folder, "lifting.bias is [1] of float32 in the file, but [1] of float64 in the network"):
        load_model(folder)
    edit(folder, settings=settings | {"group": "SE2", "samples": 4096, "kernel": "MLP"}, dtype="float32")
    with refused(folder):
        load_model(folder)
    assert made == ["meta", "cpu", "meta", "meta", "meta"]


@pytest.mark.parametrize("change", ["missing", "more"])
def test_other_tensors_than_the_networks_are_refused(folder, change):
    state = load(weights_of(folder).read_bytes())
    state = (
        {k: v for k, v in state.items() if k != "norm0.bias"} if change == "missing" else state | {"x": torch.ones(1)}
    )
    forge(folder, save(state))
    with refused(folder, 'Missing key(s) in state_dict: "norm0.bias"' if change == "missing" else "Unexpected key(s)"):
        load_model(folder)


def test_elements_that_no_weight_shows_are_counted(folder):
    """The weights of a network of 8 elements fit one of 4,096 as well, which takes minutes to be made and called."""
    save_model(GResNet("SE2", samples=8, width=1, hidden=2, kernel_size=3), folder)
    settings = json.loads((folder / "model.json").read_text())["settings"]
    edit(folder, settings=settings | {"samples": 256})
    assert load_model(folder)[0].settings["samples"] == 256
    edit(folder, settings=settings | {"samples": 4096})
    with refused(folder, "kernels of 4096 elements, 3×3 pixels and 2 features: too large to build"):
        load_model(folder)


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    with pytest.raises(StoreError, match="too large to build"):
        save_model(GResNet("SE2", samples=10**4, width=1, hidden=1, kernel_size=1), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_networks_of_usual_sizes_are_within_the_limits(tmp_path):
    for group, settings in {"SE2": {"samples": 16}, "E2": {"samples": 32, "kernel_size": 5}, "D16": {}}.items():
        save_model(GResNet(group, width=1, hidden=16, **settings), tmp_path)
        assert load_model(tmp_path)[0].settings["group"] == group


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("key", ["classifier.weight", "norm0.running_var"])
def test_weights_that_are_not_finite_are_refused(folder, key, value):
    state = load(weights_of(folder).read_bytes())
    state[key].view(-1)[0] = value
    forge(folder, save(state))
    with refused(weights_of(folder), f"weights that are not finite, in {key}"):
        load_model(folder)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        struct.pack("<Q", 2**63),
        struct.pack("<Q", 2**40) + b"{",
        struct.pack("<Q", 200_000) + b"[" * 200_000,
        declared([2**40, 2**20]),
        declared([2**62, 4]),
        declared([0, 2**60]),
        declared([2**32], "F4"),
        declared([1], "F8_E5M2", b"0"),
        declared([1], "C64", bytes(8)),
        declared([1], "os.system", bytes(4)),
    ],
    ids=range(11),
)
def test_forged_weights_are_refused(folder, data):
    forge(folder, data)
    with refused(folder):
        load_model(folder)


@pytest.mark.parametrize(
    "name",
    [
        "../model/{}",
        "/etc/passwd",
        "/dev/zero",
        "",
        ".",
        "..",
        "a/b",
        "x\0y",
        "\ud800",
        "x" * 5000,
        None,
        7,
        ["{}"],
        {},
    ],
    ids=lambda name: repr(name)[:20],
)
def test_no_name_leads_out_of_the_folder(folder, name):
    edit(folder, weights=name.format(weights_of(folder).name) if isinstance(name, str) else name)
    with refused(folder):
        load_model(folder)


@pytest.mark.parametrize("which", ["record", "weights"])
def test_only_regular_files_of_some_size_are_read(folder, tmp_path, which):
    path = folder / "model.json" if which == "record" else weights_of(folder)
    path.unlink()
    sparse(path)
    with refused(path, "has 1,099,511,627,776 bytes: at most "):
        load_model(folder)
    for make in (
        lambda: os.mkfifo(path),
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.symlink_to(path),
        path.mkdir,
    ):
        path.unlink()
        make()
        with refused(folder):
            load_model(folder)


@pytest.mark.parametrize("which", ["record", "weights"])
def test_every_truncation_is_refused(folder, which):
    path = folder / "model.json" if which == "record" else weights_of(folder)
    for content in truncations(path.read_bytes().strip()):
        path.write_bytes(content)
        with refused(folder):
            load_model(folder)


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.long)])
def test_every_flipped_byte_of_the_header_is_refused(folder, step):
    path = weights_of(folder)
    whole = path.read_bytes()
    for content in flips(whole, 8 + struct.unpack_from("<Q", whole)[0], step):
        path.write_bytes(content)
        with refused(path, "is damaged: its sha256 is"):
            load_model(folder)


@pytest.mark.long
def test_every_flipped_byte_of_a_forged_header_is_refused_or_the_same_network(folder):
    whole = weights_of(folder).read_bytes()
    shapes, loaded = {k: v.shape for k, v in load(whole).items()}, 0
    for content in flips(whole, 8 + struct.unpack_from("<Q", whole)[0]):
        forge(folder, content)
        if model := loads_or_refused(folder):
            loaded += 1
            assert {k: v.shape for k, v in model.state_dict().items()} == shapes
    assert loaded < len(whole) // 10


def test_every_flipped_byte_of_the_record_is_refused_or_harmless(folder):
    path = folder / "model.json"
    expected = load_model(folder)[0].state_dict()
    for content in flips(path.read_bytes()):
        path.write_bytes(content)
        if model := loads_or_refused(folder):
            assert all(torch.equal(v, expected[k]) for k, v in model.state_dict().items())


def loads_or_refused(folder):
    """The model, or None where it is refused in one line."""
    try:
        with bounded():
            return load_model(folder)[0]
    except (StoreError, OSError) as error:
        assert "\n" not in str(error)  # noqa: PT017 (either is right)
        return None
