"""How well a trained network does, on validation and test images, and what it has learned."""

from typing import Any

import torch
from torch import Tensor, nn

from partialsym.config import Experiment
from partialsym.data import Dataset
from partialsym.freezing import kept
from partialsym.inference import on_elements
from partialsym.measure import (
    Preprocessing,
    accuracy,
    copy_gap,
    learned_subsets,
    logits,
    response,
    sampled_accuracies,
)

DRAWS, SAMPLED = 4, 5000  # of the sampled accuracy: passes, and test images at most


def evaluation(config: Experiment, model: nn.Module, data: Dataset) -> dict[str, Any]:
    """Accuracies, learned subsets and responses of a trained model, on its device.

    The test split is looked at here, once, and chooses nothing.
    """
    preprocess = Preprocessing(data.mean, data.std)
    validation, test = (
        accuracy(logits(model, split.images, preprocess), split.labels) for split in (data.validation, data.test)
    )
    some = data.test[:SAMPLED]
    found: dict[str, Any] = {
        "accuracy": {
            "validation": validation,
            "test": test,
            **_by_elements(config, model, data, test),
            "test_sampled": sampled_accuracies(model, some, preprocess, DRAWS, config.seed),
        },
        "data": data.name,
        "images": {
            "train": len(data.train),
            "validation": len(data.validation),
            "test": len(data.test),
            "test_sampled": len(some),
        },
        "subsets": learned_subsets(model),
    }
    if data.name.endswith(("-180", "-M")):
        found["copy_gap"] = copy_gap(model, data.test, preprocess)
    if data.name.endswith("-180"):
        found["response"] = response(model, data.test.images[data.test.labels == 0], preprocess)
    return found


def calibration(config: Experiment, data: Dataset, preprocess: Preprocessing) -> tuple[Tensor, ...]:
    """The training images that BatchNorm statistics are recomputed on, in batches: the same for a run, always."""
    chosen = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(config.seed))
    chosen = chosen[: config.training.recalibration_images]
    return preprocess(data.train.images[chosen]).split(config.training.batch_size)


def _by_elements(config: Experiment, model: nn.Module, data: Dataset, test: float) -> dict[str, float]:
    """Test accuracy on all n elements of every layer, and on ⌈nθ⌉; one of them is `test`, that of the model as is."""
    preprocess = Preprocessing(data.mean, data.std)
    device = next(model.parameters()).device
    batches = [batch.to(device) for batch in calibration(config, data, preprocess)]
    before, found = kept(model), {}
    for name, proportional in (("test_all_elements", False), ("test_proportional", True)):
        with on_elements(model, proportional, batches):
            same = kept(model) == before  # the same elements: the same answers
            found[name] = test if same else accuracy(logits(model, data.test.images, preprocess), data.test.labels)
    return found
