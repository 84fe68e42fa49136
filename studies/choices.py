"""Validation accuracy and loss of candidates, from which the settings of budgets were chosen.

`python -m studies.choices` runs the trials. Each has fewer images, epochs or channels than its row. The rules were set
before the trials: for `short` and `compact` the highest accuracy, mean over the methods; for `medium` of MNIST6 the
highest accuracy, then the lowest loss; for crops of MNIST6, where accuracy is at its ceiling, the lowest loss, mean
over seeds. Of the test split 200 images are evaluated, and nobody reads that number.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from partialsym.config import Experiment
from partialsym.reproduction.table import load_table
from partialsym.training.fit import train

Settings = dict[str, dict[str, Any]]  # section → key → value, as in a config


class Trial(NamedTuple):
    """A row of a table, the candidates by name, and what all of them have that the row has not."""

    table: str
    row: str
    budget: str
    candidates: dict[str, Settings]
    common: Settings
    seeds: tuple[int, ...] = (0,)


def rates(*values: float) -> dict[str, Settings]:
    """Candidates that differ in the learning rate."""
    return {f"lr-{lr:g}": {"training": {"lr": lr}} for lr in values}


SIXES = "E2-8/partial/MNIST6-M"
CIFAR: Settings = {"data": {"train_images": 9000}, "training": {"epochs": 4}}
TRIALS = (
    Trial(
        "table2",
        "T2/plain+early-pools/rotMNIST",
        "short",
        rates(1e-3, 3e-3, 1e-2),
        {"model": {"width": 32}, "training": {"epochs": 4}},
    ),
    Trial(
        "table2",
        "SE2-4/partial/rotMNIST",
        "short",
        rates(1e-3, 3e-3),
        {"model": {"width": 16}, "training": {"epochs": 3}},
    ),
    *(
        Trial("table2", f"{method}/CIFAR-10", "compact", rates(1e-3, 3e-3, 1e-2), CIFAR)
        for method in ("T2/plain", "SE2-4/full", "SE2-4/partial")
    ),
    Trial("mnist6", SIXES, "medium", rates(1e-3, 3e-3), {"data": {"validation": 0.3}}),
    Trial(
        "mnist6",
        SIXES,
        "medium",
        {
            "epochs-12": {},
            "epochs-12-crop": {"data": {"augment": ("crop",)}},
            "epochs-24-crop": {"data": {"augment": ("crop",)}, "training": {"epochs": 24}},
            "epochs-12-crop-lr-0.001": {"data": {"augment": ("crop",)}, "training": {"lr": 1e-3}},
            "epochs-12-crop-density-lr-0.1": {"data": {"augment": ("crop",)}, "training": {"density_lr": 1e-1}},
        },
        {"data": {"validation": 0.3}},
        (0, 1),
    ),
)


def experiments(trial: Trial) -> Iterator[tuple[str, Experiment]]:
    """The configs of a trial, by candidate."""
    for name, candidate in trial.candidates.items():
        for seed in trial.seeds:
            config = load_table(trial.table).experiment(trial.row, seed, trial.budget)
            for settings in ({"data": {"test_images": 200}}, trial.common, candidate):
                config = replace(
                    config,
                    **{section: replace(getattr(config, section), **values) for section, values in settings.items()},
                )
            yield name, replace(config, name=f"choices/{trial.row}/{name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="runs", help="folder of all runs; interrupted ones are resumed")
    parser.add_argument("--rows", default="*", help="only the trials of rows that match this pattern")
    parser.add_argument("--candidates", default="*", help="only the candidates that match this pattern")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these seeds, of those that a trial has")
    options = parser.parse_args()
    for trial in TRIALS:
        for name, config in experiments(trial) if fnmatchcase(trial.row, options.rows) else ():
            if not fnmatchcase(name, options.candidates) or config.seed not in (options.seeds or trial.seeds):
                continue
            last = train(config, options.out, resume=True, progress=False).result()["history"][-1]
            shown = f"{100 * last['validation_accuracy']:.2f} % (loss {last['validation_loss']:.4f})"
            print(trial.row, trial.budget, name, f"seed {config.seed}", shown, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
