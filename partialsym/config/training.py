"""How an experiment trains."""

import math
from dataclasses import dataclass
from typing import Literal

from partialsym._utils.validation import check
from partialsym.errors import ConfigError


@dataclass(frozen=True)
class TrainingConfig:
    """The training.

    Args:
        epochs: number of epochs, each of `repeats` passes over the training split.
        repeats: passes over the training split in one epoch. Validation and checkpoint come once per epoch, so use more
            than one for small training splits.
        batch_size: images per step, over all processes.
        lr: learning rate of Adam; the maximum of a schedule.
        density_lr: learning rate of the densities (theta and logits); default lr.
        schedule: constant, cosine (down to 1e-3 of lr) or one-cycle.
        warmup_epochs: epochs of linear warm-up before constant or cosine; may be a fraction.
        kernel_norm: weight of the sum of kernel norms over all convolutions.
        monotonic: weight of sum(relu(theta[l+1] - theta[l])).
        width: weight of minus the sum of all theta, a reward for wide densities (Benton et al. 2020, for Augerino).
        haar: weight of the sum of the divergences KL(p ‖ Haar) of the learned densities, a prior for symmetry.
        temperature: temperature of the relaxed Bernoulli, at the first and at the last step, linear in between.
        precision: auto selects bf16-mixed if the processor has it in hardware, else 32. 16-mixed is float16 with a
            scaled loss, for GPUs without bf16. Evaluation uses float32.
        tf32: true lets torch's settings decide whether training steps in float32 use TF32; by default convolutions on a
            GPU do. false trains in full float32. Evaluation always uses full float32.
        compile: whether torch.compile compiles the training step: always, never, or auto, which compiles runs of 5,000
            steps or more on a GPU; on a processor it does not pay. Only runs of one process can be compiled.
        recalibration_images: number of training images on which BatchNorm statistics are recomputed before each
            validation.
        select: the model that is saved: last, of the last epoch, or best, of the highest validation accuracy.
        patience: stop when the validation accuracy has not been higher for this number of epochs; default never. Choose
            select: best with it, which saves the best epoch.
        class_weights: how much the images of a class weigh in the loss. balanced weighs every class alike, however many
            images it has; none weighs every image alike.
        diverged: at a step whose loss or gradient is not finite, stop the training or skip the step. An exploding
            kernel always stops the training.
        elements: the elements of each layer in a step are shared by all processes, so that the number of processes
            changes nothing, or independent: each process draws its own, which lowers the noise of the gradient.
        deterministic: allow only deterministic algorithms of torch; an operation without one raises an error.
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
    patience: int | None = None
    class_weights: Literal["none", "balanced"] = "none"
    diverged: Literal["stop", "skip"] = "stop"
    elements: Literal["shared", "independent"] = "shared"
    deterministic: bool = False

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("repeats", 1), ("batch_size", 2), ("recalibration_images", 1)):
            value = getattr(self, name)
            check(f"training.{name}", value, value >= least, f"at least {least}")
        check("training.patience", self.patience, self.patience is None or self.patience >= 1, "at least 1")
        ends = self.patience is None or self.schedule != "one-cycle"
        check("training.patience", self.patience, ends, "left out: one-cycle lowers its rates only in the last epochs")
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
