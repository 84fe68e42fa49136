"""Training in float16 with a scaled loss: a step that the scaler leaves out is no divergence.

On the processor, where neither Lightning nor a config offers it: the trainer is given the plugin.
"""

from dataclasses import replace

import pytest
import torch
from faults import SMALL
from lightning.pytorch.plugins import MixedPrecision
from training import run

from partialsym.runs.run import Run
from partialsym.training import fit as fitting
from partialsym.training.callbacks.divergence import Diverged
from partialsym.training.module import ClassifierModule

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
STOP = replace(SMALL, training=replace(SMALL.training, batch_size=64))  # 3 steps an epoch
SKIP = replace(STOP, training=replace(STOP.training, diverged="skip"))


@pytest.fixture
def scaled(monkeypatch):
    """A function that has trainings start at a scale of the loss; it returns the scales, one a step, as they go on."""

    def start_at(scale):
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        scales, inner, end = [], fitting.trainer_of, ClassifierModule.on_train_batch_end

        def trainer_of(*args, **options):
            made = inner(*args, **options)
            made.strategy.precision_plugin = MixedPrecision("16-mixed", "cpu", scaler)
            return made

        def on_train_batch_end(self, *args):
            scales.append(scaler.get_scale())
            end(self, *args)

        monkeypatch.setattr(fitting, "trainer_of", trainer_of)
        monkeypatch.setattr(ClassifierModule, "on_train_batch_end", on_train_batch_end)
        return scales

    return start_at


@pytest.mark.parametrize("config", [STOP, SKIP])
def test_a_step_that_the_scaler_leaves_out_is_neither_an_end_nor_counted(config, scaled, tmp_path):
    scales = scaled(2.0**40)
    done = run(tmp_path, config)
    assert scales[0] == 2.0**39  # the first step was left out
    assert done.result()["diverged"] == 0
    assert all(value == value for row in done.history() for value in row.values())


def test_a_scale_below_one_is_no_excuse(scaled, tmp_path, monkeypatch):
    """The negative control: the gradient itself is not finite."""
    scaled(0.5)
    inner = ClassifierModule.training_step

    def training_step(self, batch, index):
        loss = inner(self, batch, index)
        return loss + (self.model.classifier.weight * 0).sum().sqrt()  # 0, with an infinite gradient

    monkeypatch.setattr(ClassifierModule, "training_step", training_step)
    with pytest.raises(Diverged, match="the loss is finite, but not the gradient"):
        run(tmp_path, STOP)


def test_a_loss_that_is_not_finite_is_a_divergence_at_any_scale(scaled, tmp_path, monkeypatch):
    scaled(1024.0)
    inner = ClassifierModule.training_step
    monkeypatch.setattr(
        ClassifierModule, "training_step", lambda self, batch, index: inner(self, batch, index) * torch.inf
    )
    with pytest.raises(Diverged, match="the loss is inf"):
        run(tmp_path, STOP)


def test_the_scale_is_kept_by_a_checkpoint(scaled, tmp_path):
    scales = scaled(2.0**40)
    done = run(tmp_path, STOP)
    held = torch.load(Run(done.folder).checkpoint, weights_only=True)["MixedPrecision"]
    assert held["scale"] == scales[-1]
