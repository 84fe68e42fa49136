"""Stopping and going on: killed runs, full disks, the best epoch."""

import errno
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import few
from training import TINY, run, same, weights

from partialsym.config import ConfigError
from partialsym.training.fit import run_folder
from partialsym.training.module import ClassifierModule

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class Killed(Exception):
    pass


def kill_at(monkeypatch, step):
    """Let training die at the start of a step."""
    inner = ClassifierModule.training_step

    def training_step(self, batch, index):
        if self.global_step == step:
            raise Killed
        return inner(self, batch, index)

    monkeypatch.setattr(ClassifierModule, "training_step", training_step)


FEW = replace(  # a part of the images, several times an epoch, cropped at random, under Augerino
    TINY,
    data=replace(TINY.data, train_images=70, augment=("crop", "flip")),
    model=replace(TINY.model, group="T2", samples=1, augerino="SE2", copies=2),
    training=replace(TINY.training, repeats=3),
)


@pytest.mark.parametrize(("like", "step"), few([(TINY, 2), (TINY, 3), (TINY, 5), (TINY, 8), (FEW, 4)], (FEW, 4)))
def test_a_run_that_died_and_was_resumed_ends_with_the_same_weights(tmp_path, monkeypatch, like, step):
    whole, begun = run(tmp_path, replace(like, name="whole")), time.monotonic()
    kill_at(monkeypatch, step)
    config = replace(like, name="died")
    with pytest.raises(Killed):
        run(tmp_path, config)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"exists: resume it \(--resume\)"):
        run(tmp_path, config)
    resumed = run(tmp_path, config, resume=True)
    assert same(weights(whole), weights(resumed))
    assert whole.history() == resumed.history()
    checkpoint = torch.load(resumed.checkpoint, weights_only=True)["partialsym"]
    rounded = 0.05
    assert checkpoint["seconds"] - rounded <= resumed.result()["seconds"] <= time.monotonic() - begun + rounded
    assert 0 < checkpoint["waited"] < checkpoint["waited"] + checkpoint["stepped"] < checkpoint["seconds"]
    before = (resumed.folder / "result.json").read_text()
    assert (run(tmp_path, config, resume=True).folder / "result.json").read_text() == before


def test_another_config_cannot_resume(tmp_path):
    run_folder(TINY, tmp_path).begin(TINY)
    changed = replace(TINY, training=replace(TINY.training, lr=2e-3))
    with pytest.raises(ConfigError, match=r"training.lr = 0.001, but this run has 0.002: cannot resume"):
        run(tmp_path, changed, resume=True)


@pytest.mark.long
def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path, monkeypatch):
    saves = 0
    write = Path.write_bytes

    def full(path, data):
        nonlocal saves
        saves += 1
        write(path, bytes(data)[: 1000 if saves == 2 else None])
        if saves == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path)
    monkeypatch.undo()
    folder = tmp_path / "tiny" / "seed0" / "checkpoints"
    assert [f.name for f in folder.iterdir()] == ["last.ckpt"]
    assert torch.load(folder / "last.ckpt", weights_only=True)["epoch"] == 0
    assert run(tmp_path, resume=True).finished


@pytest.mark.long
def test_best_survives_a_resume(tmp_path, monkeypatch):
    """The best epoch lies before the kill, and later ones are worse: the resumed run still knows it."""
    config = replace(TINY, training=replace(TINY.training, select="best", epochs=4))
    forced = {1: 0.5, 2: 0.9, 3: 0.7, 4: 0.6}
    inner = ClassifierModule.log

    def log(self, name, value, **options):
        inner(self, name, forced[self.current_epoch + 1] if name == "validation_accuracy" else value, **options)

    monkeypatch.setattr(ClassifierModule, "log", log)
    whole = run(tmp_path, replace(config, name="whole"))
    with monkeypatch.context() as patch:
        kill_at(patch, 7)
        with pytest.raises(Killed):
            run(tmp_path, replace(config, name="died"))
    resumed = run(tmp_path, replace(config, name="died"), resume=True)
    assert same(weights(whole), weights(resumed))
    saved = torch.load(whole.folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert saved["epoch"] == 1
    assert torch.equal(saved["state_dict"]["model.classifier.weight"], weights(resumed)["classifier.weight"])


def test_a_checkpoint_from_before_the_loader_was_timed_is_read():
    fit = ClassifierModule(torch.nn.Linear(1, 2), TINY.training, (), 2)
    fit.on_load_checkpoint({"partialsym": {"history": [], "seconds": 3.0, "cpu": torch.get_rng_state(), "cuda": None}})
    assert fit.loader_share == 0
    assert fit.seconds >= 3
