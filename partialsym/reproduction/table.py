"""Tables of the paper and our own: one YAML file per table in tables/, rendered with our results and printed ones."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from partialsym.config import ConfigError, Experiment
from partialsym.errors import InputError
from partialsym.runs.run import identity
from partialsym.runs.schema import chosen_components, read_result, sampled_accuracy

ALWAYS = ("row", "ours", "n", "epochs", "budget")
HEADER = ("row", "paper", *ALWAYS[1:], "sampled", "unsampled", "copy gap", "range", "data", "precision")
NOTES = {
    "ours": "Ours: mean ± std over n seeds, deterministic inference.",
    "budget": "Budget: `paper` has the paper's epochs, schedule and rates; the others are ours.",
    "sampled": "Sampled: accuracy under drawn elements, the mean of draws, on the first 5,000 test images at most.",
    "unsampled": "Unsampled: deterministic inference on the same images, where all seeds recorded that.",
    "copy gap": "Copy gap: largest logit difference between an original and its copy, over seeds.",
    "range": "Range: how far images may be turned, in degrees, before accuracy changes by more than a point.",
    "data": "Data: where it is not the paper's.",
    "precision": "Precision: that of training.",
}
TINY = "tiny"
# The largest numbers of the budget `tiny`, which is otherwise a table's first one. A row takes seconds to minutes.
TINY_LIMITS: dict[str, dict[str, float]] = {
    "data": {"train_images": 1000, "test_images": 200, "validation": 0.02},
    "model": {"width": 8},
    "training": {"epochs": 4, "repeats": 1, "recalibration_images": 200},
}
TINY_NOTE = (
    "Budget `tiny` is a first look, and no result: networks of width {model[width]} at most, {training[epochs]} epochs "
    "of {data[train_images]:,} training images at most, {data[test_images]} test images."
).format(**TINY_LIMITS)
CHOSEN = "Row {}, seed {}: which components the network keeps in eval mode was chosen on validation images."


@dataclass(frozen=True)
class Table:
    """A table of the paper, or of our own.

    Attributes:
        name, title: the identifier and the heading.
        rows: row → published result in percent, as printed; None if there is none.
        settings: pattern of rows → {"data": …, "model": …, "training": …}; later patterns override earlier ones.
        budgets: name → the same, applied after `settings`, from short to long; the first one is the default. Every
            table has the budget `tiny` besides, for a first look: no table that is printed from results contains it.
        source: the publication of the printed results; None for a table of our own.
        notes: pattern of rows → a note on these rows, shown under the table.
    """

    name: str
    title: str
    rows: dict[str, float | str | None]
    settings: dict[str, dict[str, Any]]
    budgets: dict[str, dict[str, dict[str, Any]]]
    source: str | None = None
    notes: dict[str, str] = field(default_factory=dict)

    def experiment(self, row: str, seed: int, budget: str | None = None) -> Experiment:
        """The config of a row, named TABLE/ROW, or TABLE/ROW/BUDGET if the budget is not the table's first.

        With `tiny` it is that of the first budget, with the numbers of TINY_LIMITS where they are larger or left out.

        Raises:
            ConfigError: unknown row or budget.
        """
        budget = self.budget(budget)
        if row not in self.rows:
            raise ConfigError(f"{self.name} has no row {row!r}: rows are {', '.join(self.rows)}.")
        tree: dict[str, Any] = {"name": f"{self.name}/{self.place(row, budget)}", "seed": seed}
        own = self.budgets[self.budget(None) if budget == TINY else budget]
        for pattern, parts in [*self.settings.items(), *own.items()]:
            if fnmatchcase(row, pattern):
                _add(tree, parts)
        if budget == TINY:
            _add(tree, {part: _at_most(tree.get(part, {}), most) for part, most in TINY_LIMITS.items()})
        return _experiment(tree)

    def place(self, row: str, budget: str) -> str:
        """The folder of a row's runs and results, relative to that of the table."""
        return row if budget == next(iter(self.budgets)) else f"{row}/{budget}"

    def budget(self, name: str | None) -> str:
        """`name`, by default the first budget. Raises ConfigError if it does not exist."""
        if name is not None and name not in (known := [*self.budgets, TINY]):
            raise ConfigError(f"{self.name} has no budget {name!r}: must be one of {', '.join(known)}.")
        return name or next(iter(self.budgets))

    def select(self, patterns: str) -> list[str]:
        """Rows that match any of the comma-separated shell patterns. Raises ConfigError if a pattern matches no row."""
        found = set()
        for pattern in patterns.split(","):
            rows = {row for row in self.rows if fnmatchcase(row, pattern)}
            if not rows:
                raise ConfigError(f"no row of {self.name} matches {pattern!r}: rows are {', '.join(self.rows)}.")
            found |= rows
        return [row for row in self.rows if row in found]

    def results(self, folder: Path, row: str, budget: str | None = None) -> list[dict[str, Any]]:
        """The results of a row, by seed: `folder/ROW/seed<k>.json`, or those of run folders `…/seed<k>/`.

        Raises:
            ValueError: a file is damaged, of another format version, or of a run with other settings.
        """
        budget = self.budget(budget)
        place = folder / self.place(row, budget)
        return self.results_in(place, self.experiment(row, 0, budget)) if place.is_dir() else []

    def results_in(self, folder: Path, config: Experiment, altered: str | None = None) -> list[dict[str, Any]]:
        """The results of a config with ablation `altered`, by seed: `folder/seed<k>.json`. Raises like `results`."""
        found: dict[int, tuple[Path, dict[str, Any]]] = {}
        files = sorted([*folder.glob("seed*.json"), *folder.glob("seed*/result.json")])
        ours = identity(config) | {"altered": altered}
        for file in files:
            result = read_result(file)
            seed = self._seed(file, result, ours)
            if seed in found:
                raise InputError(f"{file} is seed {seed}, and so is {found[seed][0]}: one of them must go.")
            found[seed] = file, result
        if len(sources := {_data(result) for _, result in found.values()}) > 1:
            raise InputError(f"{folder} holds runs on different data: {', '.join(sorted(sources))}.")
        return [result for _, (_, result) in sorted(found.items())]

    def longest(self, folder: Path) -> dict[str, list[dict[str, Any]]]:
        """The results of each row that has any, for the longest budget that was run."""
        found = {row: [self.results(folder, row, budget) for budget in self.budgets] for row in self.rows}
        return {row: results[-1] for row, all_ in found.items() if (results := [r for r in all_ if r])}

    def _seed(self, file: Path, result: dict[str, Any], ours: dict[str, Any]) -> int:
        """The seed of a result. Raises ValueError if its settings differ from `ours`, those of the row."""
        try:
            held = _experiment(result["config"])
        except ConfigError as error:
            raise InputError(f"{file} holds no config of an experiment ({error}).") from None
        ours = ours | {"seed": held.seed}
        theirs = identity(held) | {"altered": result.get("altered")}
        if other := [key for key in ours if ours[key] != theirs[key]]:
            key = other[0]
            raise InputError(f"{file} is of a run with {key} = {theirs[key]!r}: {self.name} has {ours[key]!r}.")
        if f"seed{held.seed}" not in (file.stem, file.parent.name):
            raise InputError(f"{file} is of seed {held.seed}: it must be called so.")
        return held.seed


def _add(tree: dict[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> None:
    for part, values in parts.items():
        tree[part] = {**tree.get(part, {}), **values}


def _at_most(given: Mapping[str, Any], most: Mapping[str, float]) -> dict[str, float]:
    return {key: min(given.get(key, limit), limit) for key, limit in most.items()}


def _experiment(tree: dict[str, Any]) -> Experiment:
    """The experiment of a tree with a seed. Parsing is slow, so seeds of one experiment share the parsed config."""
    return replace(_seedless(json.dumps(tree | {"seed": 0})), seed=tree["seed"])


@cache
def _seedless(text: str) -> Experiment:
    return Experiment.from_dict(json.loads(text))


def tables() -> list[str]:
    """Names of all tables."""
    folder = resources.files(__package__) / "tables"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def load_table(name: str) -> Table:
    """The table with that name. Raises ConfigError if it does not exist."""
    if name not in tables():
        raise ConfigError(f"unknown table {name!r}: must be one of {', '.join(tables())}.")
    text = (resources.files(__package__) / "tables" / f"{name}.yaml").read_text(encoding="utf-8")
    return Table(name, **yaml.safe_load(text))


def mean_std(values: Sequence[float], digits: int = 2) -> str:
    """`mean ± std` (sample standard deviation, n − 1); only the mean if n = 1, and "" if n = 0."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def render(table: Table, folder: Path, rows: Sequence[str] | None = None, budgets: Sequence[str] | None = None) -> str:
    """The table as Markdown, a pure function of the results in `folder`. Cells without runs are empty.

    A row has one line for every budget with runs (of `budgets`, by default all), or one empty line.
    """
    rows = rows or list(table.rows)
    lines = [line for row in rows for line in _of_row(table, folder, row, budgets or list(table.budgets))]
    precisions = {one for line in lines for one in line.get("precision", "").split("/") if one}
    hidden = {"precision"} if len(precisions) == 1 else set()
    shown = [key for key in HEADER if key in ALWAYS or (key not in hidden and any(line.get(key) for line in lines))]
    cells = [shown, *([line.get(key, "") for key in shown] for line in lines)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(shown))]
    rule = ["-" * w for w in widths]
    body = [_line(line, widths) for line in (cells[0], rule, *cells[1:])]
    notes = [f"Paper: {table.source}."] if table.source else []
    notes += [text for key, text in NOTES.items() if key in shown]
    notes += [f"Trained in {precision}." for precision in precisions if hidden]
    notes += [TINY_NOTE] if any(line.get("budget") == TINY for line in lines) else []
    notes += [CHOSEN.format(line["row"], line["chosen"]) for line in lines if line.get("chosen")]
    notes += [text for pattern, text in table.notes.items() if any(fnmatchcase(row, pattern) for row in rows)]
    return "\n".join([f"### {table.title}", "", *body, "", " ".join(notes)])


def _of_row(table: Table, folder: Path, row: str, budgets: Sequence[str]) -> list[dict[str, str]]:
    printed = table.rows[row]
    first = {"row": row} if printed is None else {"row": row, "paper": str(printed)}
    lines = []
    for budget in budgets:
        if results := table.results(folder, row, budget):
            gaps = [r["copy_gap"] for r in results if "copy_gap" in r]
            unsampled = [r["accuracy"].get("test_unsampled") for r in results]
            own = {
                "ours": mean_std([100 * r["accuracy"]["test"] for r in results]),
                "n": str(len(results)),
                "epochs": "/".join(sorted({str(r["epochs"]) for r in results})),
                "budget": budget,
                "sampled": mean_std([100 * sampled_accuracy(r) for r in results]),
                "unsampled": "" if None in unsampled else mean_std([100 * share for share in unsampled]),
                "copy gap": f"{max(gaps):.0e}" if gaps else "",
                "chosen": ", ".join(str(r["config"]["seed"]) for r in results if chosen_components(r)),
                "range": mean_std([r["turned"]["range"] for r in results if "turned" in r], 0),
                "precision": "/".join(sorted({str(r["precision"]) for r in results if "precision" in r})),
                "data": "" if _data(results[0]) == results[0]["config"]["data"]["name"] else _data(results[0]),
            }
            lines.append(first | own)
    return lines or [first]


def _data(result: dict[str, Any]) -> str:
    """The data set that a run really used; rotMNIST may be generated."""
    return str(result.get("data", result["config"]["data"]["name"]))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
