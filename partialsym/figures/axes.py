"""Axes of one look, text that fits, labels that stand apart."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from partialsym.figures.canvas import GREY, PALE, write

LEAST = 0.7  # of its size, that text is made smaller to before it is cut


def frame(axes: Axes) -> None:
    """Small grey ticks, a pale grid, and spines on the left and below alone."""
    axes.tick_params(labelsize=7, colors=GREY, length=2.5)
    axes.grid(color=PALE, lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)


def fit(figure: Figure, x: float, y: float, text: str, wide: float, *, size: float, **style: Any) -> None:
    """Text at (x, y), no wider than `wide`, all in inches: smaller where it has to be, then cut in its middle."""
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
    """Ascending heights in [0, high], moved as little as possible to stand `step` apart."""
    blocks: list[list[float]] = []  # of heights that touch, each less the steps below it
    for i, y in enumerate(heights):
        blocks.append([y - i * step])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    flat = [float(np.mean(block)) for block in blocks for _ in block]
    most = max(0.0, high - (len(heights) - 1) * step)
    return [min(max(y, 0.0), most) + i * step for i, y in enumerate(flat)]
