"""The Lightning module that trains a classifier, with its objective and its learning-rate schedule."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import LRSchedulerConfigType, OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from partialsym import regularization
from partialsym._utils.precision import full_precision
from partialsym._utils.seeding import seeded
from partialsym.config import TrainingConfig
from partialsym.densities import one_theta, parameter_groups, set_temperature
from partialsym.inference import recalibrate
from partialsym.measure import learned_subsets
from partialsym.runs.checkpoints import FORMAT
from partialsym.training.compile import compiled


class ClassifierModule(lightning.LightningModule):
    """Trains a classifier with cross-entropy and the penalties of a TrainingConfig.

    It also sets the temperature of the densities in each step, recalibrates BatchNorm before each validation, and
    records the history, with one row per epoch.

    Args:
        model: images [batch, channels, height, width] → logits [batch, classes].
        config: the settings of the training.
        recalibration: batches of normalised training images on which BatchNorm statistics are recomputed.
        num_classes: number of classes.
        weights: weights of the classes in the training loss, [num_classes]; None weights all equally.
    """

    weights: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        recalibration: tuple[Tensor, ...],
        num_classes: int,
        weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("weights", weights, persistent=False)
        self.model, self.config, self.recalibration = model, config, recalibration
        self.history: list[dict[str, float]] = []
        self.rng: dict[str, Any] | None = None
        self.earlier, self.started = 0.0, time.monotonic()  # seconds before the last resumption; its time
        self.waited, self.stepped, self.mark = 0.0, 0.0, time.perf_counter()  # seconds between and in steps; last mark
        self.train_loss, self.validation_loss = Mean(), MeanMetric()
        self.train_accuracy, self.validation_accuracy = (
            MulticlassAccuracy(num_classes, average="micro", validate_args=False) for _ in range(2)
        )
        for metric in (self.train_loss, self.train_accuracy):
            metric.persistent(True)  # a checkpoint within an epoch needs their state

    @property
    def seconds(self) -> float:
        """The training time so far, in seconds, over all resumptions."""
        return self.earlier + time.monotonic() - self.started

    @property
    def loader_share(self) -> float:
        """The share, in [0, 1), of the training time that passes between steps, over all resumptions.

        In this time the loader makes batches, and Lightning works before and after a step. Validation does not count.
        The time is measured on the CPU, even if the CPU only feeds a GPU.
        """
        return self.waited / max(self.waited + self.stepped, 1e-9)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        config = self.config
        groups = parameter_groups(self.model, lr=config.lr, density_lr=config.density_lr or config.lr)
        optimizer = torch.optim.Adam(groups)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = schedule(optimizer, self.config, steps)
        return {"optimizer": optimizer, "lr_scheduler": LRSchedulerConfigType(scheduler=scheduler, interval="step")}

    def on_fit_start(self) -> None:
        steps = int(self.trainer.estimated_stepping_batches)
        alone = self.trainer.world_size == 1  # a step that communicates cannot be compiled
        setting = self.config.compile if alone else "never"
        step = objective(self.model, self.config, self.weights)
        self.objective = compiled(step, setting, steps, self.device.type)

    def on_train_start(self) -> None:
        if self.rng is not None:
            set_random_state(self.rng)
            self.rng = None
        loader = self.trainer.train_dataloader
        assert loader is not None
        loader.sampler.skip = self.global_step % len(loader)  # Lightning does not restore a loader's position
        if self.trainer.global_rank:  # rank 0 restored the sums of all processes
            self.train_loss.reset()
            self.train_accuracy.reset()
        self.mark = time.perf_counter()

    def on_train_epoch_start(self) -> None:
        self.mark = time.perf_counter()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.waited += self._lap()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.stepped += self._lap()

    def _lap(self) -> float:
        before, self.mark = self.mark, time.perf_counter()
        return self.mark - before

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        first, last = self.config.temperature
        done = self.global_step / max(1, int(self.trainer.estimated_stepping_batches) - 1)
        set_temperature(self.model, first + (last - first) * done)
        images, labels = batch
        with self.drawing():
            loss, entropy, scores = self.objective(images, labels)
        self.train_loss.update(entropy, len(labels))
        self.train_accuracy.update(scores, labels)
        self.log("loss", entropy, logger=False)  # Lightning's progress bar would read it at every step
        return loss

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """A context for drawing elements: all processes draw the same, or each draws with its own seed."""
        if self.config.elements == "shared" or self.trainer.world_size == 1:
            yield
            return
        seed = int(torch.randint(2**31, ()))  # every process draws it, so that all generators remain in step
        with seeded(seed + self.trainer.global_rank, [self.device]):
            yield

    def on_validation_epoch_start(self) -> None:
        recalibrate(self.model, (batch.to(self.device) for batch in self.recalibration))

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        images, labels = batch
        with full_precision(self.model):
            scores = self.model(images)
        self.validation_loss.update(F.cross_entropy(scores, labels), len(labels))
        self.validation_accuracy.update(scores, labels)

    def on_train_epoch_end(self) -> None:
        row: dict[str, float] = {"epoch": self.current_epoch + 1, "step": self.global_step}
        for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
            metric: Metric = getattr(self, name)
            row[name] = float(metric.compute())
            metric.reset()
            self.log(name, row[name], sync_dist=True)
        for subset in learned_subsets(self.model):
            read = {f"{subset['layer']}.{k}": v for k, v in subset.items() if k not in ("layer", "group")}
            row |= read
            self.log_dict(read, sync_dist=True)  # all processes have the same values
        self.history.append(row)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name in ("train_loss", "train_accuracy"):
            metric: Metric = getattr(self, name)
            with metric.sync_context():  # the sum over all processes
                checkpoint["state_dict"] |= metric.state_dict(prefix=f"{name}.")
        state = {"format": FORMAT, "history": self.history, "seconds": self.seconds, **random_state()}
        checkpoint["partialsym"] = {**state, "waited": self.waited, "stepped": self.stepped}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.rng = checkpoint["partialsym"]
        self.history, self.earlier = list(self.rng["history"]), self.rng["seconds"]
        self.waited, self.stepped = self.rng.get("waited", 0.0), self.rng.get("stepped", 0.0)


class Mean(MeanMetric):
    """The weighted mean of the finite losses. It reads no value on the CPU, so a step on a GPU need not wait."""

    def update(self, value: Tensor, weight: float) -> None:  # type: ignore[override]
        finite = value.isfinite()
        self.mean_value += torch.where(finite, value.to(self.dtype) * weight, 0.0)
        self.weight += finite * weight


def balanced(labels: Tensor, num_classes: int) -> Tensor:
    """Class weights n / (K n_k), [num_classes], which give every class the same total weight.

    K is the number of classes that occur, n_k the number of labels of class k, and n their sum. The weight of a class
    without labels is 0.
    """
    counts = labels.bincount(minlength=num_classes)
    there = counts > 0
    return torch.where(there, len(labels) / (int(there.sum()) * counts.clamp_min(1)), 0.0)


def objective(
    model: nn.Module, config: TrainingConfig, weights: Tensor | None = None
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    """The function (images, labels) ↦ (cross-entropy plus penalties, cross-entropy, scores).

    The cross-entropy and the scores are detached. With class weights, the cross-entropy is the sum of −weight · log p
    over a batch, divided by its number of images.

    Args:
        model: images → logits [batch, classes].
        config: the weights of the penalties.
        weights: weights of the classes, [classes]; None weights all equally.
    """

    def entropy_of(scores: Tensor, labels: Tensor) -> Tensor:
        if weights is None:
            return F.cross_entropy(scores, labels)
        return F.cross_entropy(scores, labels, weights, reduction="sum") / len(labels)

    def run(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with one_theta(model):
            scores = model(images)
            loss = entropy = entropy_of(scores, labels)
            if config.kernel_norm:
                loss = loss + config.kernel_norm * regularization.kernel_norm(model)
            if config.monotonic:
                loss = loss + config.monotonic * regularization.monotonic(model)
            if config.width:
                loss = loss - config.width * regularization.width(model)
            if config.haar:
                loss = loss + config.haar * regularization.haar_divergence(model)
        return loss, entropy.detach(), scores.detach()

    return run


def schedule(optimizer: torch.optim.Optimizer, config: TrainingConfig, steps: int) -> LRScheduler:
    """The learning-rate schedule over `steps` optimiser steps."""
    if config.schedule == "one-cycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, peaks, total_steps=max(2, steps + 1), cycle_momentum=False)
    warmup = steps * config.warmup_epochs / config.epochs

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if config.schedule == "constant":
            return 1.0
        done = min(1.0, (step - warmup) / max(1.0, steps - warmup))
        return 1e-3 + (1 - 1e-3) * (1 + math.cos(math.pi * done)) / 2

    return LambdaLR(optimizer, factor)


def random_state() -> dict[str, Tensor | None]:
    """The states of the global generators, on the CPU and on the GPU (None without a GPU)."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None}


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the states that `random_state` returned; the state of the GPU is ignored without a GPU."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
