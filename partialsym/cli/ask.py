"""The command `ask`: which symmetries do these images have?"""

import shlex
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from jsonargparse import Namespace

from partialsym._utils.signals import Stopped
from partialsym._utils.validation import check
from partialsym.ask import Question, ask, caveats
from partialsym.ask.look import FILE, read, sentences
from partialsym.ask.methods import METHODS, Shape
from partialsym.ask.planning import Plan
from partialsym.cli.output import parse_time, say
from partialsym.config import ConfigError
from partialsym.report import gather, judge, write, write_answer
from partialsym.runs.run import Run

KINDS = {"CNN3": "networks of three convolutions", "ResNet": "residual networks"}
WORDS = {
    "SE2": "rotations, SE(2)",
    "Mirror": "mirroring",
    "E2": "rotations and mirrorings together, E(2), and about each alone",
}


def run(options: Namespace) -> None:
    if options.data.source != "folder" and options.data.name is None:
        raise ConfigError(
            "no images are named: use --data folder --data.root DIR, --data hf --data.name NAME (a data set on the "
            "Hub, or a folder written by save_to_disk), or, for example, --data.name MNIST6-180."
        )
    margin = options.margin
    check("margin", margin, 0 < margin < 100, "more than 0 and less than 100, in points")
    question, runs, stopped = ask(
        options.data,
        options.group,
        network=options.network,
        budget=parse_time(options.budget),
        out=options.out,
        seeds=options.seeds,
        workers=options.workers,
        margin=margin / 100,
    )
    if stopped and not runs:
        raise Stopped(f"{options.out} was stopped before any run ended: run the same command again to continue.")
    if not runs:
        raise ConfigError(
            f"no run ended in {options.budget}: run the same command again to continue, or use a longer --budget."
        )
    out, command = Path(options.out), f"partialsym fit --from {shlex.quote(options.out)}"
    judged, seen = judge(gather(runs, options.data.root, lengths=False), margin / 100), read(out / FILE)
    page = write(judged, out / "report.html", asked(question, runs), seen, command)
    answer = write_answer(out / "answer.json", judged, seen, question, runs, margin / 100, command)
    if judged.verdict is None:
        say(judged.problem)
    else:
        say(judged.verdict.headline)
        for sentence in sentences(seen):
            say(f"  The images: {sentence}")
        for finding in judged.verdict.findings:
            say(f"  {finding.question}: {finding.answer}. {finding.text}")
        say(f"  {judged.verdict.best}")
        advice = judged.verdict.recommendation
        if advice:
            say(" ".join(filter(None, (advice.sentence, advice.reasons, advice.costs))))
        if advice and advice.method:
            say(f"to train it longer: {command}")
    say(f"report: {page}, for scripts: {answer}")
    if stopped:
        raise Stopped(
            f"{options.out} was stopped: the page shows the results so far. Run the same command again to continue."
        )


def asked(question: Question, runs: Sequence[Run]) -> str:
    """The question in a paragraph, and below it how the networks were trained and tested."""
    plan, images = question.plan, runs[0].result()["images"]
    assert plan is not None
    trained = runs[0].model()
    shape = Shape(trained.size, len(trained.preprocess.mean), len(trained.classes))
    inexact = "".join(f"\n\nNote that {caveat}" for caveat in caveats(question.group, shape, question.network))
    kind = KINDS.get(question.network, f"networks {question.network!r}")
    part = "" if plan.length(0).images is None else ", a part of the available ones"
    return (
        f"Which rotations and mirrorings leave the classes of {runs[0].result()['data']!r} unchanged? The question is "
        f"about {WORDS[question.group]}.\n\n"
        f"On {images['train']:,} training images{part}, {len(runs)} networks were trained on equal terms: "
        f"{kind} of width {plan.width}, {_steps(plan, runs)}. They differ in the group, and "
        f"in whether each layer learns which part of it to use. {images['validation']:,} validation images monitored "
        "the training and, where necessary, chose the elements that a network uses in evaluation. The accuracies were "
        f"measured on {images['test']:,} test images, which were used for nothing else."
        f"{_divided(question)}{_lowered(question)}{inexact}"
    )


def _steps(plan: Plan, runs: Sequence[Run]) -> str:
    """The lengths of the trainings, with their seeds if the lengths differ because the machine became slower."""
    steps: dict[int, int] = {}
    for run in runs:
        config, images = run.result()["config"], run.result()["images"]["train"]
        steps[config["seed"]] = plan.length(config["seed"]).steps(images, plan.batch)
    if len({*steps.values()}) == 1:
        return f"{next(iter(steps.values())):,} steps of {plan.batch} images each"
    which = [f"{count:,} steps {_seeds([*seeds])}" for count, seeds in groupby(sorted(steps), key=steps.__getitem__)]
    return f"{', '.join(which)}, of {plan.batch} images each, because the machine became slower meanwhile"


def _seeds(some: Sequence[int]) -> str:
    """`with seed 0`, `with seeds 1 to 15`."""
    return f"with seed {some[0]}" if len(some) == 1 else f"with seeds {some[0]} to {some[-1]}"


def _divided(question: Question) -> str:
    if question.data.folds is None:
        return ""
    together = "" if question.data.split_by is None else ", which never divide images that belong together,"
    return (
        f"\n\nThe images had no test split. Each seed tests on one of {question.data.folds} folds{together} and "
        "trains on the others."
    )


def _lowered(question: Question) -> str:
    """A sentence about the parts of the plan that did not fit into the budget; empty if all of it fitted."""
    assert question.plan is not None
    size, said = question.plan.size, []
    if size is not None:
        said.append(f"the images were reduced to {size[0]}×{size[1]} pixels")
    if missing := [name for name in METHODS[question.group] if name not in question.plan.methods]:
        said.append(f"{' and '.join(missing)} were left out")
    return f"\n\nBecause the time was limited, {' and '.join(said)}." if said else ""
