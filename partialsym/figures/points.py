"""The method and the data set of a row of results."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from partialsym.config import ModelConfig
from partialsym.errors import InputError
from partialsym.figures.canvas import Results


@dataclass(frozen=True)
class Point:
    """A row of results.

    Attributes:
        data: name of the data set.
        kind: kind of method, a key of LOOKS.
        method: the kind, with the settings in which methods of that kind differ.
        size: number of training images.
        accuracies: test accuracy of each seed, in %.
    """

    data: str
    kind: str
    method: str
    size: int
    accuracies: list[float]

    @property
    def mean(self) -> float:
        return float(np.mean(self.accuracies))


def points_of(rows: Results) -> list[Point]:
    """One point per row, in the order of the rows.

    If rows of one method on the same images differ in settings, the names contain these settings. The names of Augerino
    contain the number of copies if any two rows with Augerino differ in it.

    Raises:
        ValueError: the seeds of a row differ in model or images.
    """
    read = {}
    for row, seeds in rows.items():
        models = [ModelConfig(**result["config"]["model"]).complete() for result in seeds]
        names = {str(r["data"]) for r in seeds if "data" in r} or {str(seeds[0]["config"]["data"]["name"])}
        sizes = {result["images"]["train"] for result in seeds}
        if _differ(models) or len(names) > 1 or len(sizes) > 1:
            raise InputError(f"The seeds of {row!r} differ in model or images.")
        read[row] = (names.pop(), models[0], sizes.pop())
    groups: dict[tuple[str, str], list[ModelConfig]] = {}
    for data, model, _ in read.values():
        groups.setdefault((data, _kind(model)), []).append(model)
    several = {(kind, key) for (_, kind), models in groups.items() for key in _differ(models)}
    turned = [model for _, model, _ in read.values() if model.augerino]
    if "copies" in _differ(turned):
        several |= {(_kind(model), "copies") for model in turned}
    found = []
    for row, (data, model, size) in read.items():
        kind = _kind(model)
        more = [_say(key, getattr(model, key)) for key in vars(model) if (kind, key) in several]
        found.append(
            Point(data, kind, ", ".join([kind, *more]), size, [100 * r["accuracy"]["test"] for r in rows[row]])
        )
    return found


def _kind(model: ModelConfig) -> str:
    """The name of the method. For T(2), partial and full are the same."""
    kind = "CNN" if model.group == "T2" else "Partial G-CNN" if model.partial else "G-CNN"
    return f"{kind} + Augerino" if model.augerino else kind


def _differ(models: Sequence[ModelConfig]) -> list[str]:
    """Settings in which these models differ, except `partial`, which is part of the method's name."""
    keys = [f.name for f in fields(ModelConfig) if f.name != "partial"]
    return [key for key in keys if any(getattr(m, key) != getattr(models[0], key) for m in models)]


def _say(key: str, value: Any) -> str:
    if key in ("group", "augerino"):
        return re.sub(r"^(SE|E|T)2$", r"\1(2)", str(value))
    return f"{key.replace('_', ' ')} {value}"
