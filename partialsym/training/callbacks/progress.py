"""The progress bar."""

from collections.abc import Callable
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar

from partialsym.measure import learned_subsets
from partialsym.training.module import ClassifierModule

EVERY = 20  # steps between two updates of the values


class WatchCallback(Callback):
    """Tells after every step how many there were, and how many there are."""

    def __init__(self, watch: Callable[[int, int], object]) -> None:
        self.watch = watch

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        self.watch(trainer.global_step, int(trainer.estimated_stepping_batches))


class ProgressBar(TQDMProgressBar):
    """Show the loss, accuracies in percent and the learned subsets of all layers.

    They are updated at every EVERY-th step and the last one of an epoch, because reading them synchronises with the
    GPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shown: dict[str, Any] = {}

    def get_metrics(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> dict[str, Any]:
        assert isinstance(pl_module, ClassifierModule)
        if not self.shown or trainer.is_last_batch or trainer.global_step % EVERY == 0:
            self.shown = self._read(trainer, pl_module)
        return self.shown

    def _read(self, trainer: lightning.Trainer, pl_module: ClassifierModule) -> dict[str, Any]:
        shown: dict[str, Any] = {"loss": f"{float(trainer.callback_metrics.get('loss', torch.nan)):.3f}"}
        if pl_module.history:
            last = pl_module.history[-1]
            kinds = (("train", "train_accuracy"), ("val", "validation_accuracy"))
            shown |= {name: f"{100 * last[key]:.1f}%" for name, key in kinds}
        subsets = learned_subsets(pl_module.model)
        if any("theta_deg" in subset for subset in subsets):
            shown["θ"] = " ".join(f"{s['theta_deg']:.0f}°" for s in subsets if "theta_deg" in s)
        if any("centre_deg" in subset for subset in subsets):
            shown["centre"] = " ".join(f"{s['centre_deg']:.0f}°" for s in subsets if "centre_deg" in s)
        least = [min((v for k, v in subset.items() if k.startswith("P(")), default=1.0) for subset in subsets]
        if min(least) < 1:
            shown["least P"] = " ".join(f"{p:.2f}" for p in least)
        return shown
