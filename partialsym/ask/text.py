"""The sentences of the verdict."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from partialsym.ask.intervals import MOST_SEEDS, Difference, Interval

HELPS, COSTS, NEITHER, UNKNOWN = "helps", "costs", "makes no difference", "not enough evidence"
PART = "a part is better"
SYMMETRIES = {
    HELPS: "A network that ignores {blind} gains {points} over a plain CNN: build this symmetry in{unless}.",
    COSTS: "A network that ignores {blind} loses {points} against a plain CNN: the labels depend on it, or it is a "
    "useful cue{unless}.",
    NEITHER: "A network that ignores {blind} differs from a plain CNN by {signed}: it neither gains nor loses "
    "{margin}.",
    UNKNOWN: "{why}",
}
PARTS = {
    HELPS: "A network that learns which part of {group} each layer uses gains {points} over one that uses all of it.",
    COSTS: "A network that learns which part of {group} each layer uses loses {points} against one that uses all of "
    "it.",
    NEITHER: "A network that learns which part of {group} each layer uses differs by {signed} from one that uses all "
    "of it.",
    UNKNOWN: "{why}",
}
AUGMENTATION = {
    HELPS: "A plain CNN that sees its training images {how} gains {points} over one that sees them as they are.",
    COSTS: "A plain CNN that sees its training images {how} loses {points} against one that sees them as they are.",
    NEITHER: "A plain CNN that sees its training images {how} differs by {signed} from one that sees them as they are.",
    UNKNOWN: "{why}",
}
BUILT_IN = {
    HELPS: "The {name} gains {points} over a plain CNN that sees its training images {how}.",
    COSTS: "The {name} loses {points} against a plain CNN that sees its training images {how}.",
    NEITHER: "The {name} differs by {signed} from a plain CNN that sees its training images {how}.",
    UNKNOWN: "{why}",
}
UNLESS = (
    ", unless one of them needed more training: this network is right on {:.0f} % of its training images, the plain "
    "CNN on {:.0f} %"
)
CHANGES = "From {turns} on, at least half of the answers{name} differ from those to the upright images ({images})."
STAYS = "At every turn, more than half of the answers{name} are the same as those to the upright images ({images})."
MIRRORED = "When {images} test images are mirrored, {share} of the answers of the {name} stay the same."
SEEDS_MISSING = "Both methods share only {seeds} of {least} seeds: fewer do not show how much runs differ."
ONE_GUESSES = "Neither the {} nor the {} is clearly better than guessing."
OPEN = "From the {1} to the {0} the accuracy changes by {signed}: these runs do not decide which one is better."
NEEDED = (
    "If there is no difference, at least about {images} test images like these and {seeds} seeds are needed to show "
    "that it is below {margin}."
)
BEYOND = f"Runs differ so much that not even {MOST_SEEDS} seeds would show that a difference is below {{margin}}."
BRIER = "A second measure: from the {} to the {} the Brier score, an error that also counts confidence, {}: {}."
FIRST = "{} generalises best, {} ahead of {}."
HEADLINES = {
    "Rotation": {
        HELPS: "Rotation symmetry helps",
        COSTS: "Orientation matters",
        NEITHER: "Rotation makes no difference",
        UNKNOWN: "Rotation: not enough evidence",
    },
    "Mirroring": {
        HELPS: "Mirror symmetry helps",
        COSTS: "Handedness matters",
        NEITHER: "Mirroring makes no difference",
        UNKNOWN: "Mirroring: not enough evidence",
    },
    "Rotation and mirroring together": {
        HELPS: "Rotation and mirror symmetry together help",
        COSTS: "Orientation or handedness matters",
        NEITHER: "Rotation and mirroring together make no difference",
        UNKNOWN: "Rotation and mirroring: not enough evidence",
    },
}
NOTHING = "These runs answer no question about symmetry."


def headline(answers: Sequence[tuple[str, str]]) -> str:
    """A short sentence for each (question, answer) about rotation and mirroring, and one if a part is better."""
    asked = [one for one in answers if one[0] in HEADLINES]
    single = [one for one in asked if one[0] in ("Rotation", "Mirroring")]
    said = [HEADLINES[question][answer] for question, answer in single or asked]
    if any(answer == PART for _, answer in answers):
        said.append("A part of the symmetry is better than all of it")
    return ". ".join(said) + "." if said else NOTHING


def points(d: Interval) -> str:
    """A difference without its sign: `3.1 points (1.0 to 5.2)`."""
    low, high = sorted((abs(d.low), abs(d.high)))
    return f"{100 * abs(d.mean):.1f} points ({100 * low:.1f} to {100 * high:.1f})"


def signed(d: Interval) -> str:
    """A difference with its sign: `+0.2 points (−1.0 to +1.4)`."""
    return f"{100 * d.mean:+.1f} points ({100 * d.low:+.1f} to {100 * d.high:+.1f})".replace("-", "−")


def needed(d: Difference, margin: float) -> str:
    """How many images and seeds would show that there is no difference; empty if the runs have as many already."""
    found = d.needed(margin)
    if found is None:
        return BEYOND.format(margin=within(margin))
    images, seeds = found
    if (images, seeds) <= (d.count, d.seeds):
        return ""
    digits = 10 ** max(0, len(str(images)) - 2)
    return NEEDED.format(images=f"{-(-images // digits) * digits:,}", seeds=seeds, margin=within(margin))


def brier(d: Interval, one: str, other: str) -> str:
    """A sentence about the difference of the Brier scores of `one` and `other`; lower scores are better."""
    numbers = f"{d.mean:+.3f} ({d.low:+.3f} to {d.high:+.3f})".replace("-", "−")
    change = "falls" if d.high < 0 else "rises" if d.low > 0 else "changes in no clear direction"
    return BRIER.format(other, one, change, numbers)


def change(both: tuple[float | None, float | None], name: str, images: str) -> str:
    """`From a turn of 45° counter-clockwise or 90° clockwise on, at least half of …`; the smaller turn comes first."""
    named = zip(both, ("counter-clockwise", "clockwise"), strict=True)
    found = sorted((degrees, direction) for degrees, direction in named if degrees is not None)
    words = {"name": f" of the {name}" if name else "", "images": images}
    if not found:
        return STAYS.format(**words)
    return CHANGES.format(turns=f"a turn of {' or '.join(f'{degrees:.0f}° {d}' for degrees, d in found)}", **words)


def within(margin: float) -> str:
    """`a point`, `2.5 points`."""
    return "a point" if margin == 0.01 else f"{100 * margin:g} points"


def over(values: NDArray[np.float64], unit: str) -> str:
    """A mean with the range over the seeds: `84° (80 to 91 over the seeds)`."""
    low, mean, high = (f"{value:.0f}" for value in (values.min(), values.mean(), values.max()))
    return f"{mean}{unit}" + (f" ({low} to {high} over the seeds)" if low != high else "")


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def upper(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]
