"""Evaluate a trained network: accuracy on validation and test images, and learned subsets."""

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_auroc, multiclass_calibration_error

from partialsym.component_choice import choose_components
from partialsym.config import DataConfig, Experiment
from partialsym.config.data import PAIRED
from partialsym.data import Dataset, Preprocessing, Split, in_turn, trained_on
from partialsym.data.sources.folder import imbalance
from partialsym.export.conversion import kept
from partialsym.inference import on_elements
from partialsym.measure import (
    ANGLES,
    BATCH,
    accuracy,
    copy_gap,
    learned_subsets,
    logits,
    measured_range,
    response,
    sampled_accuracies,
    turned_logits,
)
from partialsym.runs.schema import packed

log = logging.getLogger(__name__)
DRAWS, SAMPLED = 4, 5000  # of the sampled accuracy: number of passes, and largest number of test images
CHOOSING = 1000  # largest number of validation images to choose components with


def evaluation(config: Experiment, model: nn.Module, data: Dataset, draws: int = DRAWS) -> dict[str, Any]:
    """Accuracies (sampled ones from `draws` passes), learned subsets and responses of a trained model, on its device.

    The test split is used only here, once, and nothing is chosen by it.
    """
    preprocess = Preprocessing(data.mean, data.std)
    log.info("evaluation of %d validation and %d test images", len(data.validation), len(data.test))
    answers = logits(model, data.test.images, preprocess)
    validation = accuracy(logits(model, data.validation.images, preprocess), data.validation.labels)
    test = accuracy(answers, data.test.labels)
    of_some: slice | Tensor = slice(SAMPLED)
    if config.data.source != "named":  # folders list theirs class by class
        of_some = in_turn(data.test.labels, SAMPLED).sort().values
    some = data.test[of_some]
    log.info("evaluation of %d test images, in %d passes with drawn elements", len(some), draws)
    found: dict[str, Any] = {
        "accuracy": {
            "validation": validation,
            "test": test,
            **_by_elements(config, model, data, test),
            "test_sampled": sampled_accuracies(model, some, preprocess, draws, config.seed),
            "test_unsampled": accuracy(answers[of_some], some.labels),  # on the same images
        },
        "scores": scores(answers, data.test.labels),
        "correct": packed((answers.argmax(1) == data.test.labels).tolist()),
        "data": data.name,
        "images": {
            "train": len(trained_on(data)),
            "validation": len(data.validation),
            "test": len(data.test),
            "test_sampled": len(some),
        },
        "imbalance": imbalance(data),
        "subsets": learned_subsets(model),
    }
    if data.probe is not None:
        log.info("evaluation of %d images turned by %d angles", len(data.probe), len(ANGLES))
        found["turned"] = _turned(model, data.probe, preprocess)
    if config.data.source != "named":
        return found
    if data.name.endswith(PAIRED):
        found["copy_gap"] = copy_gap(model, data.test, preprocess)
    if data.name.endswith("-180"):
        found["response"] = response(model, data.test.images[data.test.labels == 0], preprocess)
    return found


def choose(config: Experiment, model: nn.Module, data: Dataset) -> dict[str, Any] | None:
    """Choose the components that the network retains in eval mode, by validation images: see `choose_components`.

    Return its result as a dict. BatchNorm is recalibrated on the run's recalibration images.
    """
    preprocess, device = Preprocessing(data.mean, data.std), next(model.parameters()).device

    def batches() -> Iterator[Tensor]:
        yield from (batch.to(device) for batch in calibration(config, data, preprocess))

    def validation() -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(data.validation), generator=torch.Generator().manual_seed(config.seed))
        some = data.validation[order[:CHOOSING].sort().values]  # folders are in the order of their classes
        for images, labels in zip(some.images.split(BATCH), some.labels.split(BATCH), strict=True):
            yield preprocess(images.to(device)), labels

    choice = choose_components(model, batches(), validation(), seed=config.seed)
    return None if choice is None else choice._asdict()


def images_evaluated(config: DataConfig, data: Dataset, draws: int = DRAWS) -> int:
    """The largest number of images that `evaluation` passes through a model, without validation and recalibration."""
    test = len(data.test)
    paired = config.source == "named" and data.name.endswith(PAIRED)
    probed = 0 if data.probe is None else len(data.probe) * 4 * len(ANGLES)
    return 2 * test + draws * min(test, SAMPLED) + paired * (1 + len(ANGLES)) * test + probed


def _turned(model: nn.Module, probe: Split, preprocess: Preprocessing) -> dict[str, Any]:
    """Accuracy on images in a known position as they turn, and the measured range in degrees."""
    answers = turned_logits(model, probe.images, preprocess, ANGLES)
    return {
        "range": measured_range(model, probe, preprocess),
        "angles": list(ANGLES),
        "accuracy": [accuracy(one, probe.labels) for one in answers],
        "images": len(probe),
    }


def scores(answers: Tensor, labels: Tensor) -> dict[str, float | None]:
    """Of answers (logits) [N, classes] to images with labels [N], each in [0, 1].

    `balanced_accuracy`, the mean over the classes there are of the share that is right; `auroc`, one class against the
    rest, the mean over the classes (None where some class has no image); `calibration_error`, the mean over 15 bins of
    confidence of |accuracy − confidence|, weighted by their images (Guo et al. 2017).
    """
    classes = answers.shape[1]
    p = answers.softmax(1)
    right = p.argmax(1) == labels
    there = labels.bincount(minlength=classes)
    shares = torch.bincount(labels, right.double(), minlength=classes)[there > 0] / there[there > 0]
    auroc = multiclass_auroc(p, labels, classes) if bool((there > 0).all()) else None
    return {
        "balanced_accuracy": float(shares.mean()),
        "auroc": None if auroc is None else float(auroc),
        "calibration_error": float(multiclass_calibration_error(p, labels, classes, n_bins=15)),
    }


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
