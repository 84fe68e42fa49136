"""The learned subsets of layers and the responses of a model, drawn on the circle."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.projections.polar import PolarAxes

from partialsym.errors import InputError
from partialsym.figures.canvas import BLUE, GREY, INK, ORANGE, PALE, Learned, Results, blank, some, write
from partialsym.figures.dials import draw_dial, explain, gather, height

CELL, MARGIN = 1.45, 0.3  # inches
ABOVE, BELOW = 0.26, 0.1  # inches above a row for its name, and empty inches below it


def subsets(results: Mapping[str, Sequence[Learned]]) -> Figure:
    """The learned subset of each layer: one row per name, one column per layer.

    The mean over the seeds is filled, and the edges of each seed are thin lines.

    Args:
        results: name → for each of its seeds, or networks of one architecture, what `learned_subsets` returns, or the
            content of result.json.
    Raises:
        ValueError: there is nothing to draw, or the seeds of one name belong to different models.

    >>> import partialsym as ps
    >>> network = ps.GCNN3("SE2", samples=4, width=2)
    >>> figure = subsets({"mine": [ps.learned_subsets(network)]})  # to write it: save(figure, "mine.png")
    >>> [axes.get_gid() for axes in figure.axes]
    ['mine lifting', 'mine conv1', 'mine conv2']
    """
    rows = {name: gather(name, seeds) for name, seeds in some(results).items()}
    found = dict.fromkeys(layer for row in rows.values() for layer in row)
    layers = sorted(found, key=lambda layer: layer != "input")  # Augerino's comes before all layers
    heights = [CELL * max(map(height, row.values()), default=1.0) for row in rows.values()]
    notes = explain([cell for row in rows.values() for cell in row.values()])
    width = max(CELL * len(layers), 3.6) + 2 * MARGIN
    tall = 0.5 + sum(h + ABOVE + BELOW for h in heights) + 0.17 * len(notes) + 0.15
    figure = blank(width, tall)
    for column, layer in enumerate(layers):
        write(figure, (MARGIN + CELL * (column + 0.5)) / width, 1 - 0.25 / tall, layer, size=8, color=GREY, ha="center")
    top = tall - 0.4
    for (name, row), h in zip(rows.items(), heights, strict=True):
        write(figure, MARGIN / width, (top - 0.15) / tall, name, size=9, weight="bold")
        top -= h + ABOVE
        for layer, cell in row.items():
            left = MARGIN + CELL * layers.index(layer)
            axes = figure.add_axes((left / width, top / tall, CELL / width, h / tall))
            axes.set_gid(f"{name} {layer}")
            draw_dial(axes, cell, h / CELL)
        top -= BELOW
    for i, note in enumerate(notes):
        write(figure, MARGIN / width, (0.15 + 0.17 * (len(notes) - 1 - i)) / tall, note, size=7, color=GREY)
    return figure


def of_layers(seeds: Sequence[Learned]) -> dict[str, Figure]:
    """The learned subset of each layer, one figure per layer without its name, in the order of `subsets`.

    Args:
        seeds: for each seed of a method what `learned_subsets` returns, or the content of result.json.
    Raises:
        ValueError: the seeds belong to different models.
    """
    cells = gather("one method", seeds)
    figures = {}
    for layer in sorted(cells, key=lambda layer: layer != "input"):
        figures[layer] = blank(CELL, CELL * height(cells[layer]))
        draw_dial(figures[layer].add_axes((0, 0, 1, 1)), cells[layer], height(cells[layer]))
    return figures


def responses(results: Results) -> Figure:
    """The responses to images rotated through a full circle, one panel per name (Romero & Lohit 2022, figure 4).

    Args:
        results: name → for each of its seeds what `response` returns, or the content of result.json. Angles are in
            degrees, counter-clockwise, and 0° is at the top.
    Raises:
        ValueError: no result has a response.
    """
    curves = {name: [_curve(r) for r in seeds if {"share", "response"} & r.keys()] for name, seeds in results.items()}
    curves = {name: seeds for name, seeds in curves.items() if seeds}
    if not curves:
        raise InputError("No result has a response: only runs on data sets of turned copies have one.")
    columns = min(4, len(curves))
    rows = math.ceil(len(curves) / columns)
    width, tall = max(2.9 * columns, 4.6), 3.15 * rows + 0.5
    figure = blank(width, tall)
    for i, (name, seeds) in enumerate(curves.items()):
        row, column = divmod(i, columns)
        left, bottom = width / 2 + 2.9 * (column - columns / 2) + 0.4, tall - 3.15 * (row + 1) + 0.3
        axes = figure.add_axes((left / width, bottom / tall, 2.1 / width, 2.1 / tall), projection="polar")
        _response(axes, seeds)
        write(
            figure,
            (left + 1.05) / width,
            (bottom + 2.5) / tall,
            name,
            size=min(9, 280 / len(name or " ")),
            weight="bold",
            ha="center",
        )
    handles = [
        Line2D([], [], color=BLUE, lw=2),
        Line2D([], [], color=ORANGE, lw=1),
        Line2D([], [], color=INK, lw=0.9, ls=":"),
    ]
    labels = ["share of images with P(original) > ½", "mean P(original)", "½"]
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False, fontsize=7.5, labelcolor=INK)
    return figure


def _curve(seed: Mapping[str, Any]) -> Mapping[str, Any]:
    return seed if "share" in seed else seed["response"]


def _response(axes: Axes, seeds: Sequence[Mapping[str, Sequence[float]]]) -> None:
    assert isinstance(axes, PolarAxes)
    angles = np.deg2rad([*seeds[0]["angles"], seeds[0]["angles"][0] + 360])
    axes.plot(np.linspace(0, 2 * math.pi, 181), np.full(181, 0.5), color=INK, lw=0.9, ls=":", zorder=1.5)
    for key, color, line in (("share", BLUE, 2.0), ("mean", ORANGE, 1.0)):
        values = np.array([[*seed[key], seed[key][0]] for seed in seeds])
        axes.plot(angles, values.mean(0), color=color, lw=line, label=key, clip_on=False)
        if len(seeds) > 1:
            axes.fill_between(angles, values.min(0), values.max(0), color=color, alpha=0.2, lw=0)
    axes.set_theta_zero_location("N")
    axes.set_ylim(0, 1)
    axes.set_yticks([0.25, 0.5, 0.75], ["", "", ""])
    axes.set_xticks(np.deg2rad(range(0, 360, 45)), [f"{a}°" for a in range(0, 360, 45)])
    axes.tick_params(labelsize=7, labelcolor=GREY, pad=-1)
    box = {"fc": "white", "ec": "none", "pad": 0.6, "alpha": 0.8}
    for radius, text in ((0.41, "½"), (0.93, "1")):
        axes.text(math.radians(202.5), radius, text, size=7, color=GREY, ha="center", va="center", bbox=box, zorder=1.7)
    axes.grid(color=PALE, lw=0.8)
    axes.spines["polar"].set(color=PALE, zorder=1)
