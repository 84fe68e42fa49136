"""Why the CNN leads on CIFAR-10 in the budget `compact`: one setting at a time, on validation images.

`python -m studies.controls` runs the trials: each is a row of table 2 with a fifth of the training images, 10 epochs
and one setting changed. `python -m studies.controls --table` writes their validation accuracies into
docs/reproduction.md. Of the test split 200 images are evaluated, and nobody reads that number.
"""

import argparse
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.tables import fill
from partialsym.config import Experiment
from partialsym.reproduction.table import load_table
from partialsym.runs.schema import read_result
from partialsym.training.fit import train

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "controls"
TABLE, BUDGET = "table2", "compact"
IMAGES, EPOCHS = 9000, 10
CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "as it is": {},
    "pixel-grid kernel": {"model": {"kernel": "Grid"}},
    "three times the epochs": {"training": {"epochs": 3 * EPOCHS}},
    "quarter turns": {"model": {"group": "C4"}},
    "rate of θ 1e-3": {"training": {"density_lr": 1e-3}},
    "rate of θ 1e-1": {"training": {"density_lr": 1e-1}},
    "eight elements": {"model": {"samples": 8}},
    "no kernel norm": {"training": {"kernel_norm": 0.0}},
}


class Trial(NamedTuple):
    """A row of table 2, and the changes that are tried in it."""

    row: str
    changes: tuple[str, ...]


SHARED = ("as it is", "pixel-grid kernel", "three times the epochs")
TRIALS = (
    Trial("T2/plain/CIFAR-10", (*SHARED, "no kernel norm")),
    Trial("SE2-4/partial/CIFAR-10", (*SHARED, *list(CHANGES)[4:])),
    Trial("SE2-4/full/CIFAR-10", ("as it is", "pixel-grid kernel", "quarter turns")),
)


def experiment(row: str, change: str) -> Experiment:
    """The config of a trial."""
    config = load_table(TABLE).experiment(row, 0, BUDGET)
    changed = CHANGES[change]
    return replace(
        config,
        name=f"controls/{row}/{change.replace(' ', '-')}",
        data=replace(config.data, train_images=IMAGES, test_images=200),
        model=replace(config.model, **changed.get("model", {})),
        training=replace(config.training, **{"epochs": EPOCHS} | changed.get("training", {})),
    )


def place(row: str, change: str, folder: Path = RESULTS) -> Path:
    """The file of a trial's result."""
    return folder / row / change.replace(" ", "-") / "seed0.json"


def table(folder: Path = RESULTS) -> str:
    """Accuracy on training and validation images at the end, and what the layers retain, by row and change."""
    lines = ["| row | change | training, % | validation, % | θ after lifting, of 180° |", "| --- |" + " --- |" * 4]
    for row, changes in TRIALS:
        for change in changes:
            file = place(row, change, folder)
            cells = _cells(read_result(file)) if file.is_file() else [""] * 3
            lines.append("| " + " | ".join([row.removesuffix("/CIFAR-10"), change, *cells]) + " |")
    return "\n".join(lines)


def _cells(result: dict[str, Any]) -> list[str]:
    last = result["history"][-1]
    shares = [s["theta_deg"] / 180 for s in result["subsets"][1:] if "theta_deg" in s]
    learned = result["config"]["model"]["partial"]
    return [
        f"{100 * last['train_accuracy']:.1f}",
        f"{100 * last['validation_accuracy']:.1f}",
        " ".join(f"{share:.2f}" for share in shares) if learned else "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="runs", help="folder of all runs; interrupted ones are resumed")
    parser.add_argument("--publish", default=str(RESULTS), help="folder of the results; what it holds is not run")
    parser.add_argument("--rows", default="*", help="only trials of rows that match this pattern")
    parser.add_argument("--changes", default="*", help="only changes that match this pattern")
    parser.add_argument("--table", action="store_true", help="only write the table of what is published")
    options = parser.parse_args()
    if options.table:
        fill(ROOT / "docs" / "reproduction.md", "controls", table())
        return
    for row, changes in TRIALS:
        for change in changes:
            target = place(row, change, Path(options.publish))
            if target.is_file() or not (fnmatchcase(row, options.rows) and fnmatchcase(change, options.changes)):
                continue
            run = train(experiment(row, change), options.out, resume=True, progress=False)
            run.publish(target)
            print(row, change, *_cells(run.result()), sep=" | ", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
