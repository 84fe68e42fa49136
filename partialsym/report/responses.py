"""What the models do as their images turn: the tables beside what the page's scripts draw."""

import statistics
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from partialsym.figures import responses as drawn_responses
from partialsym.measure import half_changed
from partialsym.report.answers import MOST_CLASSES
from partialsym.report.collect import Method
from partialsym.report.curves import circle, layers
from partialsym.report.inline_images import Image, image
from partialsym.report.text import Table

EVERY = 3  # of the measured angles, in tables: 45°
KINDS = {False: "as they are", True: "mirrored"}  # images


class Responses(NamedTuple):
    """Tables of means over seeds."""

    classes: Table  # probability of each true class, by turn
    unchanged: Table  # predictions that stay, in per cent, by turn
    changes: Table  # from which turn on half of the answers change, of each method and class
    errors: Table  # equivariance error of each layer, by turn


def responses(methods: Sequence[Method]) -> Responses | None:
    """None where no behaviour is known."""
    known = [method for method in methods if method.measured]
    return Responses(_classes(known), _unchanged(known), _changes(known), _errors(known)) if known else None


def old_responses(methods: Sequence[Method]) -> Image | None:
    """Responses that results hold themselves, for methods of which nothing newer can be had."""
    turned = {m.title: m.results for m in methods if not m.measured and any("response" in r for r in m.results)}
    if not turned:
        return None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a letter of a name that the font lacks
        return image(drawn_responses(turned), f"Answers of {', '.join(turned)} to turned images")


def _classes(methods: Sequence[Method]) -> Table:
    rows: list[list[str]] = []
    head: list[str] = []
    for method in methods:
        seeds = [behaviour["responses"] for _, behaviour in method.measured]
        names = method.measured[0][1]["classes"]
        head, steps = _turns(seeds[0]["angles"])
        for k, label in enumerate(seeds[0]["classes"]):
            for mirrored, key in enumerate(("mean", "mirrored")):
                means = _means([seed[key][k][label] for seed in seeds], steps)
                rows.append([method.title, str(names[label]), KINDS[bool(mirrored)], *(f"{p:.2f}" for p in means)])
    return Table(["method", "true class", "images", *head], rows)


def _unchanged(methods: Sequence[Method]) -> Table:
    rows: list[list[str]] = []
    head: list[str] = []
    for method in methods:
        seeds = [behaviour["unchanged"] for _, behaviour in method.measured]
        head, steps = _turns(seeds[0]["angles"])
        for mirrored, key in enumerate(("share", "mirrored")):
            means = _means([seed[key] for seed in seeds], steps)
            rows.append([method.title, KINDS[bool(mirrored)], *(f"{100 * p:.0f}" for p in means)])
    return Table(["method", "images", *head], rows)


def _changes(methods: Sequence[Method]) -> Table:
    """Of the mean over the seeds; of the classes, where there are at most MOST_CLASSES."""
    rows: list[list[str]] = []
    for method in methods:
        seeds = [behaviour["unchanged"] for _, behaviour in method.measured]
        names = method.measured[0][1]["classes"]
        curves = {"all": [seed["share"] for seed in seeds]}
        if all("by_class" in seed for seed in seeds) and len(seeds[0]["classes"]) <= MOST_CLASSES:
            curves |= {
                str(names[label]): [seed["by_class"][k] for seed in seeds]
                for k, label in enumerate(seeds[0]["classes"])
            }
        for name, shares in curves.items():
            mean = [statistics.mean(values) for values in zip(*shares, strict=True)]
            turns = half_changed(seeds[0]["angles"], mean)
            rows.append([method.title, name, *("never" if turn is None else f"{turn:.0f}°" for turn in turns)])
    return Table(["method", "true class", "counter-clockwise", "clockwise"], rows)


def _errors(methods: Sequence[Method]) -> Table:
    rows: list[list[str]] = []
    head: list[str] = []
    for method in methods:
        seeds = [layers(behaviour) for _, behaviour in method.measured]
        for layer, kinds in seeds[0].items():
            for mirrored, errors in kinds.items():
                head = [_degrees(row["angle"]) for row in errors]
                totals = [[row["total"] for row in seed[layer][mirrored]] for seed in seeds]
                means = _means(totals, range(len(errors)))
                rows.append([method.title, layer, KINDS[mirrored], *(f"{mean:.2f}" for mean in means)])
    return Table(["method", "layer", "images", *head], rows)


def _turns(angles: Sequence[float]) -> tuple[list[str], list[int]]:
    """The angles that a table shows, and where they are in `angles`."""
    shown = circle(angles)[::EVERY]
    return [_degrees(angle) for angle, _ in shown], [i for _, i in shown]


def _means(seeds: Sequence[Sequence[float]], steps: Sequence[int]) -> list[float]:
    return [statistics.mean(curve[i] for curve in seeds) for i in steps]


def _degrees(angle: float) -> str:
    return f"{angle:.0f}°".replace("-", "−")
