"""The verdict's words."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from partialsym.verdict.intervals import Interval

HELPS, COSTS, NEITHER, UNKNOWN = "helps", "costs", "makes no difference", "not enough evidence"
PART = "a part is better"
SYMMETRIES = {
    HELPS: "A network blind to {blind} gains {points} over a plain CNN: build this symmetry in.",
    COSTS: "A network blind to {blind} loses {points} against a plain CNN: labels depend on it.",
    NEITHER: "A network blind to {blind} differs from a plain CNN by {signed}: it neither gains nor loses a point.",
    UNKNOWN: "{why}",
}
PARTS = {
    HELPS: "A network free to keep a part of {group} in each layer gains {points} over one that keeps all of it.",
    COSTS: "A network free to keep a part of {group} in each layer loses {points} against one that keeps all of it.",
    NEITHER: "A network free to keep a part of {group} in each layer differs by {signed} from one that keeps all.",
    UNKNOWN: "{why}",
}
SEEDS_MISSING = "Only {seeds} of {least} seeds are there: fewer say nothing of their spread."
ONE_GUESSES = "Neither the {} nor the {} is surely better than guessing."
OPEN = "From the {1} to the {0} accuracy changes by {signed}: it could be either."
HEADLINES = {
    "Rotation": {
        HELPS: "treating turned images alike helps",
        COSTS: "orientation tells your classes apart",
        NEITHER: "treating turned images alike makes no difference",
        UNKNOWN: "whether images may be turned, these runs cannot tell",
    },
    "Mirroring": {
        HELPS: "treating mirrored images alike helps",
        COSTS: "handedness tells your classes apart",
        NEITHER: "treating mirrored images alike makes no difference",
        UNKNOWN: "whether images may be mirrored, these runs cannot tell",
    },
}
NOTHING = "These runs answer no question on symmetry."


def headline(answers: Sequence[tuple[str, str]]) -> str:
    """One sentence of all (question, answer)."""
    said = [HEADLINES[question][answer] for question, answer in answers if question in HEADLINES]
    if any(answer == PART for _, answer in answers):
        said.append("keeping a part of the symmetry is better than all of it")
    return upper("; ".join(said)) + "." if said else NOTHING


def points(d: Interval) -> str:
    """A difference without its sign: `3.1 points (1.0 to 5.2)`."""
    low, high = sorted((abs(d.low), abs(d.high)))
    return f"{100 * abs(d.mean):.1f} points ({100 * low:.1f} to {100 * high:.1f})"


def signed(d: Interval) -> str:
    """A difference with its sign: `+0.2 points (-1.0 to +1.4)`."""
    return f"{100 * d.mean:+.1f} points ({100 * d.low:+.1f} to {100 * d.high:+.1f})"


def over(values: NDArray[np.float64], unit: str) -> str:
    """A mean with the range over the seeds: `84°, 80 to 91 over the seeds`."""
    spread = f", {values.min():.0f} to {values.max():.0f} over the seeds" if len(values) > 1 else ""
    return f"{values.mean():.0f}{unit}{spread}"


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def upper(text: str) -> str:
    """With a capital at its start."""
    return text[:1].upper() + text[1:]
