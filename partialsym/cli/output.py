"""Functions that several commands share: they print results and read common options."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jsonargparse import Namespace
from torch import Tensor

from partialsym.config import ConfigError, Experiment, keys_of
from partialsym.measure import most_confused
from partialsym.runs.schema import describe_choice

UNITS = {"s": 1, "m": 60, "h": 3600}
COLUMNS, LISTED = 10, 12  # most classes of a matrix that fits into a terminal; number of listed confusions
LONGEST = 20, 8  # most characters of a class's name, at the left of a row and above a column


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def progress(options: Namespace) -> bool:
    return sys.stderr.isatty() if options.progress is None else options.progress


def experiment(options: Namespace) -> Experiment:
    return Experiment(**{key: options[key] for key in dict.fromkeys(key.split(".")[0] for key in keys_of(Experiment))})


def scores_line(scores: dict[str, float | None]) -> str:
    """Balanced accuracy and AUROC in a line; AUROC needs an image of every class."""
    auroc = scores["auroc"]
    area = "AUROC: some class has no image" if auroc is None else f"AUROC {auroc:.3f}"
    return f"balanced accuracy {100 * (scores['balanced_accuracy'] or 0):.1f} %, {area}"


def confusion_lines(counts: Tensor, classes: Sequence[str]) -> Iterator[str]:
    """The lines of the confusion matrix; if there are more than COLUMNS classes, of the most frequent confusions.

    Args:
        counts: number of images by true class (row) and answer (column), [classes, classes].
        classes: names of the classes; those without images have no row.
    """
    totals, right = counts.sum(1).tolist(), counts.diagonal().tolist()
    if len(classes) > COLUMNS:
        listed = most_confused(counts, LISTED)
        title = "most frequent confusions, by their share of the images of a class:"
        yield title if listed else "no class is taken for another"
        for k, j, share in listed:
            yield f"  {classes[k]} taken for {classes[j]}: {int(counts[k, j])} of {totals[k]} ({100 * share:.1f} %)"
        return
    yield "confusion: images by true class (rows) and answer (columns)"
    head = ["", *(_short(name, LONGEST[1]) for name in classes), "right"]
    rows = [
        [_short(name, LONGEST[0]), *map(str, counts[k].tolist()), f"{100 * right[k] / totals[k]:.1f} %"]
        for k, name in enumerate(classes)
        if totals[k]
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for name, *numbers in (head, *rows):
        cells = (text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True))
        yield "  " + "  ".join([name.ljust(widths[0]), *cells])


def _short(name: str, most: int) -> str:
    """The name, or its beginning and end with `…` between them if it has more than `most` characters."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[len(name) - (most - 1) // 2 :]}"


def say_subsets(result: dict[str, Any]) -> None:
    say_by_layer({subset["layer"]: describe(subset) for subset in result["subsets"]})


def say_by_layer(lines: Mapping[str, str]) -> None:
    """Print a line for each layer; `lines` maps the name of a layer to its text."""
    width = max((len(layer) for layer in lines), default=0)
    for layer, said in lines.items():
        say(f"  {layer:<{max(14, width)}} {said}")


def say_chosen(result: dict[str, Any]) -> None:
    """Print which components validation images added or removed for eval mode, if they changed any."""
    if text := describe_choice(result):
        say(f"  eval mode {text}")


def describe(subset: dict[str, Any]) -> str:
    """A learned subset in words: `±171°, P(m) 0.31`, or `±45° about 90°` if its centre is not the identity."""
    about = f" about {subset['centre_deg']:.0f}°" if "centre_deg" in subset else ""
    parts = [f"±{subset['theta_deg']:.0f}°{about}"] if "theta_deg" in subset else []
    parts += [f"{key} {value:.2f}" for key, value in subset.items() if key.startswith("P(")]
    return ", ".join(parts) or "translations"


def parse_time(text: str) -> float:
    """`90s`, `10m`, `1.5h` → seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if not found or float(found[1]) == 0:
        raise ConfigError(f"budget is {text!r}: must be a time such as 90s, 10m or 2h.")
    return float(found[1]) * UNITS[found[2]]
