"""The command `evaluate`: the accuracy of a run."""

import statistics
from pathlib import Path

from jsonargparse import Namespace

from partialsym.cli.output import confusion_lines, say, scores_line
from partialsym.config import ConfigError, Experiment
from partialsym.data import Dataset
from partialsym.measure import accuracies_of_draws, accuracy, confusion, logits
from partialsym.runs.run import LoadedModel, Run
from partialsym.training.evaluation import calibration, scores
from partialsym.training.fit import load_data
from partialsym.training.progress import log_images


def run(options: Namespace) -> None:
    if options.draws < 0 or options.draws == 1:
        raise ConfigError(f"draws is {options.draws}: must be 0, or at least 2 for a spread.")
    if options.recalibrate and not options.draws:
        raise ConfigError("--recalibrate is for drawn elements: pass --draws, at least 2.")
    trained_run = Run(Path(options.run))
    config, trained = trained_run.config(), trained_run.model()
    data = load_data(config.data, options.data.root, trained.range)
    with log_images(trained.model, "evaluation"):
        _evaluate(options, config, trained, data)


def _evaluate(options: Namespace, config: Experiment, trained: LoadedModel, data: Dataset) -> None:
    split = getattr(data, options.split)
    answers = logits(trained.model, split.images, trained.preprocess)
    deterministic = accuracy(answers, split.labels)
    say(f"{options.split} accuracy: {100 * deterministic:.2f} % (n = {len(split)} images, deterministic)")
    say(scores_line(scores(answers, split.labels)))
    if options.confusion:
        for line in confusion_lines(confusion(split.labels, answers.argmax(1), len(data.classes)), data.classes):
            say(line)
    if options.draws:
        batches = calibration(config, data, trained.preprocess) if options.recalibrate else None
        shares = accuracies_of_draws(
            trained.model, split, trained.preprocess, options.draws, options.seed, batches=batches
        )
        drawn = [100 * share for share in shares]
        spread = statistics.stdev(drawn)
        own = ", BatchNorm statistics of each" if options.recalibrate else ""
        say(f"{options.split} accuracy: {statistics.mean(drawn):.2f} ± {spread:.2f} % ({options.draws} draws{own})")
