"""What commands share: a line on standard output, and what all of them read from their options."""

import re
import sys
from collections.abc import Mapping
from typing import Any

from jsonargparse import Namespace

from partialsym.config import ConfigError, Experiment, keys_of
from partialsym.runs.schema import describe_choice

UNITS = {"s": 1, "m": 60, "h": 3600}


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


def say_subsets(result: dict[str, Any]) -> None:
    say_by_layer({subset["layer"]: describe(subset) for subset in result["subsets"]})


def say_by_layer(lines: Mapping[str, str]) -> None:
    """What is said of each layer, by name."""
    width = max((len(layer) for layer in lines), default=0)
    for layer, said in lines.items():
        say(f"  {layer:<{max(14, width)}} {said}")


def say_chosen(result: dict[str, Any]) -> None:
    """Which components eval mode keeps or drops because validation images chose so, where they did."""
    if text := describe_choice(result):
        say(f"  eval mode {text}")


def describe(subset: dict[str, Any]) -> str:
    """A learned subset in words: `±171°, P(m) 0.31`; off the identity `±45° about 90°`."""
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
