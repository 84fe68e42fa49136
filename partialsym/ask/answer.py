"""Which symmetries do these images have? `ask` trains the networks that answer this, within a time budget."""

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
FOLDS = SEEDS  # images without a test split are divided into so many folds: the first seeds then test all images


class Asked(NamedTuple):
    """The question with its plan, and the finished runs, sorted by method, then by seed.

    `stopped` tells whether Ctrl-C ended the command.
    """

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

    Before that, `look` trains small networks to tell images from their turned and mirrored copies, and writes the
    results to OUT/images.json.

    For E2, `ask` also trains full networks of rotations alone and of mirroring alone, so that each symmetry gets its
    own verdict. All networks have the same width and number of steps. `partialsym.ask.planning` chooses both such that
    everything fits into the budget on this machine, and OUT/ask.json stores the choice. A second call continues the
    runs in OUT/runs. The remaining time is used for further seeds of the comparisons that are still open
    (`partialsym.ask.schedule`).

    If own images have no test split, they are divided into folds: each seed tests on one and trains on the others.

    Args:
        data: the images.
        group: SE2, Mirror or E2.
        network: the kind of network: CNN3, ResNet or another registered one.
        budget: time for the whole call, in seconds.
        out: folder of this question; it must contain no other question.
        seeds: smallest number of runs per method. A later call with a larger number adds runs.
        workers: number of runs at the same time; by default one per core, or one on a GPU.
        margin: a difference of balanced accuracies that counts as none, in (0, 1). A comparison whose interval lies
            within ±margin gets no further runs.
    Returns:
        The question with its plan, and the finished runs, sorted by method, then by seed.
    Raises:
        ConfigError: an argument is out of range, the budget is too small, or `out` belongs to another question or to
            other images.
        OSError: a training failed.
    """
    deadline = time.time() + budget
    one_of("group", group, tuple(METHODS))
    check("seeds", seeds, 1 <= seeds <= MOST_SEEDS, f"in [1, {MOST_SEEDS}]")
    workers = default_workers() if workers is None else workers
    check("workers", workers, workers >= 1, "at least 1")
    check("data.stream", data.stream, not data.stream or data.source != "hf", "false: a question needs all images")
    check("data.fold", data.fold, data.fold == 0, "left out: a question uses every fold")
    if data.source != "named" and data.folds is None:
        data = replace(data, folds=FOLDS)
    log.info("reading the images")
    images = load_data(replace(data, train_images=None))
    if images.folds is None:  # they have a test split
        data = replace(data, folds=None)
    question = Question.of(data, group, Path(out), images, network)
    if question.plan is not None:
        log.info("using the plan in %s: for a new plan, such as longer training, choose another --out", question.file)
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
    """One sentence for each full network that is invariant to its group only approximately."""
    found = methods(group, shape, 1, network).values()
    return list(filter(None, (inexact(m, build_model(m, shape.channels, shape.classes), shape.size) for m in found)))


class _Asking:
    """The plan and the trainings of one question: it implements `Planned` and `Trainer` for a `Schedule`."""

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
        """Time the networks with all workers busy, the narrowest first, and plan by that; do nothing if a plan exists.

        Args:
            total: seconds of the whole command; a part has passed, and the look at the images needs another part.
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
        rest = self.budget(left + START + PAGE, self.seeds - seed)  # the start is over; `left` excludes the page
        taken = {name: self.plan.seconds[name] for name in self.methods}
        length = rest.length(max(LEAST, rest.steps(taken)))
        if length.steps(len(self.images.train), self.plan.batch) < self.steps(seed):
            self.question = self.question.planned(self.plan.shortened(seed, length))
            log.info("the machine has become slower: from seed %d on all runs have %d steps", seed, self.steps(seed))

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
        request = run_folder(config, self.question.folder).folder / STOP
        request.unlink(missing_ok=True)  # a killed command may leave it
        return self.executor.submit(run_one, config, self.question.folder, self.data(job.seed))

    def far(self, job: Job) -> tuple[int, float] | None:
        said = progress(self.config(job), self.question.folder)
        return None if said is None else (said.step, said.seconds)

    def stop(self, jobs: Sequence[Job], ended: Callable[[], object]) -> None:
        """Stop these runs, which have just begun, and delete their folders."""
        folders = [run_folder(self.config(job), self.question.folder).folder for job in jobs]
        with stopping(folders):
            ended()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)

    def folders(self) -> list[Path]:
        """The folders of the runs that have begun."""
        return [run_folder(self.config(job), self.question.folder).folder for job in self.running]

    def config(self, job: Job) -> Experiment:
        return self.question.experiment(job.method, job.seed, _shape(self.images))

    def data(self, seed: int) -> Dataset:
        """The images of a seed: its fold, at the plan's size, with as many training images as its length uses."""
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

    # The results.

    def known(self, job: Job) -> bool:
        """Whether a run has finished and its behaviour is measured."""
        run = run_folder(self.config(job), self.question.folder)
        return run.finished and (run.folder / "behaviour.json").is_file()

    def look(self, margin: float) -> list[Comparison]:
        """The comparisons of the finished runs."""
        methods = []
        for name in self.methods:
            runs = [run_folder(self.config(Job(name, k)), self.question.folder) for k in range(MOST_SEEDS)]
            for run in runs:
                if run.folder not in self.read and run.finished and (run.folder / "behaviour.json").is_file():
                    self.read[run.folder] = (run.result(), read_behaviour(run.folder / "behaviour.json"))
            there = [self.read[run.folder] for run in runs if run.folder in self.read]
            if there:
                methods.append(method_results(name, *map(list, zip(*there, strict=True))))
        return [Comparison(*one) for one in comparisons(methods, margin)] if methods else []

    def tell(self, schedule: Schedule, ended: Job | None) -> None:
        """Log the progress: when a run ends, and after SILENT seconds without a line."""
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
