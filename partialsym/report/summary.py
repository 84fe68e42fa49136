"""The first section of the page: the intervals of the verdict's findings, and the accuracy of each method."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from partialsym.ask import Finding, Interval
from partialsym.ask.look import sentences
from partialsym.ask.text import signed
from partialsym.ask.two_sample import Visibility
from partialsym.report.text import count, shared, spread
from partialsym.report.verdicts import Judged
from partialsym.runs.schema import sampled_accuracy

WIDTH, MARGIN = 180, 4  # width of an interval's drawing and of its empty margins, in pixels


class Drawing(NamedTuple):
    """An interval as a line with a dot at its mean: their positions in pixels from the left, and the numbers as text.

    `zero` is the position of 0; None if 0 is outside the axis.
    """

    low: float
    mean: float
    high: float
    zero: float | None
    text: str
    width: int = WIDTH


class Accuracy(NamedTuple):
    """The accuracy of a method."""

    title: str
    name: str  # empty if the title contains it
    interval: str
    drawing: Drawing | None  # None if the verdict does not include the method
    test: str
    sampled: str
    seeds: int


class Accuracies(NamedTuple):
    """The methods, the best first if the verdict `ranked` them, and the number of test images."""

    rows: list[Accuracy]
    ranked: bool
    images: str


class Seen(NamedTuple):
    """The result of the two-sample test for one transformation of the images."""

    name: str
    answer: str
    share: str
    drawing: Drawing
    pairs: str


class Images(NamedTuple):
    """The results of the two-sample tests: in words, and one row per transformation."""

    sentences: list[str]
    rows: list[Seen]


def images(seen: Sequence[Visibility]) -> Images | None:
    """The results of the two-sample tests; None if there are none."""
    if not seen:
        return None
    axis, rows = (0.25, 1.05), []
    for one in seen:
        mean, low, high = (f"{100 * value:.1f}" for value in one.share)
        shifted, around = Interval(*(value - 0.5 for value in one.share)), (axis[0] - 0.5, axis[1] - 0.5)
        drawing = _draw(shifted, around, f"{mean} %, from {low} to {high}")
        rows.append(Seen(one.name, one.answer, f"{mean} ({low} to {high})", drawing, f"{one.pairs:,}"))
    return Images(sentences(seen), rows)


def allowed(judged: Judged, seen: Sequence[Visibility]) -> str:
    """Sentences about the precision that the number of images allows."""
    found = [f.difference for f in judged.verdict.findings if f.difference] if judged.verdict else []
    said = []
    if found and judged.verdict:
        half = sorted(100 * (d.high - d.low) / 2 for d in found)
        images_, seeds = judged.verdict.standings[0].images, max(s.seeds for s in judged.verdict.standings)
        to = "" if f"{half[0]:.1f}" == f"{half[-1]:.1f}" else f" to ±{half[-1]:.1f}"
        said.append(
            f"With {images_:,} test images and {count(seeds, 'seed')}, a difference between two methods is known to "
            f"±{half[0]:.1f}{to} points; smaller differences cannot be detected."
        )
    if seen:
        pairs = min(one.pairs for one in seen)
        width = max((one.share.high - one.share.low) / 2 for one in seen)
        said.append(
            f"The share of images that a network distinguishes from their copies is known to ±{100 * width:.0f} points "
            f"with {pairs:,} pairs."
        )
    return " ".join(said)


def findings(judged: Judged) -> list[tuple[Finding, Drawing | None]]:
    """The verdict's findings with drawings of their intervals, all on the same axis."""
    found = judged.verdict.findings if judged.verdict else ()
    axis = _axis([finding.difference for finding in found if finding.difference], zero=True)
    return [(f, _draw(f.difference, axis, signed(f.difference)) if f.difference else None) for f in found]


def accuracies(judged: Judged) -> Accuracies:
    standings, results = judged.standings, [result for method in judged.methods for result in method.results]
    axis = _axis([standing.accuracy for standing in standings.values()])
    rows: list[Accuracy] = []
    means = {name: standing.accuracy.mean for name, standing in standings.items()}
    for method in sorted(judged.methods, key=lambda m: -means.get(m.name, -math.inf)):
        interval, drawing = "–", None
        if standing := standings.get(method.name):
            mean, low, high = (f"{100 * value:.1f}" for value in standing.accuracy)
            interval = f"{mean} ({low} to {high})"
            drawing = _draw(standing.accuracy, axis, f"{mean} %, from {low} to {high}")
        name = "" if method.name in method.title else method.name
        test = spread([100 * result["accuracy"]["test"] for result in method.results])
        sampled = spread([100 * sampled_accuracy(result) for result in method.results])
        rows.append(Accuracy(method.title, name, interval, drawing, test, sampled, len(method.seeds)))
    images = shared(count(result["images"]["test"], "image") for result in results if "test" in result["images"])
    return Accuracies(rows, bool(standings), images)


def _axis(intervals: Sequence[Interval], zero: bool = False) -> tuple[float, float]:
    """Both ends of an axis that contains all `intervals`, and 0 if `zero` or if there are no intervals."""
    ends = [end for i in intervals for end in (i.low, i.high)] + ([0.0] if zero or not intervals else [])
    room = 0.06 * (max(ends) - min(ends)) or 0.01
    return min(ends) - room, max(ends) + room


def _draw(interval: Interval, axis: tuple[float, float], text: str) -> Drawing:
    low, high = axis

    def x(value: float) -> float:
        return round(MARGIN + (WIDTH - 2 * MARGIN) * (value - low) / (high - low), 1)

    return Drawing(x(interval.low), x(interval.mean), x(interval.high), x(0) if low < 0 < high else None, text)
