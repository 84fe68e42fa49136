"""The paper's tables: one YAML file each under experiments/, and what our runs put beside the printed figures."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from partialsym.config import ConfigError, Experiment
from partialsym.run import read_json

HEADER = ("row", "paper", "ours", "n", "epochs", "sampled", "copy gap")


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        name, title, source: what it is and where its figures were printed.
        budget: `paper` where ours trains as long as the paper, else `short`.
        experiments: row → config of our run, without its seed.
        paper: row → figure printed in the paper, in percent.
    """

    name: str
    title: str
    source: str
    budget: str
    experiments: dict[str, dict[str, Any]]
    paper: dict[str, float]

    def experiment(self, row: str, seed: int) -> Experiment:
        return Experiment.from_dict({**self.experiments[row], "seed": seed})

    def select(self, pattern: str) -> list[str]:
        """Rows that match a shell pattern; raises ConfigError where there is none."""
        rows = [row for row in self.experiments if fnmatchcase(row, pattern)]
        if not rows:
            raise ConfigError(f"no row of {self.name} matches {pattern!r}: rows are {', '.join(self.experiments)}.")
        return rows


def tables() -> list[str]:
    """Names of all tables."""
    folder = resources.files("partialsym") / "experiments"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def load_table(name: str) -> Table:
    """The table of that name; raises ConfigError where there is none."""
    if name not in tables():
        raise ConfigError(f"unknown table {name!r}: must be one of {', '.join(tables())}.")
    text = (resources.files("partialsym") / "experiments" / f"{name}.yaml").read_text(encoding="utf-8")
    tree = yaml.safe_load(text)
    common, experiments = tree["common"], {}
    for row, own in tree["rows"].items():
        parts = {part: {**common.get(part, {}), **own.get(part, {})} for part in ("data", "model", "training")}
        experiments[row] = {"name": f"{name}/{row}", **parts}
    paper = {row: own["paper"] for row, own in tree["rows"].items() if "paper" in own}
    return Table(name, tree["title"], tree["source"], tree["budget"], experiments, paper)


def read_results(folder: Path, row: str) -> list[dict[str, Any]]:
    """The results of a row, by seed: `folder/<row>/seed<k>.json`, or the result of a run folder `…/seed<k>/`."""
    files = [*folder.glob(f"{row}/seed*.json"), *folder.glob(f"{row}/seed*/result.json")]
    results = [read_json(file) for file in files]
    return sorted(results, key=lambda result: result["config"]["seed"])


def mean_std(values: Sequence[float], digits: int = 2) -> str:
    """`mean ± std` (of a sample: n − 1), the mean alone where n = 1, nothing where n = 0."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def render(table: Table, folder: Path, rows: Sequence[str] | None = None) -> str:
    """The table as Markdown, a pure function of the results in `folder`. What was not run is an empty cell."""
    body = []
    for row in rows or table.experiments:
        results = read_results(folder, row)
        sampled = [100 * a for r in results for a in r["accuracy"]["test_sampled"]]
        gaps = [r["copy_gap"] for r in results if "copy_gap" in r]
        body.append(
            (
                row,
                f"{table.paper[row]:.1f}" if row in table.paper else "",
                mean_std([100 * r["accuracy"]["test"] for r in results]),
                str(len(results)) if results else "",
                "/".join(sorted({str(r["epochs"]) for r in results})),
                mean_std(sampled),
                f"{max(gaps):.0e}" if gaps else "",
            )
        )
    widths = [max(len(line[i]) for line in (HEADER, *body)) for i in range(len(HEADER))]
    lines = [_line(HEADER, widths), _line(["-" * w for w in widths], widths), *(_line(line, widths) for line in body)]
    note = (
        f"Paper: {table.source}. Ours: mean ± std over n seeds, deterministic inference, budget {table.budget}. "
        "Sampled: accuracy under drawn elements, over seeds and draws. "
        "Copy gap: largest logit difference between an original and its copy, over seeds."
    )
    return "\n".join([f"### {table.title}", "", *lines, "", note])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
