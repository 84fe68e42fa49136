"""How much training a budget pays for: the same for every method."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from partialsym.config import ConfigError, DataConfig, Experiment, ModelConfig, TrainingConfig

WIDTHS = (16, 8)  # channels after lifting, the widest first
SIDES = (96, 64, 48, 32, 24, 16)  # pixels that images are lowered to
LEAST, MOST = 150, 1500  # training steps; fewer than LEAST prove nothing
ENOUGH = 600  # steps that are worth more than channels
EPOCHS = (3, 4, 5, 6)  # after each of which a run is validated, and goes on from when it is stopped
ROUNDING = 0.7  # of the steps are left at worst where epochs are whole passes
SHARE = 0.85  # of the budget that is planned: the machine may slow down
START, PAGE = 12.0, 15.0  # seconds for a worker to start, and for the page to be written
BATCH, RECALIBRATION = 64, 256
DRAWS, TRIALS = 33, 16  # passes over validation images, and trials of a subset, by which a partial network is fixed
FEWEST = 2  # methods that a comparison takes


class Seconds(NamedTuple):
    """What a method takes: of a training step, of an image evaluated."""

    step: float
    image: float


class Length(NamedTuple):
    """Of a training: `repeats` passes an epoch over `images` training images (None: all there are)."""

    epochs: int
    repeats: int
    images: int | None

    def steps(self, train: int, batch: int) -> int:
        """Training steps, from so many training images."""
        return self.epochs * (self.repeats * (train if self.images is None else self.images) // batch)


class Plan(NamedTuple):
    """Training of every method.

    Attributes:
        width: of the networks.
        size: height and width that the images are lowered to; None as they are.
        methods: which ones, those that matter most first.
        batch: images of a step.
        lengths: of the runs with seed 0, 1, …; the last one holds for all that follow. Methods are alike in them.
        seconds: name → what a method takes.
        after: name → images that a run evaluates, during its training and after it.
    """

    width: int
    size: tuple[int, int] | None
    methods: tuple[str, ...]
    batch: int
    lengths: tuple[Length, ...]
    seconds: dict[str, Seconds]
    after: dict[str, int]

    def length(self, seed: int) -> Length:
        return self.lengths[min(seed, len(self.lengths) - 1)]

    def takes(self, name: str, seed: int, train: int) -> float:
        """Seconds of a run."""
        taken = self.seconds[name]
        return self.length(seed).steps(train, self.batch) * taken.step + self.after[name] * taken.image

    def words(self, train: int) -> str:
        """In a line."""
        size = "" if self.size is None else f", images of {self.size[0]}×{self.size[1]} pixels"
        steps = self.lengths[0].steps(train, self.batch)
        return f"{', '.join(self.methods)}: width {self.width}, {steps} steps of {self.batch} images{size}"

    def slowed(self, factor: float) -> "Plan":
        """The same on a machine so many times as slow."""
        return self._replace(seconds={name: Seconds(*(factor * s for s in one)) for name, one in self.seconds.items()})

    def shortened(self, seed: int, length: Length) -> "Plan":
        """With that length from that seed on."""
        return self._replace(lengths=(*(self.length(k) for k in range(seed)), length))

    def experiment(self, name: str, seed: int, data: DataConfig, model: ModelConfig) -> Experiment:
        """The experiment of one run."""
        settings: dict[str, Any] = {"lr": 3e-3, "density_lr": 1e-2, "schedule": "one-cycle"}
        length = self.length(seed)
        training = TrainingConfig(
            epochs=length.epochs,
            repeats=length.repeats,
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
        chosen: validation images by which a network that learns its subsets is fixed at the end.
        learning: methods that do.
        whole: seconds → the budget of the command, of which these are left for all this.
    """

    seconds: float
    seeds: int
    workers: int
    train: int
    validation: int
    evaluated: int
    chosen: int = 0
    learning: frozenset[str] = frozenset()
    whole: Callable[[float], float] = float

    @property
    def batch(self) -> int:
        return min(BATCH, max(2, self.train // 2))

    def images(self, name: str) -> int:
        """Images a run evaluates: at the end of epochs, to fix its subsets, and after that."""
        recalibrated = min(RECALIBRATION, self.train)
        fixed = DRAWS * self.chosen + TRIALS * (self.chosen + recalibrated) if name in self.learning else 0
        return self.evaluated + EPOCHS[-1] * (self.validation + recalibrated) + fixed

    def steps(self, methods: Mapping[str, Seconds]) -> int:
        """Training steps a run that the budget pays for."""
        return max(0, min(MOST, math.floor((SHARE * self.seconds - self._fixed(methods)) / self._step(methods))))

    def least(self, methods: Mapping[str, Seconds]) -> float:
        """Seconds that pay for LEAST steps, also where these make no whole number of passes."""
        return (self._fixed(methods) + LEAST / ROUNDING * self._step(methods)) / SHARE

    def length(self, steps: int) -> Length:
        """A training of so many steps at most; of more images than EPOCHS passes would see, a part is taken."""
        passes = steps * self.batch / self.train
        if passes < EPOCHS[0]:
            return Length(EPOCHS[0], 1, max(2, steps * self.batch // EPOCHS[0]))
        epochs = max(EPOCHS, key=lambda n: n * (passes // n))
        return Length(epochs, int(passes // epochs), None)

    def _step(self, methods: Mapping[str, Seconds]) -> float:
        return self.seeds * sum(s.step for s in methods.values()) / self.workers

    def _fixed(self, methods: Mapping[str, Seconds]) -> float:
        images = sum(s.image * self.images(name) for name, s in methods.items())
        return START + PAGE + self.seeds * images / self.workers


Measure = Callable[[tuple[int, int] | None, int], Mapping[str, Seconds]]


def sizes(own: tuple[int, int], resizable: bool) -> list[tuple[int, int]]:
    """What images may be lowered to, the largest first: squares of fewer pixels."""
    return [(side, side) for side in SIDES if resizable and side * side < own[0] * own[1] / 1.2]


def plan(budget: Budget, measure: Measure, own: tuple[int, int], resizable: bool = True) -> Plan:
    """The plan that a budget pays for. What does not fit is lowered in this order, and no further than it must be:

    1. the width of the networks, until they get ENOUGH steps;
    2. the size of the images, until the narrowest networks get LEAST;
    3. the methods, those that matter least first, as long as two are left to be compared.

    Args:
        measure: size and width → what each method takes, with all workers busy; those that matter most first.
        own: height and width of the images.
        resizable: whether they may be lowered.
    Raises:
        ConfigError: not even the least fits; it says what would.
    """
    narrow, measured, size = WIDTHS[-1], dict(measure(None, WIDTHS[-1])), None
    own_seconds, smaller = measured, sizes(own, resizable)
    while True:
        if _pays(budget, measured) >= LEAST:
            for width in WIDTHS[:-1]:
                if budget.steps(measured) > ENOUGH and budget.steps(wider := dict(measure(size, width))) >= ENOUGH:
                    return _made(budget, width, size, wider)
            return _made(budget, narrow, size, measured)
        hopeful = [one for one in smaller if not _hopeless(budget, own_seconds, own, one)] or smaller[-1:]
        if not hopeful:
            break
        size, smaller = hopeful[0], hopeful[1:]
        measured = dict(measure(size, narrow))
    names = list(measured)
    for count in range(len(names) - 1, FEWEST - 1, -1):
        fewer = {name: measured[name] for name in names[:count]}
        if _pays(budget, fewer) >= LEAST:
            return _made(budget, narrow, size, fewer)
    fewer = {name: measured[name] for name in names[:FEWEST]}
    raise ConfigError(_refusal(budget, fewer, size or own))


def _hopeless(budget: Budget, measured: Mapping[str, Seconds], own: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether at that size far too few steps would fit, if time goes with the number of pixels."""
    share = size[0] * size[1] / (own[0] * own[1])
    return _pays(budget, {name: Seconds(share * s.step, share * s.image) for name, s in measured.items()}) < LEAST / 2


def _pays(budget: Budget, methods: Mapping[str, Seconds]) -> int:
    """Training steps that are left of those the budget pays for, as epochs are whole passes."""
    steps = budget.steps(methods)
    return budget.length(steps).steps(budget.train, budget.batch) if steps else 0


def _made(budget: Budget, width: int, size: tuple[int, int] | None, methods: Mapping[str, Seconds]) -> Plan:
    length = budget.length(budget.steps(methods))
    after = {name: budget.images(name) for name in methods}
    return Plan(width, size, tuple(methods), budget.batch, (length,), dict(methods), after)


def _refusal(budget: Budget, methods: Mapping[str, Seconds], size: tuple[int, int]) -> str:
    minutes = math.ceil(budget.whole(budget.least(methods)) / 60)
    least = f"{LEAST} steps of {' and '.join(methods)} at width {WIDTHS[-1]} on {size[0]}×{size[1]} pixels"
    return (
        f"a budget of {budget.whole(budget.seconds):.0f} s is too small: the least that says something, "
        f"{budget.seeds} repetitions of {least}, takes about {minutes} minutes on this machine as it is: "
        f"give --budget {minutes}m."
    )


def revised(plan: Plan, budget: Budget, factor: float) -> Plan:
    """The plan for what is left of the budget, on a machine so many times as slow as was measured, from seed 0 on.

    Steps are as many as fit, LEAST at least: the methods that matter least are given up first.
    """
    slowed = plan.slowed(factor)
    names: Sequence[str] = plan.methods
    while len(names) > FEWEST and _pays(budget, {name: slowed.seconds[name] for name in names}) < LEAST:
        names = names[:-1]
    methods = {name: slowed.seconds[name] for name in names}
    steps = max(budget.steps(methods), math.ceil(LEAST / ROUNDING))
    return slowed._replace(
        methods=tuple(names),
        lengths=(budget.length(steps),),
        seconds=methods,
        after={name: plan.after[name] for name in names},
    )
