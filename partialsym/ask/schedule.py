"""The order of the runs: first the planned seeds of all methods, then more seeds of the undecided comparisons."""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait as wait_for
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple, Protocol

from partialsym.ask.intervals import Difference
from partialsym.ask.question import MOST_SEEDS
from partialsym.ask.workers import failures

STRICT = 0.995  # level at which a comparison is closed before the budget ends
POLL = 1.0  # seconds
SLOWER, FASTER = 1.15, 0.8  # measured / planned duration beyond which the first runs are planned again
WATCHED, SEEN = 0.04, 10  # share of the budget, and steps of each run, after which this quotient is reliable
LATE = 1.05  # planned / available time beyond which later runs are shortened


class Comparison(NamedTuple):
    """Two methods that a question compares, and their difference in the runs so far; None if they share no seed."""

    one: str
    other: str
    difference: Difference | None


class Job(NamedTuple):
    """One run: a method and a seed."""

    method: str
    seed: int


def closed(d: Difference | None, margin: float, least: int, level: float = STRICT) -> bool:
    """Whether a comparison needs no more runs: it has `least` seeds, and its interval excludes 0 or lies in ±margin.

    The interval has a higher level than that of the verdict, as in a Haybittle–Peto boundary. It is checked after every
    seed, and at the level of the verdict, stopping at the first decision would be wrong too often.
    """
    if d is None or d.seeds < least:
        return False
    _, low, high = d.interval(level)
    return low > 0 or high < 0 or max(-low, high) <= margin


def to_close(d: Difference | None, margin: float) -> float:
    """The number of further seeds that would close a comparison if its mean and variances stayed the same.

    It is inf if MOST_SEEDS seeds are not enough.
    """
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
    """The next run beyond the planned ones: one of the open comparison that would be closed in the shortest time.

    Args:
        comparisons: all comparisons.
        taken: method → seeds whose runs have finished or are running.
        seconds: method → duration of a run in seconds.
        left: remaining seconds; both runs of a comparison must end within them.
        margin: a difference that counts as none.
        least: smallest number of seeds of a closed comparison.
    Returns:
        The run; None if no comparison is open, or no run ends in time.
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
    """The interface that trains runs.

    `begin` starts a run. `far` returns the number of its steps and their seconds, or None if it has none. `stop`
    stops some runs, calls `ended`, which waits for them, and deletes them.
    """

    def begin(self, job: Job) -> "Future[bool]": ...
    def far(self, job: Job) -> tuple[int, float] | None: ...
    def stop(self, jobs: "Sequence[Job]", ended: Callable[[], object]) -> None: ...


class Planned(Protocol):
    """The interface of the plan: durations of runs in seconds, and ways to change the plan.

    `takes` returns the duration of a run, `step` that of a training step. `anew` plans all runs again for a machine
    that is `factor` times as slow, with `left` seconds remaining. `shorten` shortens the runs from a seed on.
    """

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
    """Trains `workers` runs at a time until all planned runs have ended and no comparison is open, or the time is over.

    Attributes:
        plan: durations of the runs.
        trainer: starts and stops runs.
        look: returns the comparisons of all finished runs.
        clock: returns the time in seconds.
        deadline: time of that clock at which all runs must have ended.
        seeds: planned runs of each method.
        workers: number of runs at the same time.
        margin: a difference that counts as none.
        finished: method → seeds of finished runs, including those of earlier commands.
        tell: is called every POLL seconds, and with each run that ends.
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
    ended: list[tuple[float, float]] = field(default_factory=list)  # actual and planned seconds of the last runs
    settled: set[int] = field(default_factory=set)  # seeds whose number of steps must not change any more
    comparisons: Sequence[Comparison] = ()

    def run(self) -> None:
        """Train until the end.

        Raises:
            OSError: a run failed, or its process died.
        """
        self.start = self.clock()
        for seeds in self.finished.values():  # these runs followed the plan of an earlier command
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
        """Method → seeds whose runs have finished or are running."""
        taken = {name: set(self.finished.get(name, ())) for name in self.plan.methods}
        for job in self.running.values():
            taken[job.method].add(job.seed)
        return taken

    def next(self) -> Job | None:
        """The next run; None if there is none that ends in time."""
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
        """Measured / planned duration of the last repetition, including the elapsed time of the present runs.

        It is a quotient of sums, because a short run consists mostly of fixed costs and must have little weight.
        """
        known = [(job, far) for job in self.running.values() if (far := self.trainer.far(job))]
        so_far = [(self.clock() - self.began[job], far[0] * self.plan.step(job.method)) for job, far in known]
        actual, planned = (sum(column) for column in zip(*self.ended, *so_far, strict=True))
        return actual / planned if planned > 0 else self.pace

    def _keep_pace(self) -> None:
        """Restart a seed with another number of steps for all methods if its first runs show that the plan is wrong.

        The first runs of seed 0 measure the machine better than the timing before. So seed 0 is also restarted if they
        are faster than planned. No run of the seed may have ended: runs of different lengths cannot be compared.
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
        """Whether the planned runs from a seed on need more time than remains."""
        rest = sum(self.plan.takes(Job(m, k)) for k in range(seed, self.seeds) for m in self.plan.methods)
        return seed > 0 and self.pace * rest / self.workers > LATE * self.left

    def _stop(self, seed: int) -> None:
        """Stop the runs of a seed and delete them."""
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
