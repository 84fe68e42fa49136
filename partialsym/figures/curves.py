"""Training curves: loss, accuracy and learned subsets over epochs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from partialsym.figures.canvas import BLUE, GREY, INK, PALE, blank, some, write

Histories = Mapping[str, Sequence[Sequence[Mapping[str, float]]]]
SPLIT = ("loss", "accuracy")  # quantities with a curve for training and one for validation images
TITLES = {
    "loss": "loss",
    "accuracy": "accuracy",
    "theta_deg": "kept turns, ±θ in degrees",
    "centre_deg": "their centre, in degrees",
    "P": "P(element is in)",
}
WIDE, HIGH, NARROW = 2.85, 2.35, 2.3  # inches: width and height of a panel with labels, width of a separate panel
DEPTHS = ("#0b2a4a", "#1f6f9f", "#2aa198", "#8fae3c", "#e0a21b", "#c8502d")  # first layer to last


def training(histories: Histories) -> Figure:
    """Loss, accuracy and learned subsets over epochs: one row per name, with the mean and the range over seeds.

    Args:
        histories: name → the rows of each seed's history, one per epoch.
    Raises:
        ValueError: there is nothing to draw.
    """
    names = list(some(histories))
    shown, colors = _shown([rows for seeds in histories.values() for rows in seeds])
    columns = len(shown)
    width, tall = WIDE * columns + (1.25 if colors else 0.1), HIGH * len(names) + 0.15
    figure = blank(width, tall)
    for i, name in enumerate(names):
        bottom = tall - HIGH * (i + 1) + 0.4
        write(figure, 0.2 / width, (bottom + 1.72) / tall, name, size=9, weight="bold")
        for k, quantity in enumerate(shown):
            place = ((0.6 + WIDE * k) / width, bottom / tall, 2.05 / width, 1.45 / tall)
            _panel(figure.add_axes(place), quantity, histories[name], colors, legend=i == 0)
    if colors:
        _name_layers(figure, colors, ((width - 1.3) / width, 1 - 0.42 / tall))
    return figure


def panels(seeds: Sequence[Sequence[Mapping[str, float]]]) -> dict[str, Figure]:
    """The panels of one row of `training` as separate figures: quantity → figure.

    Quantities that never change have none, as in a network that retains its whole group.
    """
    shown, colors = _shown(seeds)
    rows = [row for seed in seeds for row in seed]
    drawn = [q for q in shown if q in SPLIT or len({row[key] for row in rows for key in row if _kind(key) == q}) > 1]
    figures = {}
    for quantity in drawn:
        legend = quantity == drawn[-1] and quantity not in SPLIT
        width = NARROW + (0.95 if legend else 0)
        figures[shown[quantity]] = figure = blank(width, 2.0)
        _panel(figure.add_axes((0.55 / width, 0.2, 1.65 / width, 0.7)), quantity, seeds, colors, legend=True)
        if legend:
            where = ((NARROW - 0.05) / width, 0.94)
            _name_layers(figure, colors, where)
    return figures


def _shown(seeds: Sequence[Sequence[Mapping[str, float]]]) -> tuple[dict[str, str], dict[str, str]]:
    """The quantities to draw → title, and layer → colour."""
    keys = dict.fromkeys(key for rows in seeds for row in rows for key in row)
    shown = {k: title for k, title in TITLES.items() if k in SPLIT or any(_kind(key) == k for key in keys)}
    layers = list(dict.fromkeys(_layer(key) for key in keys if _kind(key)))
    return shown, {layer: _depth(i, len(layers)) for i, layer in enumerate(layers)}


def _name_layers(figure: Figure, colors: Mapping[str, str], where: tuple[float, float]) -> None:
    lines = [Line2D([], [], color=color, lw=1.6, label=layer) for layer, color in colors.items()]
    style: dict[str, Any] = {"frameon": False, "fontsize": 7, "labelcolor": INK}
    figure.legend(handles=lines, loc="upper left", bbox_to_anchor=where, **style)


def _panel(
    axes: Axes,
    quantity: str,
    seeds: Sequence[Sequence[Mapping[str, float]]],
    colors: Mapping[str, str],
    *,
    legend: bool,
) -> None:
    """Draw one quantity of TITLES over the epochs."""
    if quantity in SPLIT:
        for split, color, style in (("train", GREY, "--"), ("validation", BLUE, "-")):
            _curve(axes, seeds, f"{split}_{quantity}", color, style=style, label=split)
        if legend:
            place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1.02, 0.98), "ncols": 2}
            axes.legend(**place, frameon=False, fontsize=6.5, labelcolor=INK)
    else:
        keys = dict.fromkeys(key for rows in seeds for row in rows for key in row if _kind(key) == quantity)
        _kept(axes, seeds, {key: colors[_layer(key)] for key in keys})
    _frame(axes, TITLES[quantity])
    if quantity == "accuracy":
        axes.set_ylim(top=1 + 0.03 * (1 - axes.get_ylim()[0]))
    if quantity == "P":
        axes.set_ylim(-0.03, 1.03)
    if quantity == "theta_deg":
        axes.set_ylim(-6, 186)
        axes.set_yticks(range(0, 181, 45))


def _curve(
    axes: Axes,
    seeds: Sequence[Sequence[Mapping[str, float]]],
    key: str,
    color: str,
    *,
    style: str = "-",
    label: str = "",
) -> None:
    """Draw the mean and range of `key` over the seeds that reached each epoch."""
    epochs = max(map(len, seeds), default=0)
    values = np.full((len(seeds), epochs), np.nan)
    for seed, rows in zip(values, seeds, strict=True):
        seed[: len(rows)] = [row.get(key, math.nan) for row in rows]
    there = ~np.isnan(values).all(0)
    if not there.any():
        return
    at, values = np.arange(1, epochs + 1)[there], values[:, there]
    mark = "o" if len(at) == 1 else ""
    axes.plot(at, np.nanmean(values, 0), style, color=color, lw=1.4, marker=mark, ms=3.5, label=label or key)
    if len(seeds) > 1:
        axes.fill_between(at, np.nanmin(values, 0), np.nanmax(values, 0), color=color, alpha=0.15, lw=0)


def _kept(axes: Axes, seeds: Sequence[Sequence[Mapping[str, float]]], colors: Mapping[str, str]) -> None:
    """Draw one line per column, or a single line if all columns have the same constant value."""
    there = {key: color for key, color in colors.items() if any(key in row for rows in seeds for row in rows)}
    if not there:
        axes.set_visible(False)
    elif len({row[key] for rows in seeds for row in rows for key in there if key in row}) == 1:
        _curve(axes, seeds, next(iter(there)), GREY)
        place: dict[str, Any] = {"ha": "center", "va": "top", "transform": axes.transAxes}
        axes.text(0.5, 0.88, "the same in every layer", size=7, color=GREY, **place)
    else:
        for key, color in there.items():
            _curve(axes, seeds, key, color)


def _frame(axes: Axes, title: str) -> None:
    axes.set_ylabel(title, fontsize=7.5, color=INK)
    axes.yaxis.set_label_coords(-0.22, 0.5)
    axes.set_xlabel("epoch", fontsize=7.5, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.tick_params(labelsize=7, colors=GREY, length=2.5)
    axes.grid(color=PALE, lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)


def _kind(key: str) -> str | None:
    """`theta_deg`, `centre_deg` or `P` for a column about a learned subset, else None."""
    name = key.rpartition(".")[2]
    return name if name in ("theta_deg", "centre_deg") else "P" if ".P(" in key else None


def _layer(key: str) -> str:
    """The layer of a column: `block1.conv1` of `block1.conv1.P(m)`. A name such as P(22.5°) contains a dot itself."""
    return key.removesuffix(".theta_deg").removesuffix(".centre_deg").partition(".P(")[0]


def _depth(i: int, count: int) -> str:
    """The colour of layer i of `count`."""
    at = i * (len(DEPTHS) - 1) / max(1, count - 1)
    return to_hex(DEPTHS[round(at)])
