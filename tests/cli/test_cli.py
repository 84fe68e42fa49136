"""The command line on the embedded data: what it prints, writes and refuses."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import waiting
import yaml
from commands import refused
from helpers import few_angles
from made_folder import png, write
from PIL import Image
from processes import context, ended, limited

import partialsym as ps
from partialsym.cli.main import STOPPED, main
from partialsym.cli.options import COMMANDS
from partialsym.cli.output import confusion_lines
from partialsym.config import ModelConfig
from partialsym.data import load

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

TINY = {
    "name": "tiny",
    "data": {"name": "digits-6-M"},
    "model": {"group": "SE2", "samples": 4, "width": 2, "hidden": 4, "kernel_size": 3, "kernel": "SIREN"},
    "training": {"epochs": 2, "batch_size": 64},
}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run folder."""
    folder = tmp_path_factory.mktemp("runs")
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", io.StringIO())
        assert main(["fit", "--config", str(config), "--out", str(folder)]) == 0
    return folder / "tiny" / "seed0"


def test_help_explains_itself_and_loads_neither_torch_nor_numpy():
    """Which takes seconds: help answers at once."""
    code = f"""
import sys
from partialsym.cli.main import main
for command in {[[], *([name] for name in COMMANDS)]!r}:
    try:
        assert main([*command, "--help"]) == 0
    except SystemExit as end:
        assert not end.code
sys.exit(" ".join({{"torch", "lightning", "numpy"}} & sys.modules.keys()) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: partialsym") == 1 + len(COMMANDS)


def test_fit_prints_and_writes(run, config, tmp_path, capsys):
    args = ["fit", "--config", str(config), "--out", str(tmp_path), "--name", "other", "--model.partial", "false"]
    assert main(args) == 0
    out = capsys.readouterr().out
    result = json.loads((tmp_path / "other" / "seed0" / "result.json").read_text())
    assert f"test accuracy: {100 * result['accuracy']['test']:.1f} %" in out
    assert "block1.conv1   ±180°" in out
    assert result["config"]["model"]["partial"] is False


@pytest.mark.long
def test_fit_within_a_budget(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("partialsym.cli.fit.epochs_within", lambda config, seconds: int(seconds) // 45)
    args = ["fit", "--config", str(config), "--out", str(tmp_path), "--budget", "1.5m"]
    for extra in ([], ["--resume", "--budget", "7h"]):  # a run that is resumed has its epochs
        assert main([*args, *extra]) == 0
        assert ": 2 epochs\n" in capsys.readouterr().out
        assert json.loads((tmp_path / "tiny" / "seed0" / "result.json").read_text())["epochs"] == 2
    assert "budget is '5': must be a time such as 90s" in refused(capsys, *args[:-1], "5")


@pytest.mark.long
def test_a_preset_from_training_to_the_answers_of_an_exported_file(tmp_path, capsys, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "images", {f"{'ab'[i % 2]}/{i}.png": png(i, (12, 12)) for i in range(16)})
    command = "fit --name net --data folder --data.root images --training.epochs 1"
    command += " --model.network gresnet18_cifar --model.width 4 --model.samples 4 --training.batch_size 4"
    assert main(command.split()) == 0
    said = capsys.readouterr().out
    assert "  lifting            ±180°\n  stages.1.0.convs.1 ±" in said  # one column
    run = tmp_path / "runs" / "net" / "seed0"
    assert main(["evaluate", str(run)]) == 0
    result = json.loads((run / "result.json").read_text())
    assert capsys.readouterr().out.startswith(f"test accuracy: {100 * result['accuracy']['test']:.2f} %")
    assert main(["report", str(run), "--out", "page.html"]) == 0
    assert "stages.4.1.convs.1" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert main(["export", str(run), "--out", "net.onnx", "--softmax"]) == 0
    capsys.readouterr()
    assert main(["predict", str(run), "images", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 16

    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    for row in rows:
        pixels = np.asarray(Image.open(row["file"]), np.float32).transpose(2, 0, 1)[None] / 255
        (found,) = session.run(None, {"images": pixels})[0]
        assert found.tolist() == pytest.approx([float(row[name]) for name in classes], abs=1e-4)


def test_evaluate(run, capsys):
    assert main(["evaluate", str(run), "--draws", "3", "--split", "validation"]) == 0
    lines = capsys.readouterr().out.splitlines()
    result = json.loads((run / "result.json").read_text())
    assert lines[0].startswith(f"validation accuracy: {100 * result['accuracy']['validation']:.2f} %")
    assert re.fullmatch(r"balanced accuracy \d+\.\d %, AUROC \d\.\d{3}", lines[1])
    assert "± " in lines[2]
    assert "3 draws" in lines[2]
    assert main(["evaluate", str(run), "--draws", "3", "--split", "validation", "--recalibrate"]) == 0
    own = capsys.readouterr().out.splitlines()
    assert own[:2] == lines[:2]
    assert own[2].endswith("(3 draws, BatchNorm statistics of each)")


def test_evaluate_prints_which_classes_are_confused(run, capsys):
    assert main(["evaluate", str(run)]) == 0
    before = capsys.readouterr().out.splitlines()
    assert main(["evaluate", str(run), "--confusion"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[: len(before)] == before
    _, head, *rows = lines[len(before) :]
    assert head.split() == ["6", "6", "mi…red", "right"]
    images = len(load("digits-6-M").test)
    counts = [[int(cell) for cell in row.split()[-4:-2]] for row in rows]
    assert sum(map(sum, counts)) == images
    right = sum(counts[k][k] for k in range(len(counts)))
    assert before[0].startswith(f"test accuracy: {100 * right / images:.2f} %")


def test_confusions_of_few_classes_are_a_matrix_and_of_many_a_list():
    few = torch.tensor([[8, 2, 0], [0, 4, 0], [0, 0, 0]])
    assert list(confusion_lines(few, ["cat", "a very long class", "none"]))[1:] == [
        "                     cat  a ve…ass  none    right",
        "  cat                  8         2     0   80.0 %",
        "  a very long class    0         4     0  100.0 %",
    ]
    many = torch.eye(11, dtype=torch.int64) * 9
    many[3, 7], many[0, 1] = 3, 1
    assert list(confusion_lines(many, [f"k{i}" for i in range(11)]))[1:] == [
        "  k3 taken for k7: 3 of 12 (25.0 %)",
        "  k0 taken for k1: 1 of 10 (10.0 %)",
    ]
    assert list(confusion_lines(many.diag().diag(), [f"k{i}" for i in range(11)])) == ["no class is taken for another"]


def test_predict_agrees_with_the_test_split(run, tmp_path, capsys):
    from partialsym.measure import logits
    from partialsym.runs.run import Run

    images = load("digits-6-M").test.images[:3]
    files = []
    for i, image in enumerate(images):
        file = tmp_path / f"{i}.png"
        Image.fromarray((image[0].numpy() * 255).round().astype(np.uint8)).save(file)
        files.append(str(file))
    assert main(["predict", str(run), *files]) == 0
    trained = Run(run).model()
    expected = logits(trained.model, images, trained.preprocess).softmax(1)
    for line, file, p in zip(capsys.readouterr().out.splitlines(), files, expected, strict=True):
        name, found, share = line.split("\t")
        assert name == file
        assert found in trained.classes
        assert float(share) == pytest.approx(float(p.max()), abs=0.02)


def test_sixteen_bits_are_read_as_they_are(run, tmp_path, capsys):
    grey = np.linspace(0, 255, 28 * 28).reshape(28, 28).round()
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "8.png")
    Image.fromarray((grey * 257).astype(np.uint16)).save(tmp_path / "16.png")
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "float.tiff")
    assert main(["predict", str(run), str(tmp_path / "8.png"), str(tmp_path / "16.png")]) == 0
    eight, sixteen = (line.split("\t")[1:] for line in capsys.readouterr().out.splitlines())
    assert eight == sixteen
    assert "has mode F" in refused(capsys, "predict", run, tmp_path / "float.tiff")


@pytest.mark.long
def test_a_full_disk_gets_one_line_and_keeps_the_run(config, tmp_path):
    """Files of that process may not grow beyond 16 kB: the first checkpoint fails as on a full disk."""
    args = ["fit", "--config", str(config), "--out", str(tmp_path)]
    process = context().Process(target=limited, args=(args, 16384, tmp_path / "said"))
    process.start()
    assert ended([process]) == [1]
    said = (tmp_path / "said").read_text()
    assert "Traceback" not in said
    assert "File too large" in said.splitlines()[-1]
    assert not list((tmp_path / "tiny" / "seed0").rglob("*.tmp"))
    assert main([*args, "--resume"]) == 0


def test_version(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"partialsym \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_report(run, tmp_path, capsys, monkeypatch):
    few_angles(monkeypatch)
    assert main(["report", str(run), "--out", str(tmp_path / "page")]) == 0
    assert (tmp_path / "page" / "index.html").is_file()
    assert "index.html" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["fit", "--name", "x", "--modle.group", "E2"], "unknown key 'modle.group': did you mean 'model.group'"),
        (["fit", "--name", "x", "--model.group", "E3"], "model.group is 'E3'"),
        (["fit", "--name", "x", "--training.epochs", "ten"], "training.epochs.*ten"),
        (["fit"], "pass --name"),
        (["fit", "--name", "x", "--config"], "--config needs a file"),
        (["fit", "--name", "x", "--model.group", "T2", "--model.samples", "8"], "samples must be 1, got 8"),
        (["fit", "--config", "missing.yaml"], "missing.yaml: No such file"),
        (["evaluate", "nowhere"], "nowhere is not a run folder"),
        (["evaluate", "nowhere", "--draws", "1"], "draws is 1: must be 0, or at least 2"),
        (["evaluate", "nowhere", "--recalibrate"], "--recalibrate is for drawn elements: pass --draws"),
        (["evaluate", "nowhere", "--split", "tset"], "tset"),
        (["predict", "nowhere", "a.png"], "contains no model"),
        (["report", "nowhere"], "nowhere"),
        (["reproduce", "mnist7"], "unknown table 'mnist7': must be one of .*mnist6"),
        (["reproduce", "mnist6", "--seeds", "0,x"], "seeds is '0,x'"),
        (["reproduce", "mnist6", "--seeds", ""], "seeds is ''"),
        (
            ["reproduce", "mnist6", "--budget", "long"],
            "mnist6 has no budget 'long': must be one of short, medium, paper",
        ),
        (["reproduce", "mnist6", "--rows", "SE3*"], "no row of mnist6 matches 'SE3\\*'"),
        (["reproduce", "mnist6", "--data.root", "nowhere"], "nowhere"),
        (
            ["table", "mnist6", "--results", "nowhere"],
            "nowhere does not exist: pass the folder `results` of a checkout",
        ),
        (["ask", "--data.name", "MNIST6-180", "--margin", "0"], "margin is 0.0: must be more than 0 and less than 100"),
        (["fti"], "fti"),
    ],
)
def test_a_mistake_gets_one_line(args, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.search(message, refused(capsys, *args))
    assert not list(tmp_path.iterdir())


def test_mistakes_in_files_get_one_line(config, run, capsys, tmp_path):
    config.write_text("name: x\nmodel: {gruop: E2}\n")
    assert "unknown key 'model.gruop': did you mean 'model.group'" in refused(capsys, "fit", "--config", config)
    config.write_text("name: [x\n")
    assert "is not YAML" in refused(capsys, "fit", "--config", config)
    config.write_text("- x\n")
    assert "must be a mapping" in refused(capsys, "fit", "--config", config)
    config.write_text(yaml.safe_dump(TINY))
    assert "exists: resume it" in refused(capsys, "fit", "--config", config, "--out", run.parent.parent)
    (tmp_path / "text.png").write_text("no image")
    assert "text.png cannot be read as an image" in refused(capsys, "predict", run, tmp_path / "text.png")
    assert "missing.png does not exist" in refused(capsys, "predict", run, tmp_path / "missing.png")


def test_debug_shows_where_an_error_came_from():
    with pytest.raises(FileNotFoundError):
        main(["evaluate", "nowhere", "--debug"])


def test_ctrl_c_stops_cleanly_and_resume_goes_on(config, tmp_path):
    args = ["fit", "--config", str(config), "--out", str(tmp_path)]
    process = context().Process(target=waiting.run, args=(tmp_path, 1, tmp_path / "said", args))
    process.start()
    try:
        waiting.arrived(tmp_path, [process])
        os.kill(process.pid, signal.SIGINT)
        waiting.let_go(tmp_path)
        process.join(waiting.HANG)
    finally:
        process.kill()
    err = (tmp_path / "said").read_text()
    assert process.exitcode == STOPPED, err
    assert "--resume" in err.splitlines()[-1]
    assert "Traceback" not in err
    folder = tmp_path / "tiny" / "seed0"
    assert (folder / "checkpoints" / "last.ckpt").exists()
    assert not (folder / "result.json").exists()
    assert main([*args, "--resume"]) == 0
    assert json.loads((folder / "result.json").read_text())["epochs"] == 2


@pytest.mark.parametrize("error", [ValueError("shapes differ"), ZeroDivisionError("division by zero")])
def test_a_bug_is_told_from_a_mistake(error, monkeypatch, capsys):
    def broken(options):
        raise error

    monkeypatch.setattr("partialsym.cli.check.run", broken)
    assert main(["check", "runs/x"]) == 70
    told = f"partialsym: this is a bug in partialsym: {type(error).__name__}: {error}. Please report it"
    assert capsys.readouterr().err.startswith(told)
    with pytest.raises(type(error)):
        main(["check", "runs/x", "--debug"])


def test_a_full_gpu_is_no_bug(monkeypatch, capsys):
    def full(options):
        raise torch.OutOfMemoryError("tried to allocate 20 GiB")

    monkeypatch.setattr("partialsym.cli.check.run", full)
    assert main(["check", "runs/x"]) == 70
    assert (
        "out of memory: lower training.batch_size or model.width (tried to allocate 20 GiB)" in capsys.readouterr().err
    )


def test_all_that_a_user_can_put_right_has_one_base():
    for raised, kind in (
        (lambda: ps.group("SO3"), ValueError),
        (lambda: ps.haar(None, 2), TypeError),
        (lambda: ModelConfig("SO3"), ValueError),
    ):
        with pytest.raises(ps.PartialsymError) as found:
            raised()
        assert isinstance(found.value, kind)


def write_images(folder, count=3):
    """Test images in folders of their classes, and the classes."""
    data = load("digits-6-M")
    for label in (0, 1):
        (folder / data.classes[label]).mkdir(parents=True)
        for i, image in enumerate(data.test.images[data.test.labels == label][:count]):
            grey = (image[0].numpy() * 255).round().astype(np.uint8)
            Image.fromarray(grey).save(folder / data.classes[label] / f"{i}.png")
    return data.classes


def test_predict_streams_a_folder_with_the_names_of_its_folders(run, tmp_path, capsys, caplog, monkeypatch):
    monkeypatch.setattr("partialsym.cli.predict.BATCH", 2)  # several batches, the last one not full
    caplog.set_level("INFO")
    classes = write_images(tmp_path / "test", 3)
    (tmp_path / "test" / "notes.txt").write_text("no image")
    (tmp_path / "test" / ".hidden").mkdir()
    Image.new("L", (28, 28)).save(tmp_path / "test" / ".hidden" / "x.png")
    Image.new("L", (28, 28)).save(tmp_path / "test" / "loose.png")
    assert main(["predict", str(run), str(tmp_path / "test")]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert sorted(row["true class"] for row in rows) == sorted([*3 * [classes[0]], *3 * [classes[1]], ""])
    right = [row["class"] == row["true class"] for row in rows if row["true class"]]
    assert f"accuracy: {100 * sum(right) / 6:.1f} % of 6 images in folders of their classes, " in caplog.text
    assert "AUROC" in caplog.text
    assert main(["predict", str(run), str(tmp_path / "test"), "--format", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(one["file"], one["class"], one["true class"]) for one in listed] == [
        (row["file"], row["class"], row["true class"] or None) for row in rows
    ]


def test_a_file_of_a_folder_that_cannot_be_read_is_left_out_and_named(run, tmp_path, capsys, caplog):
    write_images(tmp_path / "test", 2)
    bad = next((tmp_path / "test").iterdir()) / "0.png"
    bad.write_bytes(b"no image")
    assert main(["predict", str(run), str(tmp_path / "test")]) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1 + 3
    assert "1 of 4 files were left out" in said.err
    assert str(bad) in caplog.text
    (tmp_path / "empty").mkdir()
    assert "contains no image files" in refused(capsys, "predict", run, tmp_path / "empty")
