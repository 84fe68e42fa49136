"""The epochs that a time pays for: by a clock that the test sets."""

import pytest

from partialsym.config import ConfigError, Experiment
from partialsym.training import budget

TINY = {
    "name": "tiny",
    "data": {"name": "digits-6-M"},
    "model": {"group": "SE2", "samples": 4, "width": 2, "kernel_size": 3, "pools": ["lifting"]},
    "training": {"batch_size": 32, "recalibration_images": 64},
}


@pytest.fixture
def config(monkeypatch):
    """Steps of 2 s, and passes in eval mode of 1 s for a batch, after each was run once."""

    def interleaved(*steps, pairs):
        for step in steps:
            step()
        return [(2.0, 1.0)] * (pairs - 1) + [(90.0, 90.0)]  # the machine was busy once

    monkeypatch.setattr(budget, "interleaved", interleaved)
    return Experiment.from_dict(TINY)


def of_epoch(config):
    data = budget.load_data(config.data)
    train, validation = len(budget.trained_on(data)), len(data.validation)
    return -(-train // 32) * 2.0 + (validation + 64) / 32 * 1.0


def test_it_is_what_fits(config):
    one = of_epoch(config)
    for epochs in (1, 7):
        assert budget.epochs_within(config, 1.001 * epochs * one / budget.SHARE) == epochs
        assert budget.epochs_within(config, 0.999 * (epochs + 1) * one / budget.SHARE) == epochs


def test_less_than_an_epoch_is_refused_with_what_would_do(config):
    with pytest.raises(ConfigError, match=r"budget is 1 s: an epoch of .* Pass at least --budget (\d+)s") as error:
        budget.epochs_within(config, 1.0)
    needed = float(str(error.value).split("--budget ")[1].split("s")[0])
    assert budget.epochs_within(config, needed) == 1
