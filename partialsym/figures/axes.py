"""Uniform axes, text that fits a width, and labels that do not overlap."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from partialsym.figures.canvas import GREY, PALE, write

LEAST = 0.7  # the smallest relative font size; longer text is shortened


def frame(axes: Axes) -> None:
    """Set small grey ticks, a pale grid, and spines only on the left and at the bottom."""
    axes.tick_params(labelsize=7, colors=GREY, length=2.5)
    axes.grid(color=PALE, lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)


def fit(figure: Figure, x: float, y: float, text: str, wide: float, *, size: float, **style: Any) -> None:
    """Write text at (x, y), at most `wide` wide, all in inches. Long text gets a smaller font, then an ellipsis in its
    middle."""
    width, tall = figure.get_size_inches()
    write(figure, x / width, y / tall, text, size=size, **style)
    own, now = figure.texts[-1], size
    while len(own.get_text()) > 3 and (ratio := wide * figure.dpi / own.get_window_extent().width) < 1:
        if now > LEAST * size:
            now = max(LEAST * size, 0.99 * ratio * now)
            own.set_fontsize(now)
        else:
            keep = max(2, int(ratio * len(own.get_text())) - 2)
            own.set_text(f"{text[: keep // 2]}…{text[-(keep - keep // 2) :]}")


def spread(heights: Sequence[float], step: float, high: float) -> list[float]:
    """Ascending heights in [0, high], moved as little as possible to be at least `step` apart."""
    blocks: list[list[float]] = []  # groups of touching heights, each height minus the steps below it
    for i, y in enumerate(heights):
        blocks.append([y - i * step])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    flat = [float(np.mean(block)) for block in blocks for _ in block]
    most = max(0.0, high - (len(heights) - 1) * step)
    return [min(max(y, 0.0), most) + i * step for i, y in enumerate(flat)]
