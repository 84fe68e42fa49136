"""What the models do as their images turn: the tables beside what the page's scripts draw."""

import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from partialsym.figures import responses as drawn_responses
from partialsym.report.collect import Method
from partialsym.report.curves import circle, layers
from partialsym.report.inline_images import Image, image
from partialsym.report.text import Table, spread

EVERY = 3  # of the measured angles, in tables: 45°


@dataclass(frozen=True)
class Responses:
    """Means over seeds by turn.

    Attributes:
        classes: the probability of each true class.
        unchanged: the predictions that stay, in per cent.
        ranges: the median preserved range of each method.
        errors: the equivariance error of each layer.
    """

    classes: Table
    unchanged: Table
    ranges: Table
    errors: Table


def responses(methods: Sequence[Method]) -> Responses | None:
    """None where no behaviour is known."""
    known = [method for method in methods if method.measured]
    return Responses(_classes(known), _unchanged(known), _ranges(known), _errors(known)) if known else None


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
    angles: list[tuple[float, int]] = []
    for method in methods:
        seeds = [seed.behaviour for seed in method.measured if seed.behaviour]
        angles = circle(seeds[0]["responses"]["angles"])[::EVERY]
        for k, label in enumerate(seeds[0]["responses"]["classes"]):
            for key in ("mean", "mirrored"):
                means = [statistics.mean(s["responses"][key][k][label][i] for s in seeds) for _, i in angles]
                name = str(seeds[0]["classes"][label])
                rows.append([method.title, name, _mirrored(key), *(f"{p:.2f}" for p in means)])
    return Table(["method", "true class", "images", *(_degrees(a) for a, _ in angles)], rows)


def _unchanged(methods: Sequence[Method]) -> Table:
    rows: list[list[str]] = []
    angles: list[tuple[float, int]] = []
    for method in methods:
        seeds = [seed.behaviour["unchanged"] for seed in method.measured if seed.behaviour]
        angles = circle(seeds[0]["angles"])[::EVERY]
        for key in ("share", "mirrored"):
            means = [100 * statistics.mean(s[key][i] for s in seeds) for _, i in angles]
            rows.append([method.title, _mirrored(key), *(f"{p:.0f}" for p in means)])
    return Table(["method", "images", *(_degrees(a) for a, _ in angles)], rows)


def _ranges(methods: Sequence[Method]) -> Table:
    rows: list[list[str]] = []
    for method in methods:
        found = [s.behaviour["preserved"]["ranges"] for s in method.measured if s.behaviour]
        medians = [statistics.median(ranges) for ranges in found if ranges]
        rows.append([method.title, _turns(medians), str(len(medians))])
    return Table(["method", "stays up to a turn of", "seeds"], rows)


def _errors(methods: Sequence[Method]) -> Table:
    rows: list[list[str]] = []
    angles: list[float] = []
    for method in methods:
        seeds = [layers(seed.behaviour) for seed in method.measured if seed.behaviour]
        for layer in seeds[0]:
            for mirrored in seeds[0][layer]:
                angles = [row["angle"] for row in seeds[0][layer][mirrored]]
                totals = [[row["total"] for row in seed[layer][mirrored]] for seed in seeds]
                means = [statistics.mean(at) for at in zip(*totals, strict=True)]
                kind = _mirrored("mirrored" if mirrored else "")
                rows.append([method.title, layer, kind, *(f"{mean:.2f}" for mean in means)])
    return Table(["method", "layer", "images", *map(_degrees, angles)], rows)


def _turns(degrees: Sequence[float]) -> str:
    return " ± ".join(f"{part}°" for part in spread(degrees, 0).split(" ± ")) if degrees else "–"


def _mirrored(key: str) -> str:
    return "mirrored" if key == "mirrored" else "as they are"


def _degrees(angle: float) -> str:
    return f"{angle:.0f}°".replace("-", "−")
