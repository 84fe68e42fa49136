"""Figures as inline images of the page, in the colours of its light or dark scheme."""

import base64
import io
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure

from partialsym.figures.canvas import BLUE, DEEP, GREY, INK, ORANGE, PALE

DARK = {  # colour → colour on a dark page
    INK: "#e6e9ec",
    GREY: "#a3adb7",
    PALE: "#343c45",
    DEEP: "#f2f5f7",
    BLUE: "#3f9bd8",
    ORANGE: "#ee7f35",
    "#0b2a4a": "#8fb7e3",
    "#1f6f9f": "#4d9fd0",
    "#ffffff": "#15191d",
}


class Image(NamedTuple):
    """The attributes of an `<img>`: `source` is a data URL, `width` and `height` are in pixels."""

    source: str
    alt: str
    width: int
    height: int


def image(figure: Figure, alt: str) -> Image:
    """A figure as an `<img>`. Its colours are variables, which its own style sets for a light or a dark scheme.

    The SVG does not become part of the page's markup. An `<img>` with a data URL runs no script and loads nothing.

    Args:
        figure: the figure.
        alt: a description for readers who cannot see it.
    """
    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "partialsym"}):  # the same runs yield the same page
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue().decode()
    for i, colour in enumerate(DARK):
        svg = svg.replace(colour, f"var(--c{i})")
    light, dark = (";".join(f"--c{i}:{c}" for i, c in enumerate(colours)) for colours in (DARK, DARK.values()))
    style = f"<style>:root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    svg = svg.replace("<defs>", f"{style}<defs>", 1)
    width, height = (round(96 * side) for side in figure.get_size_inches())
    return Image(f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}", alt, width, height)
