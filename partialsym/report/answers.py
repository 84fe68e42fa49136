"""The predictions of a method: its confusions, and images whose predicted class changes under rotation."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from partialsym.measure import confusion, most_confused
from partialsym.report.collect import Method
from partialsym.report.text import Table

MOST_CLASSES = 12  # in a matrix; with more classes, the most frequent confusions are listed
LISTED = 12
SHADES = 8


class Cell(NamedTuple):
    """A percentage, the darkness of its cell, and whether it counts correct predictions."""

    text: str
    shade: int
    right: bool


class Changed(NamedTuple):
    """A test image whose predicted class changes when it is transformed.

    `picture` is a data URL, `moved` the transformation of an SVG that draws it moved into the square from 0 to 1.
    """

    picture: str
    moved: str
    before: str
    after: str
    how: str


class Answers(NamedTuple):
    """One method over its seeds: a matrix for few classes, else a list; and images whose prediction changes."""

    title: str
    classes: list[str]
    matrix: list[tuple[str, int, list[Cell]]]  # true class, its images, share of each answer
    confused: Table | None
    changed: list[Changed]
    images: int
    seeds: int


def answers(method: Method | None) -> Answers | None:
    """None if there is no method, or its predictions are unknown."""
    if method is None or not method.measured:
        return None
    behaviours = [behaviour for _, behaviour in method.measured]
    classes = [str(name) for name in behaviours[0]["classes"]]
    counts = confusions(behaviours)
    labels = counts.sum(1).nonzero()[:, 0].tolist()
    shares = counts.double() / counts.sum(1, keepdim=True).clamp_min(1)
    few = len(classes) <= MOST_CLASSES
    matrix = [
        (
            classes[k],
            int(counts[k].sum()) // len(behaviours),
            [_cell(float(shares[k, j]), right=k == j) for j in range(len(classes))],
        )
        for k in labels
    ]
    return Answers(
        method.title,
        classes,
        matrix if few else [],
        None if few else _confused(classes, counts),
        [_changed(one, classes) for one in behaviours[0].get("changed", [])],
        len(behaviours[0]["answers"]["labels"]),
        len(behaviours),
    )


def confusions(behaviours: Sequence[dict[str, Any]]) -> Tensor:
    """Number of images of each class (row) with each prediction (column), over all runs: [classes, classes]."""
    found = [one["answers"] for one in behaviours]
    labels, predictions = (torch.tensor([k for of in found for k in of[key]]) for key in ("labels", "predictions"))
    return confusion(labels, predictions, len(behaviours[0]["classes"]))


def _cell(share: float, *, right: bool) -> Cell:
    return Cell(f"{100 * share:.0f}" if share else "", math.ceil(SHADES * share), right)


def _confused(classes: Sequence[str], counts: Tensor) -> Table:
    """The most frequent confusions, sorted by their share of the images of a class."""
    rows = [[classes[k], classes[j], f"{100 * share:.1f}"] for k, j, share in most_confused(counts, LISTED)]
    return Table(["true class", "taken for", "of its images, %"], rows)


def _changed(one: dict[str, Any], classes: Sequence[str]) -> Changed:
    before, after = classes[one["label"]], classes[one["answer"]]
    angle = one["angle"]
    direction = "" if angle == 180 else " counter-clockwise" if angle < 180 else " clockwise"
    how = "mirrored" if one["mirrored"] else f"turned by {min(angle, 360 - angle):.0f}°{direction}"
    moved = "translate(1 0) scale(-1 1)" if one["mirrored"] else f"rotate({-angle:g} .5 .5)"
    return Changed(f"data:image/png;base64,{one['png']}", moved, before, after, how)
