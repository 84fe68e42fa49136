"""Which symmetries do these images have? Trains what it takes to answer, within a time."""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

from partialsym._utils.signals import Stopped
from partialsym._utils.validation import check, one_of
from partialsym.ask.look import look, seconds as looking
from partialsym.ask.methods import METHODS, Shape, methods
from partialsym.ask.planning import BATCH, ENOUGH, LEAST, WIDTHS, Budget, Plan, Seconds, plan
from partialsym.ask.question import Question
from partialsym.ask.timing import measure
from partialsym.ask.workers import as_they_end, default_workers, pool, run_one
from partialsym.config import DataConfig, Experiment
from partialsym.data import Dataset
from partialsym.measure import ANGLES
from partialsym.runs.run import Run
from partialsym.training.behaviour import ANSWERED, COMPARED, TURNED, TURNS
from partialsym.training.evaluation import images_evaluated
from partialsym.training.fit import build_model, inexact, load_data, run_folder

log = logging.getLogger(__name__)
GLANCE = 8  # images


def ask(
    data: DataConfig,
    group: str = "E2",
    *,
    network: str = "ResNet",
    budget: float = 600.0,
    out: str | Path = "ask",
    seeds: int = 3,
    workers: int | None = None,
) -> tuple[Question, list[Run]]:
    """Train a plain CNN, full G-CNNs and a Partial G-CNN on equal terms, as long as the budget lasts.

    Before that, small networks are trained to tell images from their turned and mirrored copies, see `look`; what they
    see is kept in OUT/images.json.

    Under E2 also full networks of rotations alone and of mirroring alone, so that each gets a verdict of its own.
    Width and steps are chosen, the same for all, such that everything fits into the budget on this machine; the choice
    is kept in OUT/ask.json, and asking again goes on with the runs in OUT/runs. A run that would not end in time is not
    begun, seed after seed, so that methods have as many seeds as there is time for.

    Args:
        data: the images.
        group: SE2, Mirror or E2.
        network: which kind is trained, ResNet or one that was registered.
        budget: seconds on the clock.
        out: folder of this question and no other.
        seeds: runs of each method. A later, larger number adds runs.
        workers: runs at a time; by default one a core, on a GPU one.
    Returns:
        The question with its plan, and the finished runs, by method, then seed.
    Raises:
        ConfigError: an argument out of range, a budget that is too small, another question or other images in `out`.
        OSError: a training failed.
        Stopped: by the user.
    """
    deadline = time.time() + budget
    one_of("group", group, tuple(METHODS))
    check("seeds", seeds, seeds >= 1, "at least 1")
    workers = default_workers() if workers is None else workers
    check("workers", workers, workers >= 1, "at least 1")
    check("data.stream", data.stream, not data.stream or data.source != "hf", "false: a question is of all images")
    images = load_data(replace(data, train_images=None))
    question = Question.of(data, group, Path(out), images, network)
    if question.plan is not None:
        log.info("%s holds the plan: for a new one, say of longer training, choose another --out", question.file)
    shape = Shape(images.size, images.channels, len(images.classes))
    for caveat in caveats(group, shape, network):
        log.info("%s", caveat)
    try:
        with pool(workers) as executor:
            if question.plan is None:
                train, after = question.data.train_images or len(images.train), _evaluated(question.data, images)
                left = deadline - time.time() - looking(budget)
                spend = Budget(left, seeds, workers, train, len(images.validation), after)
                question = question.planned(_plan(executor, spend, question, shape))
            look(executor, workers, group, images, question.out, looking(budget))
            experiments = question.experiments(shape, seeds)
            _train(executor, question, experiments, images, deadline)
    except KeyboardInterrupt:
        raise Stopped(f"{out} is stopped: the same command goes on.") from None
    order = list(METHODS[group])
    runs = [(config, run_folder(config, question.folder)) for config in experiments]
    done = sorted((order.index(config.name), config.seed, run) for config, run in runs if run.finished)
    return question, [run for *_, run in done]


def caveats(group: str, shape: Shape, network: str = "ResNet") -> list[str]:
    """What the full networks are only approximately invariant to, a sentence each."""
    found = methods(group, shape, min(WIDTHS), network).values()
    return list(filter(None, (inexact(m, build_model(m, shape.channels, shape.classes), shape.size) for m in found)))


def _evaluated(config: DataConfig, data: Dataset) -> int:
    """Images a run evaluates after its training: in `evaluation`, with one draw, and in `behaviour`."""
    return (
        images_evaluated(config, data, draws=1)
        + min(len(data.test), ANSWERED)
        + 2 * len(ANGLES) * TURNED
        + 4 * len(TURNS) * COMPARED
    )


def _plan(executor: Executor, budget: Budget, question: Question, shape: Shape) -> Plan:
    """Time the methods, the widest first, with all workers busy, until a width gets enough steps.

    Before that a few images pass through the narrowest: a budget that is too small is then refused in seconds.
    """
    log.info("timing the networks on this machine")

    def timed(width: int, batch: int) -> dict[str, Seconds]:
        found = methods(question.group, shape, width, question.network)
        # the costly ones first
        jobs = {executor.submit(measure, found[name], shape, batch): name for name in sorted(found)}
        return dict(as_they_end(jobs))

    glance = timed(min(WIDTHS), GLANCE)
    if budget.steps(glance) < LEAST:  # not even steps on so few images
        more = BATCH / GLANCE
        return plan(budget, {min(WIDTHS): {name: Seconds(more * s.step, s.image) for name, s in glance.items()}})
    measured: dict[int, dict[str, Seconds]] = {}
    for width in WIDTHS:
        measured[width] = timed(width, BATCH)
        if budget.steps(measured[width]) >= ENOUGH:
            break
    return plan(budget, measured)


def _train(
    executor: Executor, question: Question, experiments: Sequence[Experiment], data: Dataset, deadline: float
) -> None:
    assert question.plan is not None
    if count := question.plan.images or question.data.train_images:
        data = data.with_train(count, question.data.split_seed)
    jobs = {
        executor.submit(run_one, config, question.folder, data, deadline, question.plan.seconds[config.name]): config
        for config in experiments
    }
    for done, (config, ran) in enumerate(as_they_end(jobs, _of), 1):
        left = max(0.0, deadline - time.time()) / 60
        what = _of(config) + ("" if ran else ": no time left")
        log.info("%d of %d: %s (%.1f minutes left)", done, len(jobs), what, left)


def _of(config: Experiment) -> str:
    return f"{config.name}, seed {config.seed}"
