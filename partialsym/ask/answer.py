"""Which symmetries do these images have? Trains what it takes to answer, within a time."""

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from partialsym._utils.validation import check, one_of
from partialsym.ask.decide import MARGIN, SEEDS, comparisons
from partialsym.ask.look import look, seconds as looking, whole
from partialsym.ask.method_results import method_results
from partialsym.ask.methods import METHODS, NETWORK, Shape, methods
from partialsym.ask.planning import LEAST, PAGE, START, Budget, Length, Plan, Seconds, plan, revised
from partialsym.ask.question import MOST_SEEDS, Question
from partialsym.ask.schedule import Comparison, Job, Schedule
from partialsym.ask.text import signed
from partialsym.ask.timing import measure
from partialsym.ask.workers import SILENT, STOP, as_they_end, default_workers, pool, progress, run_one, stopping
from partialsym.config import DataConfig, Experiment
from partialsym.data import Dataset
from partialsym.runs.run import Run
from partialsym.training.behaviour import images_measured, read_behaviour
from partialsym.training.evaluation import CHOOSING, images_evaluated
from partialsym.training.fit import build_model, inexact, load_data, run_folder

log = logging.getLogger(__name__)
FOLDS = SEEDS  # that images without a test split are divided into: the first seeds test all of them


class Asked(NamedTuple):
    """The question with its plan, and the finished runs, by method, then seed; `stopped` by Ctrl-C."""

    question: Question
    runs: list[Run]
    stopped: bool = False


def ask(
    data: DataConfig,
    group: str = "E2",
    *,
    network: str = NETWORK,
    budget: float = 600.0,
    out: str | Path = "ask",
    seeds: int = SEEDS,
    workers: int | None = None,
    margin: float = MARGIN,
) -> Asked:
    """Train a plain CNN, full G-CNNs and a Partial G-CNN on equal terms, as long as the budget lasts.

    Before that, small networks are trained to tell images from their turned and mirrored copies, see `look`; what they
    see is kept in OUT/images.json.

    Under E2 also full networks of rotations alone and of mirroring alone, so that each gets a verdict of its own.
    Width and steps are chosen, the same for all, such that everything fits into the budget on this machine (see
    `partialsym.ask.planning`); the choice is kept in OUT/ask.json, and asking again goes on with the runs in OUT/runs.
    What time is left then goes into further seeds of the comparisons that are still open (`partialsym.ask.schedule`).

    Own images without a test split are divided into folds: each seed tests on one and trains on the others.

    Args:
        data: the images.
        group: SE2, Mirror or E2.
        network: which kind is trained, CNN3, ResNet or another one that is registered.
        budget: seconds on the clock.
        out: folder of this question and no other.
        seeds: runs of each method at least. A later, larger number adds runs.
        workers: runs at a time; by default one a core, on a GPU one.
        margin: a difference of balanced accuracies that makes none, in (0, 1): what is within it is closed.
    Returns:
        The question with its plan, and the finished runs, by method, then seed.
    Raises:
        ConfigError: an argument out of range, a budget that is too small, another question or other images in `out`.
        OSError: a training failed.
    """
    deadline = time.time() + budget
    one_of("group", group, tuple(METHODS))
    check("seeds", seeds, 1 <= seeds <= MOST_SEEDS, f"in [1, {MOST_SEEDS}]")
    workers = default_workers() if workers is None else workers
    check("workers", workers, workers >= 1, "at least 1")
    check("data.stream", data.stream, not data.stream or data.source != "hf", "false: a question is of all images")
    check("data.fold", data.fold, data.fold == 0, "left out: every fold is asked of")
    if data.source != "named" and data.folds is None:
        data = replace(data, folds=FOLDS)
    log.info("reading the images")
    images = load_data(replace(data, train_images=None))
    if images.folds is None:  # they have a test split
        data = replace(data, folds=None)
    question = Question.of(data, group, Path(out), images, network)
    if question.plan is not None:
        log.info("%s holds the plan: for a new one, say of longer training, choose another --out", question.file)
    for caveat in caveats(group, _shape(images), network):
        log.info("%s", caveat)
    stopped = False
    with pool(workers) as executor:
        asking = _Asking(executor, question, images, seeds, workers, deadline)
        try:
            asking.make_plan(budget)
            look(executor, workers, group, images, question.out, looking(budget))
            asking.train(margin)
        except KeyboardInterrupt:
            stopped = True
            with stopping(asking.folders()):
                executor.shutdown(wait=True, cancel_futures=True)
    return Asked(asking.question, asking.question.finished(_shape(images)), stopped)


def caveats(group: str, shape: Shape, network: str = NETWORK) -> list[str]:
    """What the full networks are only approximately invariant to, a sentence each."""
    found = methods(group, shape, 1, network).values()
    return list(filter(None, (inexact(m, build_model(m, shape.channels, shape.classes), shape.size) for m in found)))


class _Asking:
    """A question being answered: the plan and the trainings of a `Schedule`."""

    def __init__(
        self, executor: Executor, question: Question, images: Dataset, seeds: int, workers: int, deadline: float
    ) -> None:
        self.executor, self.question, self.images = executor, question, images
        self.seeds, self.workers, self.deadline = seeds, workers, deadline
        self.sets: dict[tuple[int, Length], Dataset] = {}
        self.read: dict[Path, tuple[dict[str, Any], dict[str, Any]]] = {}
        self.told = 0.0
        self.running: list[Job] = []

    # The plan.

    def make_plan(self, total: float) -> None:
        """Where there is none: time the networks, with all workers busy, the narrowest first.

        Args:
            total: seconds of the whole command, of which some have passed, and the look at the images takes some.
        """
        question, own = self.question, self.images.size

        def timed(size: tuple[int, int] | None, width: int) -> dict[str, Seconds]:
            shape = _shape(self.images)._replace(size=size or own)
            log.info("timing the networks on this machine: width %d, %d×%d pixels", width, *shape.size)
            found = methods(question.group, shape, width, question.network)
            jobs = {self.executor.submit(measure, model, shape): name for name, model in found.items()}
            taken = dict(as_they_end(jobs, "timing {}".format))
            return {name: taken[name] for name in found}

        if question.plan is None:
            passed = total - (self.deadline - time.time())
            left = self.budget(total - passed - looking(total))._replace(whole=lambda s: whole(s + passed))
            made = plan(left, timed, own, resizable=question.data.source != "named")
            self.question = question.planned(made)
            log.info("%s", made.words(len(self.images.train)))

    def budget(self, seconds: float, seeds: int | None = None) -> Budget:
        images, data = self.images, self.question.data
        evaluated = images_evaluated(data, images, draws=1) + images_measured(len(images.test))
        settings = METHODS[self.question.group]
        learning = frozenset(name for name, setting in settings.items() if setting["partial"])
        count, chosen = data.train_images or len(images.train), min(CHOOSING, len(images.validation))
        seeds = self.seeds if seeds is None else seeds
        return Budget(seconds, seeds, self.workers, count, len(images.validation), evaluated, chosen, learning)

    @property
    def plan(self) -> Plan:
        assert self.question.plan is not None
        return self.question.plan

    @property
    def methods(self) -> tuple[str, ...]:
        return self.plan.methods

    def takes(self, job: Job) -> float:
        return self.plan.takes(*job, len(self.images.train))

    def step(self, method: str) -> float:
        return self.plan.seconds[method].step

    def anew(self, factor: float, left: float) -> None:
        made = revised(self.plan, self.budget(left), factor)
        self.question = self.question.planned(made)
        log.info(
            "the machine is %.1f times as slow as when it was timed: %s", factor, made.words(len(self.images.train))
        )

    def shorten(self, seed: int, left: float) -> None:
        rest = self.budget(left + START + PAGE, self.seeds - seed)  # which are over, or are no part of `left`
        taken = {name: self.plan.seconds[name] for name in self.methods}
        length = rest.length(max(LEAST, rest.steps(taken)))
        if length.steps(len(self.images.train), self.plan.batch) < self.steps(seed):
            self.question = self.question.planned(self.plan.shortened(seed, length))
            log.info("the machine has become slower: from seed %d on all take %d steps", seed, self.steps(seed))

    def steps(self, seed: int) -> int:
        return self.plan.length(seed).steps(len(self.images.train), self.plan.batch)

    # The trainings.

    def train(self, margin: float) -> None:
        finished = {name: {seed for seed in range(MOST_SEEDS) if self.known(Job(name, seed))} for name in self.methods}
        schedule = Schedule(
            self,
            self,
            partial(self.look, margin),
            time.time,
            self.deadline - PAGE,
            self.seeds,
            self.workers,
            margin,
            finished,
            self.tell,
        )
        schedule.run()

    def begin(self, job: Job) -> "Future[bool]":
        config = self.config(job)
        self.running = [*self.running, job]
        (run_folder(config, self.question.folder).folder / STOP).unlink(missing_ok=True)  # of a command that was killed
        return self.executor.submit(run_one, config, self.question.folder, self.data(job.seed))

    def far(self, job: Job) -> tuple[int, float] | None:
        said = progress(self.config(job), self.question.folder)
        return None if said is None else (said.step, said.seconds)

    def stop(self, jobs: Sequence[Job], ended: Callable[[], object]) -> None:
        """Stop these runs, which have just begun, and forget them."""
        folders = [run_folder(self.config(job), self.question.folder).folder for job in jobs]
        with stopping(folders):
            ended()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)

    def folders(self) -> list[Path]:
        """Of the runs that are being trained."""
        return [run_folder(self.config(job), self.question.folder).folder for job in self.running]

    def config(self, job: Job) -> Experiment:
        return self.question.experiment(job.method, job.seed, _shape(self.images))

    def data(self, seed: int) -> Dataset:
        """The images of a seed: of its fold, in the size of the plan, and as many as it trains on."""
        given, length = self.question.images(seed), self.plan.length(seed)
        key = (given.fold, length)
        if key not in self.sets:
            if given.fold == 0 and self.plan.size is None:
                found = self.images
            else:
                found = load_data(replace(given, train_images=None))
            count = length.images or given.train_images
            found = found if count is None else found.with_train(min(count, len(found.train)), given.split_seed)
            self.sets[key] = found
        return self.sets[key]

    # What they say.

    def known(self, job: Job) -> bool:
        """Whether a run has finished, and how it behaves is measured."""
        run = run_folder(self.config(job), self.question.folder)
        return run.finished and (run.folder / "behaviour.json").is_file()

    def look(self, margin: float) -> list[Comparison]:
        """The comparisons of the finished runs."""
        arms = []
        for name in self.methods:
            runs = [run_folder(self.config(Job(name, k)), self.question.folder) for k in range(MOST_SEEDS)]
            for run in runs:
                if run.folder not in self.read and run.finished and (run.folder / "behaviour.json").is_file():
                    self.read[run.folder] = (run.result(), read_behaviour(run.folder / "behaviour.json"))
            there = [self.read[run.folder] for run in runs if run.folder in self.read]
            if there:
                arms.append(method_results(name, *map(list, zip(*there, strict=True))))
        return [Comparison(*one) for one in comparisons(arms, margin)] if arms else []

    def tell(self, schedule: Schedule, ended: Job | None) -> None:
        """Say how far all is: when a run ends, and after SILENT seconds."""
        now = time.time()
        left = f"{max(0.0, self.deadline - now) / 60:.1f} minutes left"
        if ended is not None:
            self.told = now
            count = sum(map(len, schedule.finished.values()))
            known = [c for c in schedule.comparisons if c.difference is not None and c.difference.seeds > 1]
            so_far = [f"{c.one} against {c.other} {signed(c.difference.interval())}" for c in known if c.difference]
            log.info("%s (run %d) has ended; %s", _of(ended), count, left)
            if so_far and ended.method in {name for c in known for name in c[:2]}:
                log.info("  so far: %s", "; ".join(so_far))
        elif now - self.told >= SILENT:
            self.told = now
            log.info("%s; %s", "; ".join(self.how_far(job) for job in schedule.running.values()) or "no run", left)

    def how_far(self, job: Job) -> str:
        said = progress(self.config(job), self.question.folder)
        if said is None:
            return f"{_of(job)}: starting"
        return f"{_of(job)}: " + ("measuring how it answers" if said.measuring else f"step {said.step} of {said.steps}")


def _shape(images: Dataset) -> Shape:
    return Shape(images.size, images.channels, len(images.classes))


def _of(job: Job) -> str:
    return f"{job.method}, seed {job.seed}"
