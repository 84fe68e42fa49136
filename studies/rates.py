"""Validation accuracy by learning rate, from which the rates of budgets were chosen.

`python -m studies.rates` runs the trials. Each has fewer images, epochs or channels than its row. The rules were set
before the trials: for `compact` the rate with the highest mean over the methods, for `medium` of MNIST6 the rate with
the highest validation accuracy, then the lowest validation loss. Of the test split 200 images are evaluated, and nobody
reads that number.
"""

import argparse
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from partialsym.config import Experiment
from partialsym.reproduction.table import load_table
from partialsym.training.fit import train


class Trial(NamedTuple):
    """A row of a table, the rates that are tried, and what differs from the row."""

    table: str
    row: str
    budget: str
    rates: tuple[float, ...]
    data: dict[str, Any]
    model: dict[str, Any]
    training: dict[str, Any]


CIFAR: dict[str, Any] = {"data": {"train_images": 9000}, "model": {}, "training": {"epochs": 4}}
TRIALS = (
    Trial("table2", "T2/plain+early-pools/rotMNIST", "short", (1e-3, 3e-3, 1e-2), {}, {"width": 32}, {"epochs": 4}),
    Trial("table2", "SE2-4/partial/rotMNIST", "short", (1e-3, 3e-3), {}, {"width": 16}, {"epochs": 3}),
    Trial("table2", "T2/plain/CIFAR-10", "compact", (1e-3, 3e-3, 1e-2), **CIFAR),
    Trial("table2", "SE2-4/full/CIFAR-10", "compact", (1e-3, 3e-3, 1e-2), **CIFAR),
    Trial("table2", "SE2-4/partial/CIFAR-10", "compact", (1e-3, 3e-3, 1e-2), **CIFAR),
    Trial("mnist6", "E2-8/partial/MNIST6-M", "medium", (1e-3, 3e-3), {"validation": 0.3}, {}, {}),
)


def experiment(trial: Trial, lr: float) -> Experiment:
    """The config of a trial with one rate."""
    config = load_table(trial.table).experiment(trial.row, 0, trial.budget)
    return replace(
        config,
        name=f"rates/{trial.row}/{lr}",
        data=replace(config.data, **{"test_images": 200} | trial.data),
        model=replace(config.model, **trial.model),
        training=replace(config.training, **{"lr": lr} | trial.training),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="runs", help="folder of all runs; interrupted ones are resumed")
    parser.add_argument("--rows", default="*", help="only the trials of rows that match this pattern")
    options = parser.parse_args()
    for trial in TRIALS:
        for lr in trial.rates if fnmatchcase(trial.row, options.rows) else ():
            run = train(experiment(trial, lr), options.out, resume=True, progress=False)
            last = run.result()["history"][-1]
            shown = f"{100 * last['validation_accuracy']:.2f} % (loss {last['validation_loss']:.4f})"
            print(trial.row, trial.budget, lr, shown, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
