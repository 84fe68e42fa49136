"""What the page begins with: the intervals of the verdict's findings, and how well each method does."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from partialsym.ask import Finding, Interval
from partialsym.report.text import count, shared, spread
from partialsym.report.verdicts import Judged
from partialsym.runs.schema import sampled_accuracy

WIDTH, MARGIN = 180, 4  # pixels of an interval's drawing, and of it left free on either side


@dataclass(frozen=True)
class Drawing:
    """An interval as a line with a dot at its mean: where they are, in pixels from the left, and what it says."""

    low: float
    mean: float
    high: float
    zero: float | None
    text: str
    width: int = WIDTH


@dataclass(frozen=True)
class Accuracy:
    """A row of the table of accuracies; `name` is empty where the title holds it, `drawing` None without a standing."""

    title: str
    name: str
    interval: str
    drawing: Drawing | None
    test: str
    sampled: str
    seeds: int


@dataclass(frozen=True)
class Accuracies:
    """Methods, the best first where the verdict `ranked` them; `images` are those of the test."""

    rows: list[Accuracy]
    ranked: bool
    images: str


def findings(judged: Judged) -> list[tuple[Finding, Drawing | None]]:
    """The verdict's findings with the drawing of their interval, all on one axis."""
    found = judged.verdict.findings if judged.verdict else []
    axis = _axis([finding.difference for finding in found if finding.difference], zero=True)
    made: list[tuple[Finding, Drawing | None]] = []
    for finding in found:
        drawing = None
        if finding.difference:
            mean, low, high = (f"{100 * share:+.1f}".replace("-", "−") for share in finding.difference)
            drawing = _draw(finding.difference, axis, f"{mean} points ({low} to {high})")
        made.append((finding, drawing))
    return made


def accuracies(judged: Judged) -> Accuracies:
    standings = judged.standings
    axis = _axis([standing.accuracy for standing in standings.values()])
    rows: list[Accuracy] = []
    for method in judged.methods:
        interval, drawing = "–", None
        if standing := standings.get(method.name):
            mean, low, high = (f"{100 * value:.1f}" for value in standing.accuracy)
            interval = f"{mean} ({low} to {high})"
            drawing = _draw(standing.accuracy, axis, f"{mean} %, from {low} to {high}")
        rows.append(
            Accuracy(
                title=method.title,
                name="" if method.name in method.title else method.name,
                interval=interval,
                drawing=drawing,
                test=spread([100 * result["accuracy"]["test"] for result in method.results]),
                sampled=spread([100 * sampled_accuracy(result) for result in method.results]),
                seeds=len(method.seeds),
            )
        )
    means = [standings[m.name].accuracy.mean if m.name in standings else -math.inf for m in judged.methods]
    best_first = [row for _, row in sorted(zip(means, rows, strict=True), key=lambda pair: -pair[0])]
    numbers = [result["images"] for method in judged.methods for result in method.results]
    images = shared(count(images["test"], "image") for images in numbers if "test" in images)
    return Accuracies(best_first, bool(standings), images)


def _axis(intervals: Sequence[Interval], zero: bool = False) -> tuple[float, float]:
    """Both ends of an axis that has room for all of `intervals`, and for 0."""
    ends = [end for i in intervals for end in (i.low, i.high)] + ([0.0] if zero or not intervals else [])
    room = 0.06 * (max(ends) - min(ends)) or 0.01
    return min(ends) - room, max(ends) + room


def _draw(interval: Interval, axis: tuple[float, float], text: str) -> Drawing:
    low, high = axis

    def x(value: float) -> float:
        return round(MARGIN + (WIDTH - 2 * MARGIN) * (value - low) / (high - low), 1)

    return Drawing(x(interval.low), x(interval.mean), x(interval.high), x(0) if low < 0 < high else None, text)
