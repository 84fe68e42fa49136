"""How much training fits into a time budget; every method gets the same."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from partialsym.config import ConfigError, DataConfig, Experiment, ModelConfig, TrainingConfig

WIDTHS = (16, 8)  # channels after lifting, the widest first
SIDES = (96, 64, 48, 32, 24, 16)  # sides in pixels to which images may be reduced
LEAST, MOST = 150, 1500  # training steps; with fewer than LEAST the result would mean nothing
ENOUGH = 600  # below this number, more steps improve accuracy more than more channels do
EPOCHS = (3, 4, 5, 6)  # a run is validated after each epoch, and a stopped run continues from there
ROUNDING = 0.7  # smallest share of the steps that remains when epochs are whole passes
SHARE = 0.85  # share of the budget that is planned: the machine may slow down
START, PAGE = 12.0, 15.0  # seconds for a worker to start, and to write the page
BATCH, RECALIBRATION = 64, 256
RATE, RATES = 3e-3, {"Grid": 2e-2}  # largest learning rate of a one-cycle schedule; of some kernels another one
DRAWS, TRIALS = 33, 16  # passes over validation images, and trials of subsets, that choose a partial network's elements
FEWEST = 2  # methods that a comparison needs


class Seconds(NamedTuple):
    """Durations of a method, in seconds: of a training step, and of evaluating one image."""

    step: float
    image: float


class Length(NamedTuple):
    """The length of a training: `epochs` epochs of `repeats` passes over `images` training images (None: all)."""

    epochs: int
    repeats: int
    images: int | None

    def steps(self, train: int, batch: int) -> int:
        """The number of training steps, if there are `train` training images."""
        return self.epochs * (self.repeats * (train if self.images is None else self.images) // batch)


class Plan(NamedTuple):
    """How all methods are trained.

    Attributes:
        width: channels of the networks.
        size: height and width to which the images are reduced; None if they stay as they are.
        methods: names of the methods, the most important first.
        batch: images per step.
        lengths: lengths of the runs with seed 0, 1, …; the last one also applies to all later seeds. All methods have
            the same lengths.
        seconds: name → durations of a method.
        after: name → number of images that a run evaluates, during its training and after it.
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
        """The duration of a run in seconds, if there are `train` training images."""
        taken = self.seconds[name]
        return self.length(seed).steps(train, self.batch) * taken.step + self.after[name] * taken.image

    def words(self, train: int) -> str:
        """The plan in one line."""
        size = "" if self.size is None else f", images of {self.size[0]}×{self.size[1]} pixels"
        steps = self.lengths[0].steps(train, self.batch)
        return f"{', '.join(self.methods)}: width {self.width}, {steps} steps of {self.batch} images{size}"

    def slowed(self, factor: float) -> "Plan":
        """The same plan on a machine that is `factor` times as slow."""
        return self._replace(seconds={name: Seconds(*(factor * s for s in one)) for name, one in self.seconds.items()})

    def shortened(self, seed: int, length: Length) -> "Plan":
        """The same plan with that length from that seed on."""
        return self._replace(lengths=(*(self.length(k) for k in range(seed)), length))

    def experiment(self, name: str, seed: int, data: DataConfig, model: ModelConfig) -> Experiment:
        """The experiment of one run."""
        length = self.length(seed)
        training = TrainingConfig(
            epochs=length.epochs,
            repeats=length.repeats,
            batch_size=self.batch,
            lr=RATES.get(model.kernel, RATE),
            density_lr=1e-2,
            schedule="one-cycle",
            recalibration_images=RECALIBRATION,
            compile="never",
            diverged="skip",
        )
        return Experiment(name, seed, data, model, training)


class Budget(NamedTuple):
    """The available time, and what it is used for.

    Attributes:
        seconds: time for everything.
        seeds: number of runs of each method.
        workers: number of runs at the same time.
        train, validation: numbers of images.
        evaluated: number of images that a run evaluates after its training, whatever the length of the training.
        chosen: number of validation images that choose the elements of a network with learned subsets after training.
        learning: names of the methods with learned subsets.
        whole: remaining seconds → budget of the whole command that leaves so many for the plan.
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
        """The number of images that a run evaluates: after each epoch, to choose its elements, and after that."""
        recalibrated = min(RECALIBRATION, self.train)
        fixed = DRAWS * self.chosen + TRIALS * (self.chosen + recalibrated) if name in self.learning else 0
        return self.evaluated + EPOCHS[-1] * (self.validation + recalibrated) + fixed

    def steps(self, methods: Mapping[str, Seconds]) -> int:
        """The number of training steps per run that fits into the budget."""
        return max(0, min(MOST, math.floor((SHARE * self.seconds - self._fixed(methods)) / self._step(methods))))

    def least(self, methods: Mapping[str, Seconds]) -> float:
        """The budget in seconds that suffices for LEAST steps, even after rounding to whole passes."""
        return (self._fixed(methods) + LEAST / ROUNDING * self._step(methods)) / SHARE

    def length(self, steps: int) -> Length:
        """A training of at most `steps` steps; it uses a part of the images if it cannot pass over all of them in each
        epoch."""
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
    """The sizes to which images may be reduced, the largest first: squares with fewer pixels."""
    return [(side, side) for side in SIDES if resizable and side * side < own[0] * own[1] / 1.2]


def plan(budget: Budget, measure: Measure, own: tuple[int, int], resizable: bool = True) -> Plan:
    """The plan that fits into a budget.

    If not everything fits, the plan reduces the following in this order, each no further than necessary:

    1. the width of the networks, until they get ENOUGH steps;
    2. the size of the images, until the narrowest networks get LEAST steps;
    3. the number of methods, the least important first; at least two remain.

    Args:
        budget: the available time and the work to be done.
        measure: (size, width) → durations of each method with all workers busy; the most important method first.
        own: height and width of the images.
        resizable: whether the images may be reduced.
    Raises:
        ConfigError: the budget is too small for any plan; the message says which budget suffices.
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
    """Whether far too few steps would fit at that size, if the duration is proportional to the number of pixels."""
    share = size[0] * size[1] / (own[0] * own[1])
    return _pays(budget, {name: Seconds(share * s.step, share * s.image) for name, s in measured.items()}) < LEAST / 2


def _pays(budget: Budget, methods: Mapping[str, Seconds]) -> int:
    """The number of training steps that fits into the budget, rounded to epochs of whole passes."""
    steps = budget.steps(methods)
    return budget.length(steps).steps(budget.train, budget.batch) if steps else 0


def _made(budget: Budget, width: int, size: tuple[int, int] | None, methods: Mapping[str, Seconds]) -> Plan:
    length = budget.length(budget.steps(methods))
    after = {name: budget.images(name) for name in methods}
    return Plan(width, size, tuple(methods), budget.batch, (length,), dict(methods), after)


def _refusal(budget: Budget, methods: Mapping[str, Seconds], size: tuple[int, int]) -> str:
    minutes = math.ceil(budget.whole(budget.least(methods)) / 60)
    about = f"about {minutes} minute{'s' * (minutes != 1)}"
    least = f"{LEAST} steps of {' and '.join(methods)} at width {WIDTHS[-1]} on {size[0]}×{size[1]} pixels"
    return (
        f"a budget of {budget.whole(budget.seconds):.0f} s is too small: the smallest useful plan, {budget.seeds} "
        f"repetitions of {least}, needs {about} on this machine under its present load: use --budget {minutes}m."
    )


def revised(plan: Plan, budget: Budget, factor: float) -> Plan:
    """The plan from seed 0 on for the remaining budget, on a machine that is `factor` times as slow as measured.

    It has as many steps as fit, but at least LEAST. If these do not fit, it drops the least important methods.
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
