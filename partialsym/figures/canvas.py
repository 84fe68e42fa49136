"""Common parts of all figures: colours, an empty figure, text, and writing to a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from partialsym._utils.atomic import replace_file
from partialsym.errors import InputError

T = TypeVar("T")
Results = Mapping[str, Sequence[Mapping[str, Any]]]  # name → the content of result.json for each of its seeds
Learned = Mapping[str, Any] | Sequence[Mapping[str, Any]]  # a result with "subsets", or only these
INK, GREY, PALE = "#22282f", "#66707a", "#e3e6ea"
BLUE, ORANGE, DEEP = "#0072b2", "#d55e00", "#0a1c2e"  # the first two are distinguishable with any colour vision
FORMATS: dict[str, dict[str, None]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def blank(width: float, tall: float) -> Figure:
    """An empty figure of `width` × `tall` inches, not registered in pyplot's global state."""
    figure = Figure(figsize=(width, tall), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def write(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    """Write literal text at (x, y), in [0, 1] of the figure: a `$` in a name does not start a formula."""
    figure.text(x, y, text, parse_math=False, **({"color": INK} | style))


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as .png (150 dpi), .svg or .pdf, and return the path. The file is replaced atomically.

    Raises:
        ValueError: the suffix is another one.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise InputError(f"{path.name} cannot be written: the suffix must be one of {', '.join(FORMATS)}.")
    kind, metadata = path.suffix[1:], FORMATS[path.suffix]
    replace_file(path, lambda file: figure.savefig(file, format=kind, dpi=150, metadata=metadata))
    return path


def some(rows: Mapping[str, Sequence[T]]) -> Mapping[str, Sequence[T]]:
    if not rows or not all(rows.values()):
        raise InputError("There is nothing to draw: every name needs at least one run.")
    return rows
