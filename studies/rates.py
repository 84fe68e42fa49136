"""Validation accuracy by learning rate, from which the rates of the budgets `short` and `compact` were chosen.

`python -m studies.rates` runs the trials. Each has fewer images, epochs or channels than its row. The rule for
`compact` was set before its trials: the rate with the highest mean over the methods. Of the test split 200 images are
evaluated, and nobody reads that number.
"""

import argparse
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from partialsym.config import Experiment
from partialsym.reproduction.table import load_table
from partialsym.training.fit import train


class Trial(NamedTuple):
    """A row of table 2, the rates that are tried, and what differs from the row."""

    row: str
    budget: str
    rates: tuple[float, ...]
    data: dict[str, Any]
    model: dict[str, Any]
    training: dict[str, Any]


CIFAR: dict[str, Any] = {"data": {"train_images": 9000}, "model": {}, "training": {"epochs": 4}}
TRIALS = (
    Trial("T2/plain+early-pools/rotMNIST", "short", (1e-3, 3e-3, 1e-2), {}, {"width": 32}, {"epochs": 4}),
    Trial("SE2-4/partial/rotMNIST", "short", (1e-3, 3e-3), {}, {"width": 16}, {"epochs": 3}),
    Trial("T2/plain/CIFAR-10", "compact", (1e-3, 3e-3, 1e-2), **CIFAR),
    Trial("SE2-4/full/CIFAR-10", "compact", (1e-3, 3e-3, 1e-2), **CIFAR),
    Trial("SE2-4/partial/CIFAR-10", "compact", (1e-3, 3e-3, 1e-2), **CIFAR),
)


def experiment(trial: Trial, lr: float) -> Experiment:
    """The config of a trial with one rate."""
    config = load_table("table2").experiment(trial.row, 0, trial.budget)
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
            last = run.result()["history"][-1]["validation_accuracy"]
            print(trial.row, trial.budget, lr, f"{100 * last:.1f}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
