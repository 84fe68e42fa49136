"""The report's numbers as CSV files."""

import csv
import io
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from partialsym.measure import half_changed
from partialsym.report.curves import by_test_images, curves, layers, named, strongest
from partialsym.report.verdicts import Judged
from partialsym.runs.schema import sampled_accuracy

FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")  # starts of a spreadsheet formula
PARTS = ("total", "interpolation", "elements", "interpolation_share", "elements_share", "control")
Rows = Iterator[Sequence[Any]]


def tables(judged: Judged) -> dict[str, str]:
    """File name → content for all tables that have a row; the first line names the columns."""
    made = {
        "accuracy.csv": _accuracy(judged),
        "subsets.csv": _subsets(judged),
        "responses.csv": _responses(judged),
        "unchanged.csv": _unchanged(judged),
        "errors.csv": _errors(judged),
        "training.csv": _training(judged),
    }
    read = {name: list(rows) for name, rows in made.items()}
    return {name: _csv(rows) for name, rows in read.items() if len(rows) > 1}


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_plain(value) for value in row] for row in rows)
    return text.getvalue()


def _plain(value: Any) -> Any:
    """Prepend an apostrophe to text that a spreadsheet would treat as a formula; numbers are unchanged."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _accuracy(judged: Judged) -> Rows:
    scores = ("balanced_accuracy", "auroc", "calibration_error")
    yield [
        *("method", "name", "seed", "data", "test_images", "test_accuracy", "sampled_accuracy", *scores),
        *("method_balanced_accuracy", "method_low", "method_high"),
        *("parameters", "multiply_adds", "epochs", "seconds"),
    ]
    for method in judged.methods:
        standing = judged.standings.get(method.name)
        for seed in method.seeds:
            result = seed.result
            own = result.get("scores", {})
            yield [
                *(method.title, method.name, seed.number, method.data, result["images"].get("test")),
                *(result["accuracy"]["test"], sampled_accuracy(result), *(own.get(score) for score in scores)),
                *(standing.accuracy if standing else (None, None, None)),
                *(result["parameters"], seed.operations, result["epochs"], result["seconds"]),
            ]


def _subsets(judged: Judged) -> Rows:
    yield ["method", "seed", "layer", "group", "quantity", "value"]
    for method in judged.methods:
        for seed in method.seeds:
            for subset in seed.result["subsets"]:
                for key, value in subset.items():
                    if key not in ("layer", "group"):
                        yield [method.title, seed.number, subset["layer"], subset["group"], key, value]


def _responses(judged: Judged) -> Rows:
    """Mean probabilities of the classes that the page shows."""
    angles: list[float] = []
    for group in by_test_images(judged.methods):
        shown = strongest(group)
        for method in group:
            for seed, found in method.measured:
                if not angles:
                    angles = found["responses"]["angles"]
                    yield ["method", "seed", "true_class", "images", "mirrored", "class", *map(_number, angles)]
                for (label, of), count in zip(shown.items(), found["responses"]["images"], strict=True):
                    name = str(found["classes"][label])
                    for mirrored in (False, True):
                        made = curves(found, label, of, mirrored)
                        for other, curve in zip(named(found, of), made, strict=True):
                            yield [method.title, seed.number, name, count, int(mirrored), other, *curve]


def _unchanged(judged: Judged) -> Rows:
    """The fraction of unchanged predictions per angle, the median preserved range in degrees, and the smallest angle at
    which half of the predictions change, empty if there is none."""
    angles: list[float] = []
    for method in judged.methods:
        for seed, behaviour in method.measured:
            found = behaviour["unchanged"]
            if not angles:
                angles = found["angles"]
                yield [
                    *("method", "seed", "median_preserved_range", "half_changed_counter_clockwise"),
                    *("half_changed_clockwise", "mirrored", *map(_number, angles)),
                ]
            ranges = behaviour["preserved"]["ranges"]
            median = statistics.median(ranges) if ranges else None
            turns = half_changed(found["angles"], found["share"])
            for mirrored, key in enumerate(("share", "mirrored")):
                yield [method.title, seed.number, median, *turns, mirrored, *found[key]]


def _errors(judged: Judged) -> Rows:
    yield ["method", "seed", "layer", "mirrored", "angle", *PARTS]
    for method in judged.methods:
        for seed, behaviour in method.measured:
            for layer, kinds in layers(behaviour).items():
                for mirrored, rows in kinds.items():
                    for row in rows:
                        parts = [row.get(part) for part in PARTS]  # files of earlier versions have no shares
                        yield [method.title, seed.number, layer, int(mirrored), row["angle"], *parts]


def _training(judged: Judged) -> Rows:
    seeds = [(method.title, seed) for method in judged.methods for seed in method.seeds]
    keys = list(dict.fromkeys(key for _, seed in seeds for row in seed.history for key in row))
    yield ["method", "seed", *keys]
    for title, seed in seeds:
        for row in seed.history:
            yield [title, seed.number, *(row.get(key) for key in keys)]


def _number(angle: float) -> str:
    return f"{angle:g}"
