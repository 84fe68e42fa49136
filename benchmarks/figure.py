"""Draw docs/scaling.png from benchmarks/scaling.json: `python -m benchmarks.figure`."""

import json
import re
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, StrMethodFormatter

from benchmarks.scaling import AXES, BATCH, ELEMENTS, SIDE, WIDTH
from partialsym.figures.canvas import BLUE, GREY, ORANGE, blank, save, write

ROOT = Path(__file__).parent
QUANTITIES = {"training step": ("seconds a step", 1.0), "peak memory": ("MB at the peak", 1e6)}
LABELS = {"batch": "images in a batch", "image side": "pixels on a side", "elements": "group elements"}


def main() -> None:
    rows = json.loads((ROOT / "scaling.json").read_text(encoding="utf-8"))
    figure = blank(8.6, 4.9)
    machine = rows[0]["machine"]
    about = f"{machine['processor']}, {machine['threads']} threads, float32, torch {rows[0]['torch']}"
    usual = f"ResNet SE(2), width {WIDTH}; else batch {BATCH}, {SIDE}×{SIDE}, {ELEMENTS} elements. {about}"
    write(figure, 0.07, 0.955, "A training step as it grows: ours and the plain twin", size=11, weight="bold")
    write(figure, 0.07, 0.915, usual, size=7, color=GREY)
    for down, (quantity, (label, unit)) in enumerate(QUANTITIES.items()):
        for across, axis in enumerate(AXES):
            axes = figure.add_axes((0.07 + 0.315 * across, 0.53 - 0.44 * down, 0.26, 0.33))
            _panel(axes, [row for row in rows if _size(row, axis, quantity)], axis, quantity, unit)
            if across == 0:
                axes.set_ylabel(label, fontsize=8, color=GREY)
            if down:
                axes.set_xlabel(LABELS[axis], fontsize=8, color=GREY)
    save(figure, ROOT.parent / "docs" / "scaling.png")


def _size(row: dict[str, Any], axis: str, quantity: str) -> int | None:
    found = re.fullmatch(rf"ResNet, width \d+, {axis} (\d+): {quantity}", row["name"])
    return int(found[1]) if found else None


def _panel(axes: Axes, rows: list[dict[str, Any]], axis: str, quantity: str, unit: float) -> None:
    sizes = [_size(row, axis, quantity) or 0 for row in rows]
    for key, color, marker in (("twin", ORANGE, "s"), ("ours", BLUE, "o")):
        axes.plot(sizes, [row[key] / unit for row in rows], color=color, marker=marker, ms=4, lw=1.5, label=key)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.tick_params(labelsize=7, colors=GREY)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7)


if __name__ == "__main__":
    main()
