"""The learned subsets of the layers against their depth."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from partialsym.errors import InputError
from partialsym.figures.axes import fit, frame
from partialsym.figures.canvas import BLUE, GREY, INK, ORANGE, Learned, blank, some
from partialsym.figures.dials import Cell, gather

THETA, TURNED, MIRRORED = "theta", "P of turns", "P of mirrorings"
LOOKS: dict[str, dict[str, Any]] = {
    THETA: {"color": BLUE, "marker": "o", "ls": "-"},
    TURNED: {"color": BLUE, "marker": "^", "ls": "-"},
    MIRRORED: {"color": ORANGE, "marker": "s", "ls": "--"},
}
DODGE = 0.13  # in layers: horizontal distance between the marks of rotations and reflections of one layer
HIGH, CELL = 1.15, 1.95  # inches: height of the axes, and of a panel with its title and the names of its layers


def depths(results: Mapping[str, Sequence[Learned]]) -> Figure:
    """The learned subset of each layer against its depth: one panel per name, lines for rotations and reflections.

    Lines are means over seeds. θ, half the width of the interval regardless of its centre, is in degrees on the left. P
    is on the right; for C<n> and D<n> it is the mean over all rotations, or reflections, except e. The lifting layer
    retains the whole group by construction and has a hollow mark. Layers on T(2), which have no subset, are omitted.

    Args:
        results: name → for each of its seeds, or networks of one architecture, what `learned_subsets` returns, or the
            content of result.json.
    Raises:
        ValueError: there is nothing to draw, or the seeds of one name belong to different models.
    """
    rows = {name: gather(name, seeds) for name, seeds in some(results).items()}
    kept = {name: {layer: cell for layer, cell in row.items() if cell.numbers} for name, row in rows.items()}
    panels = {name: (list(row), _series(list(row.values()))) for name, row in kept.items() if row}
    if not panels:
        raise InputError("There is nothing to draw: no layer can learn a part of a group.")
    kinds = [kind for kind in LOOKS if any(kind in series for _, series in panels.values())]
    left, right = (0.48 if THETA in kinds else 0.15), (0.4 if kinds != [THETA] else 0.15)
    columns, inside = 2 if len(panels) == 4 else min(3, len(panels)), 1.95
    cell = left + inside + right
    lifted = any("lifting" in layers for layers, _ in panels.values())
    off = any("centre_deg" in cell.numbers for row in kept.values() for cell in row.values())
    entries = _legend(kinds, lifted, off, any(len(seeds) > 1 for seeds in results.values()))
    width = max(columns * cell, 4.6) + 0.1  # the legend needs room for two entries side by side
    across = len(entries) if width > 2 * len(entries) else 2
    foot = 0.17 * math.ceil(len(entries) / across) + 0.15
    tall = CELL * math.ceil(len(panels) / columns) + foot
    figure = blank(width, tall)
    for i, (name, (layers, series)) in enumerate(panels.items()):
        x, base = cell * (i % columns) + left, tall - CELL * (i // columns + 1) + 0.42
        fit(figure, x, base + HIGH + 0.13, name, inside + right - 0.1, size=8.5, weight="bold")
        axes = figure.add_axes((x / width, base / tall, inside / width, HIGH / tall))
        axes.set_gid(name)
        _draw(axes, layers, series)
        _name_layers(axes, layers, inside)
    figure.legend(
        handles=entries,
        loc="lower left",
        bbox_to_anchor=((left - 0.1) / width, 0.03 / tall),
        ncols=across,
        frameon=False,
        fontsize=7.5,
        labelcolor=INK,
        borderpad=0,
        columnspacing=1.6,
    )
    return figure


def _series(cells: Sequence[Cell]) -> dict[str, np.ndarray]:
    """The quantities to draw → [seeds, layers], NaN if a layer has no such quantity."""
    found: dict[str, np.ndarray] = {}
    for i, cell in enumerate(cells):
        numbers = {THETA: [cell.numbers["theta_deg"]]} if "theta_deg" in cell.numbers else {}
        for kind, mirrored in ((TURNED, False), (MIRRORED, True)):
            if own := [cell.probabilities(e) for e in cell.elements if e.endswith("m") == mirrored]:
                numbers[kind] = own
        for kind, values in numbers.items():
            empty = np.full((cell.seeds, len(cells)), np.nan)
            found.setdefault(kind, empty)[:, i] = np.mean(values, 0)
    return found


def _draw(axes: Axes, layers: Sequence[str], series: Mapping[str, np.ndarray]) -> None:
    """θ on the left axis, P on the right one; 180° and 1 are at the same height."""
    frame(axes)
    axes.set_xlim(-0.5, len(layers) - 0.5)
    axes.set_ylim(-9, 189)
    axes.set_yticks(range(0, 181, 45), ["0°", *(f"±{a}°" for a in range(45, 181, 45))] if THETA in series else [""] * 5)
    right = axes.twinx()
    right.set_ylim(-0.05, 1.05)
    right.set_yticks([])
    right.spines[:].set_visible(False)
    if set(series) - {THETA}:
        right.set_yticks(np.arange(5) / 4, ["0", ".25", ".5", ".75", "1"])
        right.tick_params(labelsize=7, colors=GREY, length=2.5)
        right.spines["right"].set(visible=True, color=GREY)
    fixed = np.array([layer == "lifting" for layer in layers])
    for i, (kind, values) in enumerate(series.items()):
        own, look = axes if kind == THETA else right, LOOKS[kind]
        at = np.arange(len(layers)) + DODGE * (2 * i - len(series) + 1)
        there, mean = ~np.isnan(values).any(0), values.mean(0)
        for mask, label, style in (
            (there & ~fixed, kind, look | {"mec": "white", "mew": 0.5, "ms": 4.5}),
            (there & fixed, f"{kind} fixed", look | {"ls": "", "mec": GREY, "mfc": "white", "mew": 0.8, "ms": 4}),
        ):
            own.plot(at[mask], mean[mask], lw=1.4, label=label, **style)
        seen = there & ~fixed
        dots = (np.tile(at[seen], len(values)), values[:, seen].ravel())
        own.plot(*dots, ".", color=look["color"], ms=4, mew=0, alpha=0.55, label=f"{kind} seeds")


def _name_layers(axes: Axes, layers: Sequence[str], inside: float) -> None:
    """Write `conv1 conv2` under the layers, and the name of their block below."""
    parts = [layer.rpartition(".") for layer in layers]
    axes.set_xticks(range(len(layers)), [tail for _, _, tail in parts], parse_math=False, fontsize=6.5)
    wide = [text.get_window_extent().width / axes.figure.dpi for text in axes.get_xticklabels()]
    touching = max((a + b) / 2 + 0.05 for a, b in pairwise([*wide, 0]))
    for text in axes.get_xticklabels():
        text.set_fontsize(min(6.5, 6.5 * inside / len(layers) / touching))
    axes.tick_params(axis="x", pad=2)
    place: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False}
    for block, of in groupby(range(len(parts)), key=lambda i: parts[i][0]):
        own = list(of)
        if block:
            axes.plot([own[0] - 0.38, own[-1] + 0.38], [-0.185] * 2, color=GREY, lw=0.5, label="block", **place)
            middle = (own[0] + own[-1]) / 2
            axes.text(middle, -0.21, block, size=6.5, color=GREY, ha="center", va="top", parse_math=False, **place)


def _legend(kinds: Sequence[str], lifted: bool, off: bool, several: bool) -> list[Line2D]:
    say = {
        THETA: "kept turns, ±θ (left)" if not off else "±θ about a centre (left)",
        TURNED: "P of a turn (right)",
        MIRRORED: "P of a mirroring (right)",
    }
    lines = [Line2D([], [], lw=1.4, ms=4.5, mec="white", mew=0.5, label=say[kind], **LOOKS[kind]) for kind in kinds]
    if lifted:
        hollow = {"marker": LOOKS[kinds[0]]["marker"], "mfc": "white", "mec": GREY, "mew": 0.8}
        lines.append(Line2D([], [], ls="", ms=4, label="lifting: always everything", **hollow))
    if several:
        lines.append(Line2D([], [], ls="", marker=".", ms=4, color=GREY, label="single seeds; lines are their mean"))
    return lines
