"""The paper's claim on CIFAR, as questions: `python -m studies.claim`, or `make tables`.

The claim is that a Partial G-CNN classifies natural images better than a G-CNN and than a CNN. All rows are those of
table 2 with the budget `compact`. Differences are paired over test images; their intervals are those of
`partialsym.ask.intervals`, which include the choice of images and, from two seeds on, the seeds.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.tables import fill
from partialsym.ask.intervals import Interval, difference
from partialsym.figures import save
from partialsym.figures.axes import frame, spread
from partialsym.figures.canvas import BLUE, GREY, INK, ORANGE, blank
from partialsym.reproduction.table import load_table, mean_std
from partialsym.runs.schema import correct_images

ROOT = Path(__file__).parents[1]
DOCUMENT, FOLDER = ROOT / "docs" / "reproduction.md", ROOT / "results" / "table2"
PICTURE = ROOT / "results" / "claim" / "seconds.png"
BUDGET, DATA, PARTIAL = "compact", ("CIFAR-10", "CIFAR-100"), "SE2-4/partial"


class Question(NamedTuple):
    """Whether a partial network, `ours`, is ahead of another one; both rows may carry the same suffix."""

    text: str
    other: str
    suffix: str = ""
    ours: str = PARTIAL


QUESTIONS = (
    Question("ahead of the G-CNN", "SE2-4/full"),
    Question("ahead of the CNN at equal width", "T2/plain"),
    Question("ahead of the CNN at equal training time", "T2/plain+long"),
    Question("ahead of the CNN at equal operations", "T2/plain+wide"),
    Question("ahead of the CNN at equal width, after three times the epochs", "T2/plain", "+long"),
    Question("on E(2)-8 ahead of the G-CNN", "E2-8/full", ours="E2-8/partial"),
    Question("on E(2)-8 ahead of the CNN at equal width", "T2/plain", ours="E2-8/partial"),
    Question("ahead of the G-CNN, with crops and flips", "SE2-4/full", "+augmented"),
    Question("ahead of the CNN at equal width, with crops and flips", "T2/plain", "+augmented"),
)
LOOKS = {  # start of a row → colour and mark; the first that fits
    "T2/Augerino": ("#009e73", "D"),
    "T2": (INK, "s"),
    "SE2-4/full": (ORANGE, "^"),
    "SE2-4/partial": (BLUE, "o"),
    "E2-8/full": (ORANGE, "v"),
    "E2-8/partial": (BLUE, "P"),
}


def main() -> None:
    for mark, text in texts().items():
        fill(DOCUMENT, mark, text)
    if any(runs(row) for row in rows()):
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        save(picture(), PICTURE)


def rows() -> list[str]:
    """The rows of table 2 on CIFAR."""
    return [row for row in load_table("table2").rows if row.endswith(DATA)]


def runs(row: str) -> list[dict[str, Any]]:
    """The results of a row, by seed."""
    return load_table("table2").results(FOLDER, row, BUDGET)


def texts() -> dict[str, str]:
    """What stands between each pair of marks."""
    return {"claim": answers()}


def answers() -> str:
    """A line for each question: the answer and the difference in points for each data set, with the seeds of both."""
    lines = [
        "| Is the Partial G-CNN … | " + " | ".join(f"{data} | points | seeds" for data in DATA) + " |",
        "| --- |" + " --- |" * (3 * len(DATA)),
    ]
    for question in QUESTIONS:
        cells = [cell for data in DATA for cell in _cells(question, data)]
        lines.append("| " + " | ".join([f"{question.text}?", *cells]) + " |")
    return "\n".join(lines)


def _cells(question: Question, data: str) -> tuple[str, str, str]:
    ours = runs(f"{question.ours}{question.suffix}/{data}")
    theirs = runs(f"{question.other}{question.suffix}/{data}")
    if not ours or not theirs:
        return "", "", ""
    found = paired(ours, theirs)
    points = f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return verdict(found), points, f"{len(ours)}, {len(theirs)}"


def paired(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> Interval:
    """The accuracy of `ours` minus that of `theirs`, paired over test images, with its 95 % interval."""
    first, second = (np.array([correct_images(result) for result in results]) for results in (ours, theirs))
    return difference(first, second, np.zeros(first.shape[1], dtype=np.int64)).interval()


def verdict(found: Interval) -> str:
    """`yes` or `no` where the interval excludes 0."""
    return "yes" if found.low > 0 else "no" if found.high < 0 else "not decided"


def picture() -> Figure:
    """Test accuracy against training seconds: a mark for each row, the mean over its seeds."""
    shown = {data: [row for row in rows() if row.endswith(f"/{data}") and runs(row)] for data in DATA}
    panels = {data: names for data, names in shown.items() if names}
    width, tall = 4.9 * len(panels), 3.4
    figure = blank(width, tall)
    for i, (data, names) in enumerate(panels.items()):
        axes = figure.add_axes(((0.6 + 4.9 * i) / width, 0.5 / tall, 2.5 / width, 2.5 / tall))
        _panel(axes, data, names)
    return figure


def _panel(axes: Axes, data: str, names: list[str]) -> None:
    frame(axes)
    axes.set_title(data, fontsize=9, fontweight="bold", color=INK, loc="left")
    axes.set_xscale("log")
    axes.set_xlabel("training, minutes", fontsize=7.5, color=INK)
    axes.set_ylabel("test accuracy, %", fontsize=7.5, color=INK)
    places = []
    for row in names:
        found = runs(row)
        minutes = float(np.mean([result["seconds"] for result in found])) / 60
        accuracies = [100 * result["accuracy"]["test"] for result in found]
        color, mark = next(look for start, look in LOOKS.items() if row.startswith(start))
        axes.plot([minutes] * len(found), accuracies, ".", color=color, ms=4, alpha=0.55)
        axes.plot(minutes, np.mean(accuracies), mark, color=color, ms=6, mec="white", mew=0.6)
        places.append((float(np.mean(accuracies)), f"{row.removesuffix(f'/{data}')}  {mean_std(accuracies, 1)}", color))
    axes.margins(0.15)
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500) if axes.get_xlim()[0] <= t <= axes.get_xlim()[1]]
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.set_xticks([], minor=True)
    low, high = axes.get_ylim()
    places.sort()
    at = spread([(y - low) / (high - low) for y, _, _ in places], 0.065, 1.0)
    for height, (y, text, color) in zip(at, places, strict=True):
        axes.annotate(
            text,
            (1.0, (y - low) / (high - low)),
            (1.06, height),
            xycoords="axes fraction",
            fontsize=7,
            color=color,
            va="center",
            arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.5, "shrinkA": 0, "shrinkB": 0},
        )


if __name__ == "__main__":
    main()
