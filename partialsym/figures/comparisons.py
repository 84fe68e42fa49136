"""Comparisons of the rows of a table: accuracy against the size of the training set."""

import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from partialsym.config import ModelConfig
from partialsym.errors import InputError
from partialsym.figures.axes import fit, frame, spread
from partialsym.figures.canvas import BLUE, GREY, INK, ORANGE, Results, blank, some
from partialsym.figures.circles import responses, subsets
from partialsym.figures.depths import depths
from partialsym.figures.points import Point, points_of

LOOKS = {  # kind of method → a colour that any colour vision distinguishes, and a mark that differs in grey
    "CNN": (INK, "s"),
    "G-CNN": (ORANGE, "^"),
    "Partial G-CNN": (BLUE, "o"),
    "CNN + Augerino": ("#009e73", "D"),
    "G-CNN + Augerino": ("#cc79a7", "v"),
    "Partial G-CNN + Augerino": ("#e69f00", "P"),
}
DASHES = ("-", "--", ":", "-.")
OFFSET = 0.1  # percentage points that are added to an error before its logarithm, so that 100 % has a place
ROUND = (50, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9, 100)  # ticks whose errors begin with 1, 2 or 5
STEP = 0.155  # inches between lines of text


def of_table(results: Results) -> dict[str, Figure]:
    """Those of the figures `subsets`, `depths`, `sizes` and `responses` for which the rows of a table have data.

    Args:
        results: row → the content of result.json for each of its seeds.
    Returns:
        Name → figure.
    """
    rows = {row: seeds for row, seeds in results.items() if seeds}
    models = {row: ModelConfig(**seeds[0]["config"]["model"]) for row, seeds in rows.items()}
    layered = {row: rows[row] for row, model in models.items() if model.partial and model.group != "T2"}
    learned = {row: seeds for row, seeds in rows.items() if row in layered or models[row].augerino}
    turned = {row: seeds for row, seeds in rows.items() if all("response" in result for result in seeds)}
    figures = {}
    if learned:
        figures["subsets"] = subsets(learned)
    if layered:
        figures["depths"] = depths(layered)
    places = [(p.data, p.method, p.size) for p in points_of(rows)]
    if len({place[:2] for place in places}) < len(set(places)) == len(places):
        figures["sizes"] = sizes(rows)
    if turned:
        figures["responses"] = responses(turned)
    return figures


def sizes(results: Results) -> Figure:
    """Accuracy against the size of the training set: one panel per data set, and one line per method.

    Lines are means over seeds. The vertical axis is logarithmic in the error. Single seeds are small dots, and their
    range is shaded.

    Args:
        results: name → the content of result.json for each of its seeds, of which "config", "data", "images" and
            "accuracy" are used.
    Raises:
        ValueError: there is nothing to draw; the results of a name differ in more than the seed; or two names have the
            same method, data set and size.
    """
    points = points_of(some(results))
    places = Counter((p.method, p.size, p.data) for p in points)
    if twice := [place for place, count in places.items() if count > 1]:
        raise InputError("Two rows show {} on {:,} images of {}: they differ in another setting.".format(*twice[0]))
    panels = {data: [p for p in points if p.data == data] for data in dict.fromkeys(p.data for p in points)}
    longest = max(len(p.method) for p in points)
    side = min(2.2, 0.25 + 0.066 * longest)  # inches for the labels
    columns = min(2, len(panels))
    inside = 2.45 if columns > 1 else 3.1
    high = max(2.1, STEP * max(len({p.method for p in panel}) for panel in panels.values()))
    cell = 0.6 + inside + side
    width, notes = columns * cell + 0.1, _notes(points)
    lines = [line for note in notes for line in textwrap.wrap(note, int(width * 17))]
    bottom = 0.1 + STEP * len(lines)
    tall = bottom + (high + 0.8) * math.ceil(len(panels) / columns)
    figure = blank(width, tall)
    for i, (data, panel) in enumerate(panels.items()):
        left, base = 0.6 + cell * (i % columns), tall - (high + 0.8) * (i // columns + 1) + 0.47
        fit(figure, left, base + high + 0.13, data, inside + side - 0.1, size=9, weight="bold")
        axes = figure.add_axes((left / width, base / tall, inside / width, high / tall))
        axes.set_gid(data)
        ends = _lines(axes, panel)
        _ticks(axes, panel, inside, high)
        if i % columns == 0:
            axes.set_ylabel("test accuracy, %", fontsize=7.5, color=INK)
            axes.yaxis.set_label_coords(-0.42 / inside, 0.5)
        _label(figure, axes, ends, side - 0.2)
    for i, line in enumerate(reversed(lines)):
        fit(figure, 0.2, 0.12 + STEP * i, line, width - 0.3, size=7, color=GREY)
    return figure


def _lines(axes: Axes, panel: Sequence[Point]) -> dict[str, tuple[float, float, str]]:
    """Draw one line per method. Return the end point and the colour of each line."""
    axes.set_xscale("log")
    axes.set_yscale("function", functions=(_stretch, _accuracy))
    kinds: dict[str, list[str]] = {}
    ends: dict[str, tuple[float, float, str]] = {}
    for method in dict.fromkeys(p.method for p in panel):
        own = sorted((p for p in panel if p.method == method), key=lambda p: p.size)
        (color, mark), same = LOOKS[own[0].kind], kinds.setdefault(own[0].kind, [])
        dash = DASHES[len(same) % len(DASHES)]
        same.append(method)
        at = [p.size for p in own]
        low, high = [min(p.accuracies) for p in own], [max(p.accuracies) for p in own]
        axes.fill_between(at, low, high, color=color, alpha=0.13, lw=0, zorder=1.5)
        dots = [(p.size, a) for p in own for a in p.accuracies]
        axes.plot(*zip(*dots, strict=True), ".", color=color, ms=4, mew=0, alpha=0.55, label=f"{method} seeds")
        means = [p.mean for p in own]
        axes.plot(at, means, dash, color=color, lw=1.4, marker=mark, ms=4.5, mec="white", mew=0.6, label=method)
        ends[method] = (at[-1], means[-1], color)
    return ends


def _ticks(axes: Axes, panel: Sequence[Point], inside: float, high: float) -> None:
    """Set the limits by the data, and ticks at every size and at accuracies that are far enough apart."""
    frame(axes)
    at = sorted({p.size for p in panel})
    edge = max(0.06 * math.log10(at[-1] / at[0]), 0.12)
    axes.set_xlim(at[0] / 10**edge, at[-1] * 10**edge)
    scale = inside / (math.log10(at[-1] / at[0]) + 2 * edge)
    named = [at[-1]]
    for size in reversed(at[:-1]):
        if scale * math.log10(named[-1] / size) > 0.029 * len(f"{named[-1]:,}{size:,}") + 0.03:
            named.append(size)
    axes.set_xticks(at, [f"{size:,}" if size in named else "" for size in at])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("training images", fontsize=7.5, color=INK)
    seen = _stretch(np.array([a for p in panel for a in p.accuracies]))
    pad = max(0.06 * (seen.max() - seen.min()), 0.05)
    low, top = seen.min() - pad, seen.max() + pad
    axes.set_ylim(*_accuracy(np.array([low, top])))
    chosen = _readable(low, top, 0.2 * (top - low) / high)
    axes.set_yticks(chosen, [f"{value:g}" for value in chosen])
    axes.set_yticks([], minor=True)


def _readable(low: float, top: float, apart: float) -> list[float]:
    """Round accuracies between two stretched ones, `apart` or more apart; they are finer where the error is small."""
    if 10 ** (top - low) < 2:
        ticks = np.round(MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(*_accuracy(np.array([low, top]))), 6)
        return [float(value) for value in ticks if value <= 100 and low <= _stretch(value) <= top]
    chosen: list[float] = []
    for step in (0, 10, 5, 2, 1, 0.5, 0.2, 0.1):
        for value in np.arange(100, -1, -step).round(2) if step else ROUND:
            y = _stretch(np.array([value, *chosen]))
            fine = step and 100 - value > 10 * step
            if low <= y[0] <= top and not fine and (abs(y[1:] - y[0]) > apart).all():
                chosen.append(float(value))
        if len(chosen) > 3 and 0 < step <= 1:
            break
    return chosen


def _label(figure: Figure, axes: Axes, ends: Mapping[str, tuple[float, float, str]], wide: float) -> None:
    """Write each method's name beside the end of its line, at most `wide` inches wide."""
    left, base, inside, high = axes.get_position().bounds * np.tile(figure.get_size_inches(), 2)
    low, top = _stretch(np.array(axes.get_ylim()))
    heights = {m: float(high * (_stretch(np.array(mean)) - low) / (top - low)) for m, (_, mean, _) in ends.items()}
    order = sorted(heights, key=lambda method: heights[method])
    placed = spread([heights[method] for method in order], STEP, high)
    for method, y in zip(order, placed, strict=True):
        size, mean, color = ends[method]
        line = {"arrowstyle": "-", "color": color, "lw": 0.6, "alpha": 0.6, "shrinkA": 0, "shrinkB": 3}
        place: dict[str, Any] = {"textcoords": "axes fraction", "annotation_clip": False, "arrowprops": line}
        axes.annotate("", (size, mean), (1 + 0.14 / inside, y / high), **place)
        fit(figure, left + inside + 0.17, base + y, method, wide, size=7.5, color=color, va="center_baseline")


def _stretch(accuracy: np.ndarray | float) -> np.ndarray:
    return -np.log10(np.maximum(100 + OFFSET - np.asarray(accuracy), 1e-9))


def _accuracy(stretched: np.ndarray) -> np.ndarray:
    return 100 + OFFSET - 10.0 ** -np.asarray(stretched)


def _notes(points: Sequence[Point]) -> list[str]:
    """Notes that explain the figure, and list the points with an unusual number of seeds."""
    counts = Counter(len(p.accuracies) for p in points)
    usual = counts.most_common(1)[0][0]
    mean = f"Mean of {_count(usual)}" if len(counts) == 1 else f"Mean over the seeds, {usual} unless said below"
    seeds = f"{mean}; dots are single seeds, shaded is their range. " if max(counts) > 1 else ""
    notes = [f"{seeds}The vertical axis is logarithmic in the error."]
    for n in sorted(set(counts) - {usual}):
        odd = sorted((p for p in points if len(p.accuracies) == n), key=lambda p: p.size)
        methods: dict[tuple[str, int], list[str]] = {}
        for p in odd:
            methods.setdefault((p.data, p.size), []).append(p.method)
        sizes: dict[tuple[str, str], list[str]] = {}
        for (data, size), own in methods.items():
            whole = len(own) == sum((p.data, p.size) == (data, size) for p in points)
            sizes.setdefault((data, "all" if whole else "; ".join(own)), []).append(f"{size:,}")
        said = [f"{data} at {', '.join(at)} ({own})" for (data, own), at in sizes.items()]
        notes.append(f"{_count(n)}: {'; '.join(said)}.")
    return notes


def _count(n: int) -> str:
    return f"{n} seed{'s' * (n > 1)}"
