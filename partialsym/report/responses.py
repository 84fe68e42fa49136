"""The behaviour of the models on rotated images: the tables beside the plots of the page."""

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

EVERY = 3  # tables show every third measured angle, in steps of 45°
DIRECTIONS = ("counter-clockwise", "clockwise")
KINDS = {False: "as they are", True: "mirrored"}  # images


class Responses(NamedTuple):
    """Tables of means over seeds."""

    classes: Table  # probability of each true class, by turn
    unchanged: Table  # predictions that stay the same, in per cent, by turn
    changes: Table  # from which turn on half of the answers change, by method
    class_changes: Table  # the same by class, if there are few classes
    errors: Table  # equivariance error of each layer, by turn


def responses(methods: Sequence[Method]) -> Responses | None:
    """The tables; None if no behaviour is known."""
    known = [method for method in methods if method.measured]
    return (
        Responses(_classes(known), _unchanged(known), _changes(known), _class_changes(known), _errors(known))
        if known
        else None
    )


def old_responses(methods: Sequence[Method]) -> Image | None:
    """Responses that are stored in the results, for methods without newer data."""
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
    """From which turn on half of the answers change, for the mean over the seeds."""
    rows: list[list[str]] = []
    for method in methods:
        seeds = [behaviour["unchanged"] for _, behaviour in method.measured]
        rows.append([method.title, *_half_changed(seeds[0]["angles"], [seed["share"] for seed in seeds])])
    return Table(["method", *DIRECTIONS], rows)


def _class_changes(methods: Sequence[Method]) -> Table:
    """The same by class, without methods that have more than MOST_CLASSES or that an earlier version measured."""
    rows: list[list[str]] = []
    for method in methods:
        seeds = [behaviour["unchanged"] for _, behaviour in method.measured]
        names = method.measured[0][1]["classes"]
        if any("by_class" not in seed for seed in seeds) or len(seeds[0]["classes"]) > MOST_CLASSES:
            continue
        for k, label in enumerate(seeds[0]["classes"]):
            turns = _half_changed(seeds[0]["angles"], [seed["by_class"][k] for seed in seeds])
            rows.append([method.title, str(names[label]), *turns])
    return Table(["method", "true class", *DIRECTIONS], rows)


def _half_changed(angles: Sequence[float], shares: Sequence[Sequence[float]]) -> list[str]:
    """The turns from which on half of the answers change, in both directions, for the mean share over seeds."""
    mean = [statistics.mean(values) for values in zip(*shares, strict=True)]
    return ["never" if turn is None else f"{turn:.0f}°" for turn in half_changed(angles, mean)]


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
    """The angles that a table shows, and their indices in `angles`."""
    shown = circle(angles)[::EVERY]
    return [_degrees(angle) for angle, _ in shown], [i for _, i in shown]


def _means(seeds: Sequence[Sequence[float]], steps: Sequence[int]) -> list[float]:
    return [statistics.mean(curve[i] for curve in seeds) for i in steps]


def _degrees(angle: float) -> str:
    return f"{angle:.0f}°".replace("-", "−")
