"""A tiny experiment on the embedded digits, and how tests run it."""

from functools import partial
from unittest.mock import patch

import torch

from partialsym.component_choice import choose_components
from partialsym.config import DataConfig, Experiment, ModelConfig, TrainingConfig
from partialsym.training.fit import train

TINY = Experiment(
    "tiny",
    data=DataConfig("digits-6-M"),
    model=ModelConfig("E2", samples=4, width=2, hidden=4, kernel_size=3, pools=("lifting", "block1", "block2")),
    training=TrainingConfig(epochs=3, batch_size=64, density_lr=1e-2, recalibration_images=64),
)


def run(tmp_path, config=TINY, **options):
    """With 4 draws where components are chosen instead of 32, which take a fifth of so short a training."""
    few = partial(choose_components, draws=4)
    with patch("partialsym.training.evaluation.choose_components", few):
        return train(config, tmp_path, **{"progress": False, **options})


def weights(run):
    return run.model().model.state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
