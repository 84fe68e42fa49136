"""How an experiment trains."""

import math
from dataclasses import dataclass
from typing import Literal

from partialsym._utils.errors import ConfigError
from partialsym._utils.validation import check


@dataclass(frozen=True)
class TrainingConfig:
    """How it is trained.

    Args:
        epochs: in each, `repeats` passes over the training split.
        repeats: passes that make an epoch, for small training splits: validation and checkpoint come once an epoch.
        batch_size: images a step, over all processes.
        lr: learning rate of Adam; the peak of a schedule.
        density_lr: learning rate of the densities (theta and logits); default lr.
        schedule: constant, cosine (to 1e-3 of the peak) or one-cycle.
        warmup_epochs: linear, before constant or cosine; may be a fraction.
        kernel_norm: weight of the sum of kernel norms over all convolutions.
        monotonic: weight of sum(relu(theta[l+1] - theta[l])).
        width: weight of minus the sum of all theta, a reward for wide densities (Benton et al. 2020, for Augerino).
        haar: weight of the sum of the divergences KL(p ‖ Haar) of the learned densities, a prior for symmetry.
        temperature: of the relaxed Bernoulli, first and last, linear in between.
        precision: auto takes bf16-mixed where the processor has it in hardware, else 32. 16-mixed is float16 with a
            scaled loss, for GPUs without bf16. Evaluation is in float32.
        tf32: leave it to torch's settings whether a training step in float32 is computed in TF32, as convolutions on a
            GPU are unless those say no; false computes all of it in full float32, as evaluation always is.
        compile: the training step, with torch.compile; auto does in runs of 5,000 steps and more; one
            process alone can.
        recalibration_images: training images that BatchNorm statistics are recomputed on before each validation.
        select: last takes the last epoch, best the one of the highest validation accuracy.
        diverged: stop training at a step whose loss or gradient is not finite, or skip the step; an exploding kernel
            stops it always.
        elements: of a step, in each layer: shared by all processes that train together, so that their number changes
            nothing, or independent, drawn by each for itself: more elements a step, and less noise in the gradient.
        deterministic: let torch take deterministic algorithms alone; what has none is an error.
    """

    epochs: int = 10
    repeats: int = 1
    batch_size: int = 64
    lr: float = 1e-3
    density_lr: float | None = None
    schedule: Literal["constant", "cosine", "one-cycle"] = "cosine"
    warmup_epochs: float = 0.0
    kernel_norm: float = 0.0
    monotonic: float = 0.0
    width: float = 0.0
    haar: float = 0.0
    temperature: tuple[float, float] = (0.5, 0.1)
    precision: Literal["auto", "bf16-mixed", "16-mixed", "32"] = "auto"
    tf32: bool = True
    compile: Literal["auto", "always", "never"] = "auto"
    recalibration_images: int = 2000
    select: Literal["last", "best"] = "last"
    diverged: Literal["stop", "skip"] = "stop"
    elements: Literal["shared", "independent"] = "shared"
    deterministic: bool = False

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("repeats", 1), ("batch_size", 2), ("recalibration_images", 1)):
            value = getattr(self, name)
            check(f"training.{name}", value, value >= least, f"at least {least}")
        for name in ("lr", "density_lr"):
            value = getattr(self, name)
            check(f"training.{name}", value, value is None or 0 < value < math.inf, "positive")
        for name in ("kernel_norm", "monotonic", "width", "haar"):
            value = getattr(self, name)
            check(f"training.{name}", value, 0 <= value < math.inf, "at least 0")
        in_range = 0 <= self.warmup_epochs < self.epochs
        if self.schedule == "one-cycle" and self.warmup_epochs:
            raise ConfigError(f"training.warmup_epochs is {self.warmup_epochs!r}: one-cycle has a warm-up of its own.")
        check("training.warmup_epochs", self.warmup_epochs, in_range, f"in [0, {self.epochs}), below epochs")
        positive = all(0 < t < math.inf for t in self.temperature)
        check("training.temperature", self.temperature, positive, "two positive numbers")
