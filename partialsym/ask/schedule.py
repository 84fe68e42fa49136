"""Which run is next: three of every method, then more of the comparisons that are still open, until time is up."""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait as wait_for
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple, Protocol

from partialsym.ask.intervals import Difference
from partialsym.ask.question import MOST_SEEDS
from partialsym.ask.workers import failures

STRICT = 0.995  # level at which a comparison is closed before time is up
POLL = 1.0  # seconds
SLOWER, FASTER = 1.15, 0.8  # of what was planned, from where on a plan is made anew while its first runs train
WATCHED, SEEN = 0.04, 10  # share of the budget, and steps of each run, after which that is known
LATE = 1.05  # of the time there is, from where on later runs are shortened


class Comparison(NamedTuple):
    """Two methods that a question compares; `difference` of the runs so far, None where they share none."""

    one: str
    other: str
    difference: Difference | None


class Job(NamedTuple):
    """A run of a method."""

    method: str
    seed: int


def closed(d: Difference | None, margin: float, least: int, level: float = STRICT) -> bool:
    """Whether a comparison needs no more runs: from `least` seeds on its interval is beyond 0 or within the margin.

    The interval is of a higher level than that of the verdict, as in a Haybittle–Peto boundary, since it is looked at
    after every seed, and stopping at the first of many looks that decides would be wrong too often.
    """
    if d is None or d.seeds < least:
        return False
    _, low, high = d.interval(level)
    return low > 0 or high < 0 or max(-low, high) <= margin


def to_close(d: Difference | None, margin: float) -> float:
    """Further seeds that would close a comparison if the difference stayed what it is; inf where none would."""
    if d is None:
        return math.inf
    for seeds in range(d.seeds + 1, MOST_SEEDS + 1):
        half = d.half_width(seeds / d.seeds, STRICT)
        if abs(d.mean) > half or abs(d.mean) + half <= margin:
            return seeds - d.seeds
    return math.inf


def further(
    comparisons: Sequence[Comparison],
    taken: Mapping[str, set[int]],
    seconds: Mapping[str, float],
    left: float,
    margin: float,
    least: int,
) -> Job | None:
    """The next run beyond the planned ones: of the open comparison that would be closed in the least time.

    Args:
        taken: method → seeds that are trained or being trained.
        seconds: method → what a run takes.
        left: seconds that are left; of a comparison both runs must end in them.
    """
    open_ = [c for c in comparisons if not closed(c.difference, margin, least)]

    def cost(c: Comparison) -> tuple[float, float]:
        each = seconds[c.one] + seconds[c.other]
        return to_close(c.difference, margin) * each, each

    for c in sorted(open_, key=cost):
        seed = next(n for n in count() if n not in taken[c.one] & taken[c.other])
        lacking = [name for name in (c.one, c.other) if seed not in taken[name]]
        if seed < MOST_SEEDS and max(seconds[name] for name in lacking) <= left:
            return Job(max(lacking, key=lambda name: seconds[name]), seed)
    return None


class Trainer(Protocol):
    """What trains: `begin` a run, `far` says its steps and their seconds, `stop` ends some and forgets
    them, once `ended` has waited for them."""

    def begin(self, job: Job) -> "Future[bool]": ...
    def far(self, job: Job) -> tuple[int, float] | None: ...
    def stop(self, jobs: "Sequence[Job]", ended: Callable[[], object]) -> None: ...


class Planned(Protocol):
    """The plan as the schedule needs it: what runs take, and how it changes."""

    @property
    def methods(self) -> tuple[str, ...]: ...
    def takes(self, job: Job) -> float: ...
    def step(self, method: str) -> float: ...
    def anew(self, factor: float, left: float) -> None: ...
    def shorten(self, seed: int, left: float) -> None: ...


Wait = Callable[[Sequence["Future[bool]"], float], None]


def _wait(futures: Sequence["Future[bool]"], seconds: float) -> None:
    wait_for(futures, seconds, FIRST_COMPLETED)


@dataclass
class Schedule:
    """Keeps `workers` runs going until the planned ones are done and nothing is open, or no time is left.

    Attributes:
        clock: seconds.
        deadline: by that clock, when all runs must have ended.
        finished: method → seeds of finished runs, also earlier ones.
        look: the comparisons by all finished runs.
        tell: called every POLL seconds, and with each run that ends.
    """

    plan: Planned
    trainer: Trainer
    look: Callable[[], Sequence[Comparison]]
    clock: Callable[[], float]
    deadline: float
    seeds: int
    workers: int
    margin: float
    finished: dict[str, set[int]]
    tell: Callable[["Schedule", Job | None], object] = lambda schedule, job: None
    wait: Wait = _wait
    running: dict["Future[bool]", Job] = field(default_factory=dict)
    began: dict[Job, float] = field(default_factory=dict)
    start: float = 0.0
    pace: float = 1.0
    ended: list[tuple[float, float]] = field(default_factory=list)  # seconds of the last runs, and those planned
    settled: set[int] = field(default_factory=set)  # seeds whose steps stay as they are
    comparisons: Sequence[Comparison] = ()

    def run(self) -> None:
        """Train; raises what a run raised."""
        self.start = self.clock()
        for seeds in self.finished.values():  # of an earlier command: its plan stands
            self.settled |= {0, *seeds}
        self.comparisons = self.look() if self.settled else ()
        while True:
            while len(self.running) < self.workers and (job := self.next()) is not None:
                self.began[job] = self.clock()
                self.running[self.trainer.begin(job)] = job
            if not self.running:
                return
            self.wait([*self.running], POLL)
            self._collect()
            self.tell(self, None)
            self._keep_pace()

    @property
    def left(self) -> float:
        return self.deadline - self.clock()

    @property
    def taken(self) -> dict[str, set[int]]:
        """Seeds that are trained or being trained."""
        taken = {name: set(self.finished.get(name, ())) for name in self.plan.methods}
        for job in self.running.values():
            taken[job.method].add(job.seed)
        return taken

    def next(self) -> Job | None:
        """The next run; None where none is left that ends in time."""
        taken = self.taken
        for seed in range(self.seeds):
            jobs = [Job(m, seed) for m in self.plan.methods if seed not in taken[m]]
            if len(jobs) == len(self.plan.methods) and seed not in self.settled and self._late(seed):
                self.plan.shorten(seed, self.left / self.pace)
            fit = [job for job in jobs if self.pace * self.plan.takes(job) <= self.left]
            if jobs:
                return max(fit, key=self.plan.takes) if fit else None
        seconds = {m: self.pace * self.plan.takes(Job(m, self.seeds)) for m in self.plan.methods}
        ended = [c for c in self.comparisons if c.difference is not None and c.difference.seeds >= self.seeds]
        return further(ended, taken, seconds, self.left, self.margin, self.seeds)

    def _collect(self) -> None:
        for future in [future for future in self.running if future.done()]:
            job = self.running.pop(future)
            with failures(f"{job.method}, seed {job.seed}"):
                whole = future.result()
            if not whole:
                continue
            self.finished.setdefault(job.method, set()).add(job.seed)
            actual, planned = self.clock() - self.began[job], self.plan.takes(job)
            self.ended = [*self.ended, (actual, planned)][-len(self.plan.methods) :]
            self.pace = self._pace()
            self.settled.add(job.seed)
            self.comparisons = self.look()
            self.tell(self, job)

    def _pace(self) -> float:
        """How much longer the last repetition took than planned, with what its running trainings took up to now.

        It is a quotient of sums: a short run consists mostly of fixed costs, and must weigh little.
        """
        known = [(job, far) for job in self.running.values() if (far := self.trainer.far(job))]
        so_far = [(self.clock() - self.began[job], far[0] * self.plan.step(job.method)) for job, far in known]
        actual, planned = (sum(column) for column in zip(*self.ended, *so_far, strict=True))
        return actual / planned if planned > 0 else self.pace

    def _keep_pace(self) -> None:
        """Begin a seed anew, with other steps for all methods, where its first runs say that what was planned is wrong.

        Of seed 0, whose first runs are a better clock than the timing was, also where they are faster than planned. No
        run of the seed may have ended: they could not be compared.
        """
        seed = max(job.seed for job in self.running.values()) if self.running else self.seeds
        known = [(job, far) for job in self.running.values() if (far := self.trainer.far(job)) and far[0] >= SEEN]
        if seed >= self.seeds or seed in self.settled or len(known) < len(self.running):
            return
        watched = self.clock() - min(self.began[job] for job in self.running.values())
        if watched < WATCHED * (self.deadline - self.start):
            return
        steps = sum(far[0] * self.plan.step(job.method) for job, far in known)
        factor = sum(far[1] for _, far in known) / steps if steps else 1.0
        if seed == 0:
            self.settled.add(seed)
        else:
            self.pace = factor
        if not FASTER <= factor <= SLOWER if seed == 0 else self._late(seed):
            self.settled.add(seed)
            self._stop(seed)
            if seed == 0:
                self.plan.anew(factor, self.left)
            else:
                self.plan.shorten(seed, self.left / self.pace)

    def _late(self, seed: int) -> bool:
        """Whether what is planned from a seed on takes more time than there is."""
        rest = sum(self.plan.takes(Job(m, k)) for k in range(seed, self.seeds) for m in self.plan.methods)
        return seed > 0 and self.pace * rest / self.workers > LATE * self.left

    def _stop(self, seed: int) -> None:
        """Stop the runs of a seed and forget them."""
        stopped = {future: job for future, job in self.running.items() if job.seed == seed}

        def wait() -> None:
            while not all(future.done() for future in stopped):
                self.wait([future for future in stopped if not future.done()], POLL)
                self.tell(self, None)
            for future, job in stopped.items():
                with failures(f"{job.method}, seed {job.seed}"):
                    future.result()

        self.trainer.stop([*stopped.values()], wait)
        self.running = {future: job for future, job in self.running.items() if future not in stopped}
