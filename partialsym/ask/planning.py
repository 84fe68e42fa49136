"""How much training a budget pays for: the same for every method."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from partialsym.config import ConfigError, DataConfig, Experiment, ModelConfig, TrainingConfig

WIDTHS = (16, 8)  # channels after lifting, the widest the budget pays for
LEAST, MOST = 150, 1500  # training steps; fewer than LEAST prove nothing
ENOUGH = 300  # steps that are worth more than channels
EPOCHS = (3, 4, 5, 6)  # after each of which a run is validated, and goes on from when it is stopped
ROUNDING = 0.7  # of the steps are left at worst where epochs are whole passes
SHARE = 0.75  # of the budget that is planned: the machine may slow down
START, PAGE = 12.0, 20.0  # seconds for a worker to start, and for the page to be written
BATCH, RECALIBRATION = 64, 256


class Seconds(NamedTuple):
    """What a method takes: of a training step, of an image evaluated."""

    step: float
    image: float


class Plan(NamedTuple):
    """Training of every method: `repeats` passes an epoch over `images` training images (None: all there are)."""

    width: int
    epochs: int
    repeats: int
    images: int | None
    batch: int
    seconds: dict[str, float]  # name → what one run is expected to take

    def steps(self, train: int) -> int:
        """Training steps of a run, from so many training images."""
        return self.epochs * (self.repeats * (train if self.images is None else self.images) // self.batch)

    def experiment(self, name: str, seed: int, data: DataConfig, model: ModelConfig) -> Experiment:
        """The experiment of one run."""
        settings: dict[str, Any] = {"lr": 3e-3, "density_lr": 1e-2, "schedule": "one-cycle"}
        training = TrainingConfig(
            epochs=self.epochs,
            repeats=self.repeats,
            batch_size=self.batch,
            recalibration_images=RECALIBRATION,
            compile="never",
            diverged="skip",
            **settings,
        )
        return Experiment(name, seed, data, model, training)


class Budget(NamedTuple):
    """What there is to spend, and what it is spent on.

    Attributes:
        seconds: on the clock, for everything.
        seeds, workers: runs of each method, and how many run at a time.
        train, validation: numbers of images.
        evaluated: images that a run evaluates after its training, however long that was.
    """

    seconds: float
    seeds: int
    workers: int
    train: int
    validation: int
    evaluated: int

    @property
    def batch(self) -> int:
        return min(BATCH, max(2, self.train // 2))

    def images(self) -> int:
        """Images a run evaluates, at the end of epochs and after the last."""
        return self.evaluated + EPOCHS[-1] * (self.validation + min(RECALIBRATION, self.train))

    def steps(self, methods: Mapping[str, Seconds]) -> int:
        """Training steps a run that the budget pays for."""
        return min(MOST, math.floor((SHARE * self.seconds - self._fixed(methods)) / self._step(methods)))

    def least(self, methods: Mapping[str, Seconds]) -> float:
        """Seconds that pay for LEAST steps, also where these make no whole number of passes."""
        return (self._fixed(methods) + LEAST / ROUNDING * self._step(methods)) / SHARE

    def _step(self, methods: Mapping[str, Seconds]) -> float:
        return self.seeds * sum(s.step for s in methods.values()) / self.workers

    def _fixed(self, methods: Mapping[str, Seconds]) -> float:
        images = sum(s.image for s in methods.values()) * self.images()
        return START + PAGE + self.seeds * images / self.workers


def plan(budget: Budget, measured: Mapping[int, Mapping[str, Seconds]]) -> Plan:
    """The plan that a budget pays for: the widest networks that get ENOUGH steps, else those that get most.

    Of a training split too large for EPOCHS passes a part is taken.

    Args:
        measured: width → method → what it takes, with all workers busy.
    Raises:
        ConfigError: the budget pays for fewer than LEAST steps; it says what would do.
    """
    found = [(budget.steps(methods), width) for width, methods in measured.items()]
    steps, width = next((one for one in found if one[0] >= ENOUGH), max(found))
    passes = steps * budget.batch / budget.train
    part = None if passes >= EPOCHS[0] else steps * budget.batch // EPOCHS[0]
    epochs = max(EPOCHS, key=lambda n: n * (passes // n)) if part is None else EPOCHS[0]
    repeats = int(passes // epochs) if part is None else 1
    taken = {name: steps * s.step + budget.images() * s.image for name, s in measured[width].items()}
    made = Plan(width, epochs, repeats, part, budget.batch, taken)
    if steps < LEAST or made.steps(budget.train) < LEAST:
        needed = math.ceil(min(map(budget.least, measured.values())) / 60)
        raise ConfigError(
            f"a budget of {budget.seconds:.0f} s pays for {max(0, steps)} training steps a network, and fewer than "
            f"{LEAST} prove nothing: give {needed} minutes (--budget {needed}m), or a smaller --data.size."
        )
    return made
