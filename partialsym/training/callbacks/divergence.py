"""Detect diverging training in the step where it happens, and name the layer."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from partialsym._utils.seeding import forked
from partialsym._utils.torch_private import foreach_copy, foreach_norm
from partialsym.errors import InputError
from partialsym.nn.conv import GroupConv
from partialsym.signal import Signal
from partialsym.training.distributed import SyncStatistics
from partialsym.training.module import ClassifierModule, random_state, set_random_state

EXPLODED = 1e4  # times the norm a kernel starts with: even Adam at 1e-2 needs a million steps in one direction
KEPT = "The previous checkpoint still exists: lower training.lr in a new run"


class Diverged(InputError):
    """Training diverged. The message names the step and the layer. The files saved before are unchanged."""


class DivergenceCallback(Callback):
    """Check the loss and the gradient of every step, and the kernels at the end of every epoch, before it is saved.

    In 16-mixed, a gradient that overflows float16 at the current loss scale is not a divergence: the scaler skips the
    step and halves the scale.

    Args:
        skip: skip a step that is not finite, as if its batch did not exist, instead of raising. Schedules continue.
    Raises:
        Diverged: in `fit`.
    """

    def __init__(self, skip: bool) -> None:
        self.skip, self.skipped = skip, 0

    @property
    def state_key(self) -> str:
        return "Guard"  # as in files of format 1

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped = state_dict["skipped"]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.images, self.state = batch[0], random_state()
        if self.skip:
            self.buffers = copies(list(pl_module.buffers()))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self.loss = loss.detach()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        assert isinstance(pl_module, ClassifierModule)
        gradients = {name: p.grad for name, p in pl_module.model.named_parameters() if p.grad is not None}
        largest = foreach_norm(list(gradients.values()), torch.inf)
        finite = bool(torch.stack([self.loss.float(), *(value.float() for value in largest)]).isfinite().all())
        if trainer.strategy.reduce_boolean_decision(finite):  # in all processes
            return
        if trainer.strategy.reduce_boolean_decision(self._rescaled(trainer)):
            return
        if not self.skip:
            raise Diverged(
                f"training diverged {_where(trainer)}: {self._what(trainer, pl_module, gradients)}. "
                f"{KEPT}, or continue with `fit --resume --training.diverged skip`."
            )
        self.skipped += 1
        optimizer.zero_grad()  # to None: Adam passes over such parameters, moments and all
        for buffer, before in zip(pl_module.buffers(), self.buffers, strict=True):
            buffer.copy_(before)

    def _rescaled(self, trainer: Trainer) -> bool:
        """Whether the scaler of 16-mixed will handle this step. At a scale below 1, scaling cannot help."""
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        return scaler is not None and bool(self.loss.isfinite()) and scaler.get_scale() >= 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, ClassifierModule)
        if not pl_module.train_loss.weight:
            raise Diverged(f"training diverged {_where(trainer)}: no loss of the epoch is finite. {KEPT}.")
        for name, growth in growths(pl_module.model).items():
            if not growth <= EXPLODED:  # nan, too
                what = f"the kernel of {name} has {growth:.2g} times the norm it started with"
                raise Diverged(f"training diverged {_where(trainer)}: {what}. {KEPT}.")

    def _what(self, trainer: Trainer, fit: ClassifierModule, gradients: dict[str, Tensor]) -> str:
        if bool(self.loss.isfinite()):  # a gradient comes from behind
            astray = [name for name, gradient in gradients.items() if not bool(gradient.isfinite().all())]
            found = f"the gradient, beginning with {astray[-1]}" if astray else "that of another process"
            return f"the loss is finite, but not {found}"
        with trainer.precision_plugin.train_step_context(), forked([fit.device]):
            set_random_state(self.state)  # the same elements once more
            SyncStatistics().revert(fit.model)  # not all processes come here
            with fit.drawing():
                first = first_astray(fit.model, self.images) or "the penalties"
        return f"the loss is {float(self.loss)}, beginning with {first}"


def copies(tensors: list[Tensor]) -> list[Tensor]:
    """Copy tensors on one device, all of a dtype at once, because on a GPU a launch for each is slower."""
    made = [torch.empty_like(tensor) for tensor in tensors]
    for dtype in {tensor.dtype for tensor in tensors}:
        to, of = zip(*(pair for pair in zip(made, tensors, strict=True) if pair[1].dtype == dtype), strict=True)
        foreach_copy(to, of)
    return made


@torch.no_grad()
def growths(model: nn.Module) -> dict[str, float]:
    """Norm of the kernel of every group convolution, by layer, relative to the norm at initialisation."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, GroupConv)}
    return {name: float(layer.kernel_norm()) / layer.out_channels**0.5 for name, layer in layers.items()}


@torch.no_grad()
def first_astray(model: nn.Module, images: Tensor) -> str | None:
    """The first layer whose output is not finite, `the images` if those are not finite, or None."""
    if not bool(images.isfinite().all()):
        return "the images"
    found: list[str] = []

    def look(name: str, output: Any) -> None:
        values = output.values if isinstance(output, Signal) else output
        if isinstance(values, Tensor) and not bool(values.isfinite().all()):
            found.append(name or "the output")

    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: look(name, output))
        for name, module in model.named_modules()
        if ".kernel" not in name  # its modules hold parts of a kernel
    ]
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _where(trainer: Trainer) -> str:
    return f"at step {trainer.global_step} (epoch {trainer.current_epoch + 1})"
