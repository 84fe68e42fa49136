"""`partialsym check`: what is altered, missing or contradictory in a run folder is named."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from partialsym.cli.main import main
from partialsym.config import Experiment
from partialsym.runs.lock import locked
from partialsym.runs.run import Run

OTHER = Experiment("finished").to_dict()
FIXTURE = max((Path(__file__).parents[1] / "fixtures").glob("format-*"))


@pytest.fixture
def run(tmp_path):
    """A finished run."""
    return Run(shutil.copytree(FIXTURE / "finished" / "seed0", tmp_path / "seed0"))


@pytest.fixture
def stopped(tmp_path):
    """One that is not."""
    return Run(shutil.copytree(FIXTURE / "stopped" / "seed0", tmp_path / "seed0"))


def without_manifest(run):
    """Then only what the files say can tell."""
    (run.folder / "manifest.json").unlink()


def rewrite(run, **changes):
    path = run.folder / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def check(run, capsys):
    """Exit status, standard output, standard error."""
    status = main(["check", str(run.folder)])
    return status, *capsys.readouterr()


def test_a_sound_run_is_said_to_be(run, capsys):
    status, out, err = check(run, capsys)
    assert (status, err) == (0, "")
    held = len(run.manifest())
    assert f"{held} files are unchanged" in out
    assert "finished: 3 epochs, test accuracy" in out
    assert out.endswith("is consistent\n")
    assert set(run.hashes()) == {
        file.relative_to(run.folder).as_posix() for file in run.folder.rglob("*") if file.is_file()
    } - {"manifest.json"}


def test_every_file_is_watched(run, capsys):
    """One bit of any of them is noticed, and so is its absence."""
    for name in run.manifest():
        path = run.folder / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        status, _, err = check(run, capsys)
        assert status == 1, name
        assert "Traceback" not in err
        assert f"  {name} was changed: its sha256" in err or name == "config.yaml"  # this one is no YAML then
        path.unlink()
        if name == "result.json":  # as of a run that was killed just before its end
            assert "not finished, --resume continues it" in check(run, capsys)[1]
        else:
            status, _, err = check(run, capsys)
            assert status == 1, name
            assert f"  {name} is missing" in err or "is not a run folder" in err
        path.write_bytes(whole)
    assert check(run, capsys)[0] == 0


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda run: rewrite(run, epochs=2), "result.json has 2 epochs, but config.yaml has 3"),
        (lambda run: rewrite(run, history=[]), "metrics.csv and the history in result.json differ"),
        (lambda run: rewrite(run, format=7), "result.json has format version 7"),
        (
            lambda run: rewrite(run, config=OTHER),
            "config.yaml has data.name = 'digits-6-180', but result",
        ),
        (lambda run: run.checkpoint.write_bytes(b"PK"), "last.ckpt is damaged"),
        (lambda run: (run.folder / "metrics.csv").write_text("epoch\nx\n"), "could not convert string to float"),
        (lambda run: (run.folder / "model" / "model.json").unlink(), "model contains no model"),
        (lambda run: other_weights(run), "the weights in model/ differ from those of the checkpoint"),
    ],
)
def test_without_a_manifest_files_are_compared_with_each_other(run, capsys, harm, message):
    without_manifest(run)
    assert check(run, capsys)[0] == 0
    harm(run)
    status, _, err = check(run, capsys)
    assert status == 1
    assert message in err


def test_a_run_that_was_resumed_elsewhere_is_sound(run, capsys):
    without_manifest(run)
    config = run.result()["config"]
    rewrite(run, config=config | {"trainer": {**config.get("trainer", {}), "devices": 2}})
    assert check(run, capsys)[0] == 0


def other_weights(run):
    checkpoint = torch.load(run.checkpoint, weights_only=True)
    checkpoint["state_dict"]["model.classifier.bias"][0] += 1e-6
    torch.save(checkpoint, run.checkpoint)


def test_what_was_added_is_no_fault(run, capsys):
    (run.folder / "notes.txt").write_text("mine")
    status, out, _ = check(run, capsys)
    assert status == 0
    assert "notes.txt was added after the run" in out


def test_a_run_that_was_renamed_to_another_seed_is_noticed(run, capsys):
    moved = Run(run.folder.rename(run.folder.with_name("seed1")))
    status, _, err = check(moved, capsys)
    assert status == 1
    assert "config.yaml has seed 0, but the folder is called seed1" in err


def test_an_unfinished_run(stopped, capsys):
    (stopped.folder / "checkpoints" / ".last.ckpt.x.tmp").write_bytes(b"half")
    status, out, _ = check(stopped, capsys)
    assert status == 0
    assert "not finished, --resume continues it: 1 of 3 epochs are saved" in out
    assert "1 half-written file(s) of a process that was killed" in out
    with locked(stopped.folder):
        assert "in training: 1 of 3 epochs" in check(stopped, capsys)[1]
    (stopped.folder / "metrics.csv").write_text("epoch\n7\n")
    status, _, err = check(stopped, capsys)
    assert status == 1
    assert "metrics.csv and the history in checkpoints/last.ckpt differ" in err


def test_what_is_no_run_is_said_to_be_none(tmp_path, capsys):
    status, out, err = check(Run(tmp_path), capsys)
    assert (status, out) == (1, "")
    assert "is not a run folder: there is no config.yaml in it" in err
