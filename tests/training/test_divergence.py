"""Training that goes astray is found in the step, named, and left out or stopped; what was saved stays good."""

from dataclasses import replace

import pytest
import torch
from faults import SMALL
from training import run, same, weights

from partialsym.config import ConfigError, Experiment, ModelConfig, TrainingConfig
from partialsym.runs.verify import examine
from partialsym.signal import Signal
from partialsym.training.callbacks.divergence import Diverged, first_astray, growths
from partialsym.training.fit import build_model, run_folder
from partialsym.training.module import ClassifierModule

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

STOP = replace(SMALL, training=replace(SMALL.training, batch_size=64))  # 3 steps an epoch
SKIP = replace(STOP, training=replace(STOP.training, diverged="skip"))


def spoil(monkeypatch, step, how):
    """Let `how` act on module, images and labels at the start of a step."""
    inner = ClassifierModule.training_step

    def training_step(self, batch, index):
        if self.global_step == step:
            batch = how(self.model, *batch)
        return inner(self, batch, index)

    monkeypatch.setattr(ClassifierModule, "training_step", training_step)


def nan(model, images, labels):
    return images.mul_(torch.nan), labels


@pytest.fixture
def hooks():
    """Hooks to be removed when the test ends."""
    held = []
    yield held
    for hook in held:
        hook.remove()


def test_training_stops_with_the_step_the_layer_and_the_last_good_checkpoint(tmp_path, monkeypatch, hooks):
    def overflow(model, images, labels):
        layer = model.block1.conv2
        hooks.append(layer.register_forward_hook(lambda m, i, out: Signal(out.values * torch.inf, out.elements)))
        return images, labels

    spoil(monkeypatch, 4, overflow)
    message = (
        r"diverged at step 4 \(epoch 2\): the loss is nan, beginning with block1\.conv2\. The previous checkpoint "
        r"still exists: .* or continue with `fit --resume --training\.diverged skip`\."
    )
    with pytest.raises(Diverged, match=message):
        run(tmp_path, STOP)
    held = run_folder(STOP, tmp_path)
    assert torch.load(held.checkpoint, weights_only=True)["global_step"] == 3
    assert not held.finished
    assert examine(held).faults == []


def test_a_step_that_is_skipped_is_as_if_its_batch_had_not_been(tmp_path, monkeypatch):
    """Parameters, moments and statistics stay; the schedule goes on, and the result counts the step."""
    seen = []
    inner = ClassifierModule.on_train_batch_end

    def state(fit):
        moments = [v.clone() for entry in fit.optimizers().state.values() for v in entry.values()]
        return [value.clone() for value in fit.model.state_dict().values()] + moments

    def look(self, *args):
        seen.append((state(self), self.optimizers().param_groups[0]["lr"]))
        return inner(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(ClassifierModule, "on_train_batch_end", look)
        spoil(patch, 4, nan)
        done = run(tmp_path, SKIP)
    temperature = {i for i, name in enumerate(done.model().model.state_dict()) if "temperature" in name}
    before, after = seen[3], seen[4]
    for i, (a, b) in enumerate(zip(before[0], after[0], strict=True)):
        assert torch.equal(a, b) or i in temperature
    assert after[1] < before[1]
    assert done.result()["diverged"] == 1
    assert len(seen) == 6
    assert all(row["train_loss"] < 10 for row in done.history())
    assert examine(done).faults == []


@pytest.mark.long
def test_a_stopped_run_may_go_on_skipping_and_the_count_survives_another_resume(tmp_path, monkeypatch):
    spoil(monkeypatch, 4, nan)
    with pytest.raises(Diverged, match=r"at step 4 .*: the loss is nan, beginning with the images"):
        run(tmp_path, STOP)
    with monkeypatch.context() as patch:
        patch.setattr("partialsym.training.fit.save_model", lambda *args, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tmp_path, SKIP, resume=True)
    done = run(tmp_path, SKIP, resume=True)
    assert done.result()["diverged"] == 1
    assert examine(done).faults == []


@pytest.mark.long
def test_what_never_diverges_is_the_same_under_both(tmp_path):
    both = [
        replace(like, name=like.training.diverged, training=replace(like.training, epochs=1)) for like in (STOP, SKIP)
    ]
    stop, skip = (run(tmp_path, like) for like in both)
    assert [one.result()["diverged"] for one in (stop, skip)] == [0, 0]
    assert same(weights(stop), weights(skip))


def test_an_exploding_kernel_is_named_before_it_is_saved(tmp_path, monkeypatch):
    """Normalisation hides its scale: the loss is finite."""

    def blow_up(model, images, labels):
        model.block2.conv1.kernel.linear.weight.data *= 1e6
        return images, labels

    spoil(monkeypatch, 4, blow_up)
    message = r"at step 6 \(epoch 2\): the kernel of block2\.conv1 has .*e\+0\d times the norm it started with"
    with pytest.raises(Diverged, match=message):
        run(tmp_path, SKIP)
    assert torch.load(run_folder(STOP, tmp_path).checkpoint, weights_only=True)["global_step"] == 3


def test_a_gradient_that_is_not_finite_is_found_where_it_begins(tmp_path, monkeypatch, hooks):
    def cut(model, images, labels):
        hooks.append(model.block2.conv1.bias.register_hook(lambda gradient: gradient * torch.nan))
        return images, labels

    spoil(monkeypatch, 2, cut)
    with pytest.raises(
        Diverged, match=r"at step 2 \(epoch 1\): .*not the gradient, beginning with block2\.conv1\.bias"
    ):
        run(tmp_path, STOP)


def test_a_penalty_that_is_not_finite_is_told_from_the_layers(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "partialsym.regularization.kernel_norm", lambda model: next(model.parameters()).sum() * torch.nan
    )
    with pytest.raises(Diverged, match=r"at step 0 \(epoch 1\): the loss is nan, beginning with the penalties"):
        run(tmp_path, replace(STOP, training=replace(STOP.training, kernel_norm=1e-3)))


def test_skipping_everything_is_no_training(tmp_path, monkeypatch):
    for step in range(3):
        spoil(monkeypatch, step, nan)
    with pytest.raises(Diverged, match=r"at step 3 \(epoch 1\): no loss of the epoch is finite"):
        run(tmp_path, SKIP)


@pytest.mark.parametrize("network", ["ResNet", "CNN13"])
def test_every_kernel_starts_at_one_and_a_sound_network_is_nowhere_astray(network):
    model = build_model(ModelConfig("E2", samples=4, width=2, hidden=4, kernel_size=3, network=network), 1, 2)
    found = growths(model)
    assert len(found) > 5
    assert all(0.5 < value < 2 for value in found.values())
    assert first_astray(model, torch.randn(2, 1, 28, 28)) is None


def test_the_first_of_several_is_named():
    model = build_model(STOP.model, 1, 2)
    for layer in (model.block2.conv2, model.block1.conv1):
        layer.bias.data[0] = torch.nan
    assert first_astray(model, torch.randn(2, 1, 28, 28)) == "block1.conv1"
    assert first_astray(model, torch.full((2, 1, 28, 28), torch.inf)) == "the images"


def test_the_setting_is_checked():
    with pytest.raises(ConfigError, match=r"training\.diverged.*ignore"):
        Experiment.from_dict({"name": "x", "training": {"diverged": "ignore"}})
    assert TrainingConfig().diverged == "stop"
