"""Exported files: the same answers outside of this package, nothing said, and the command that writes them."""

import json
import re
import sys
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from commands import refused
from exported import ABOUT, answer
from helpers import few, group_conv, lifting
from networks import network, shaken
from torch import nn

import partialsym
from partialsym import (
    GCNN13,
    BatchNorm,
    GlobalPool,
    GResNet,
    Signal,
    recalibrate,
    save_model,
    set_proportional,
    to_conv2d,
)
from partialsym.cli.main import main
from partialsym.config import Experiment
from partialsym.data import load
from partialsym.export.onnx import export
from partialsym.runs.run import Run

NETS = [(GResNet, "E2"), (GResNet, "SE2"), (GResNet, "T2"), (GCNN13, "D4")]
ONNX = {"Conv", "Relu", "MaxPool", "ReduceMax", "ReduceMean", "Gemm", "BatchNormalization", "InstanceNormalization"}
ONNX |= {"Sub", "Div", "Mul", "Add", "Reshape", "Shape", "Concat", "Unsqueeze", "Flatten"}  # norms, shapes
ATEN = {"conv2d", "relu", "max_pool2d", "amax", "mean", "linear", "batch_norm", "group_norm", "instance_norm"}
ATEN |= {"sub", "div", "add", "flatten", "unflatten", "view_as", "view", "reshape", "unsqueeze", "dropout"}


def plain_onnx(path):
    """Its operations, counted, after a look at its form."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    found = Counter(node.op_type for node in model.graph.node)
    assert found.keys() <= ONNX
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    shapes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    assert shapes == {"images": ["batch", 2, 18, 22]}
    assert [v.name for v in model.graph.output] == ["logits"]
    props = {entry.key: entry.value for entry in model.metadata_props}
    assert {key: json.loads(props[key]) for key in ABOUT} == {key: list(value) for key, value in ABOUT.items()}
    assert_names_nothing_of_this_machine(path)
    return found["Conv"], found["BatchNormalization"]


def plain_aten(path):
    """The same of torch's own format."""
    graph = torch.export.load(path).graph
    found = Counter(str(node.target).split(".")[1] for node in graph.nodes if node.op == "call_function")
    assert found.keys() <= ATEN
    return found["conv2d"], found["batch_norm"]


@pytest.mark.parametrize(
    ("suffix", "plain", "cls", "name"),
    few(
        [(*format, *net) for net in NETS for format in ((".onnx", plain_onnx), (".pt2", plain_aten))],
        (".onnx", plain_onnx, GResNet, "SE2"),
        (".pt2", plain_aten, GCNN13, "D4"),
    ),
)
def test_a_file_holds_plain_operations_and_gives_the_same_answers_at_any_batch(
    cls, name, suffix, plain, tmp_path, capfd
):
    net, path = network(cls, name, partial=True, in_channels=2), tmp_path / f"model{suffix}"
    difference = export(net, path, **ABOUT)
    assert capfd.readouterr() == ("", "")
    assert 0 <= difference < 1e-4
    assert list(tmp_path.iterdir()) == [path]
    assert plain(path) == ((8, 2) if cls is GResNet else (9, 0))
    for batch in (1, 3, 64):
        images = torch.rand(batch, 2, 18, 22)
        mean, std = (torch.tensor(ABOUT[key])[:, None, None] for key in ("mean", "std"))
        with torch.no_grad():
            expected = net((images - mean) / std)
        torch.testing.assert_close(answer(path, images), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.long
@pytest.mark.parametrize("suffix", few([".onnx", ".pt2"], ".pt2"))
def test_a_file_says_what_it_is_and_nothing_of_this_machine(suffix, tmp_path):
    net, path = network(GResNet, "SE2", in_channels=2), tmp_path / f"model{suffix}"
    expected = {
        "partialsym": partialsym.__version__,
        "input": "float32 [batch, channels, height, width] in [0, 1]",
        **{key: list(value) for key, value in ABOUT.items()},
        "range": {"uint8": [0, 255], "uint16": [3, 4095]},
        "output": "probabilities [batch, classes]",
        "fit": "crop",
        "resampling": "bilinear, antialiased, of 8-bit or 16-bit pixels: PIL.Image.resize(size, BILINEAR)",
    }
    export(net, path, **ABOUT, range=(3, 4095), fit="crop", softmax=True)
    images = torch.rand(3, 2, 18, 22)
    mean, std = (torch.tensor(ABOUT[key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        torch.testing.assert_close(answer(path, images), net((images - mean) / std).softmax(1), rtol=0, atol=1e-5)
    if suffix == ".onnx":
        props = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        text = ("partialsym", "input", "output", "fit", "resampling")
        assert {k: v if k in text else json.loads(v) for k, v in props.items()} == expected
    else:
        files = {"partialsym.json": ""}
        program = torch.export.load(path, extra_files=files)
        assert json.loads(files["partialsym.json"]) == expected
        assert program.example_inputs is None
    assert_names_nothing_of_this_machine(path)


def assert_names_nothing_of_this_machine(path):
    data = path.read_bytes()
    assert str(path.parent).encode() not in data
    assert b"gresnet.py" not in data


class Short(nn.Module):
    """Two layers on the group: what does not hang on the depth is quickly exported."""

    def __init__(self, channels=2):
        super().__init__()
        self.lifting, self.norm, self.conv = lifting("SE2", into=channels), BatchNorm(3), group_conv("SE2", "learned")
        self.pool, self.classifier = GlobalPool("max"), nn.Linear(3, 5)

    def forward(self, images):
        f = self.norm(self.lifting(Signal.image(images))).map(torch.relu)
        return self.classifier(self.pool(self.conv(f)))


@pytest.mark.parametrize(
    ("dtype", "suffix"),
    few([(torch.float64, ".pt2"), (torch.float32, ".pt2"), (torch.float64, ".onnx")], (torch.float64, ".pt2")),
)
def test_a_model_in_float64_or_converted_before_gives_a_float32_file(dtype, suffix, tmp_path):
    torch.set_default_dtype(dtype)
    net = shaken(Short())
    torch.set_default_dtype(torch.float32)
    images = torch.rand(2, 2, 18, 22)
    frozen = to_conv2d(net, images.to(dtype)).train()
    for i, model in enumerate((net, frozen)):
        export(model, tmp_path / f"{i}{suffix}", **ABOUT)
    assert frozen.training
    assert {p.dtype for p in frozen.parameters()} == {dtype}
    torch.testing.assert_close(*(answer(tmp_path / f"{i}{suffix}", images) for i in range(2)))


def test_a_file_that_would_answer_otherwise_is_not_written(tmp_path, monkeypatch):
    net, path = shaken(Short()), tmp_path / "model.pt2"
    path.write_text("before")

    def wrong(model, example):
        frozen = to_conv2d(model, example)
        with torch.no_grad():
            frozen.classifier.bias += 0.1
        return frozen

    monkeypatch.setattr("partialsym.export.onnx.to_conv2d", wrong)
    with pytest.raises(ValueError, match=r"was not written: its logits would differ from the model's by 0\.1"):
        export(net, path, **ABOUT)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "model.pt"}, r"has no format: its name must end in \.onnx or \.pt2"),
        ({"path": "onnx"}, "has no format"),
        ({"classes": ["a", "b"]}, r"the model returns \[5\] numbers per image, but classes has 2"),
        ({"mean": [0.1]}, "must have one number for each"),
        ({"mean": [0.1], "std": [1.0]}, "the input has 1 channels, but this layer expects 2"),
        ({"std": [1.0, 0.0]}, "std > 0"),
        ({"size": (3, 2)}, "3×2 pixels"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(change, message, tmp_path):
    arguments = {"path": "model.onnx", **ABOUT, **change}
    with pytest.raises(ValueError, match=message):
        export(network(GResNet, "SE2", in_channels=2), tmp_path / arguments.pop("path"), **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.long
@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
def test_torchs_own_export_to_onnx_names_to_conv2d_and_takes_its_output(dynamo, tmp_path):
    net, x = shaken(Short(1)), torch.randn(1, 1, 12, 12)
    with pytest.raises(Exception, match=r"convert the model with.*partialsym\.to_conv2d"):  # torch wraps it
        torch.onnx.export(net, (x,), tmp_path / "model.onnx", dynamo=dynamo, verbose=False)
    torch.onnx.export(to_conv2d(net, x), (x,), tmp_path / "model.onnx", dynamo=dynamo, verbose=False)
    assert (tmp_path / "model.onnx").stat().st_size > 0


@pytest.fixture
def run(tmp_path):
    """A run folder as `fit` leaves it, of a network that was not trained and keeps half of the circle."""
    model = {"group": "SE2", "samples": 6, "width": 3, "hidden": 4, "kernel_size": 3}
    config = {"name": "x", "data": {"name": "digits-6-180"}, "model": model, "training": {"recalibration_images": 64}}
    run, data = Run(tmp_path / "run"), load("digits-6-180")
    run.begin(Experiment.from_dict(config))
    net = network(GResNet, num_classes=2, **{"name": model.pop("group"), **model})
    save_model(net, run.folder / "model", classes=data.classes, mean=data.mean, std=data.std, size=data.size)
    return run


@pytest.mark.long  # in short that of fewer elements
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_the_command(run, tmp_path, suffix, capfd):
    path = tmp_path / "new" / f"model{suffix}"
    assert main(["export", str(run.folder), "--out", str(path)]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    *layers, difference, file = out.splitlines()
    assert layers[0] == "  lifting        6 of 6 elements"
    assert layers[-1] == "  last           6 of 6 elements"
    assert float(re.fullmatch(r"largest difference of a logit from the run's: (\S+)", difference)[1]) < 1e-4
    assert re.fullmatch(rf"file: {path} \(0\.\d\d MB\)", file)
    trained = run.model()
    images = torch.from_numpy(np.random.default_rng(0).random((2, 1, *trained.size), dtype=np.float32))
    torch.testing.assert_close(answer(path, images), trained.model(trained.preprocess(images)), rtol=1e-4, atol=1e-4)


@pytest.mark.long
def test_the_command_with_fewer_elements_recalibrates(run, tmp_path, capfd):
    path = tmp_path / "model.pt2"
    assert main(["export", str(run.folder), "--out", str(path), "--proportional"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert "  last           3 of 6 elements\n" in out
    assert re.search(rf"largest difference of a logit from the run's: \S+\nfile: {path} \(0\.\d\d MB\)\n$", out)
    trained = run.model()
    set_proportional(trained.model, True)
    images = torch.rand(2, 1, *trained.size)
    stale = trained.model(trained.preprocess(images))
    assert (answer(path, images) - stale).abs().max() > 1e-2
    config, train = run.config(), load("digits-6-180").train
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(config.seed))[:64]
    recalibrate(trained.model, trained.preprocess(train.images[chosen]).split(config.training.batch_size))
    torch.testing.assert_close(answer(path, images), trained.model(trained.preprocess(images)), rtol=1e-4, atol=1e-4)


def test_mistakes_get_one_line(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "model.pt has no format" in refused(capsys, "export", run.folder, "--out", "model.pt")
    assert "contains no model" in refused(capsys, "export", "nowhere")
    data = ("--data.root", "nowhere")
    config = (run.folder / "config.yaml").read_text().replace("digits-6-180", "MNIST")
    (run.folder / "config.yaml").write_text(config)
    assert "nowhere" in refused(capsys, "export", run.folder, "--proportional", *data)
    assert list(tmp_path.iterdir()) == [run.folder]


def test_onnx_without_its_extra_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["export", "nowhere", "--out", str(tmp_path / "model.onnx")]) == 1
    assert (
        capsys.readouterr().err
        == "partialsym: writing ONNX needs the extra `export`: pip install 'partialsym[export]'.\n"
    )
