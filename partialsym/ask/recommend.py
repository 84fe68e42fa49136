"""What to do: build a symmetry in, augment by it, use a part of it, or leave it out."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from partialsym.ask.intervals import Interval
from partialsym.ask.method_results import MethodResults
from partialsym.ask.text import listed, upper, within

BUILD, AUGMENT, PART, LEAVE, NOTHING = "build it in", "augment", "keep a part of it", "leave it", "nothing to learn"
ACTIONS = {"full": BUILD, "augmented": AUGMENT, "partial": PART, "augerino": PART, "plain": LEAVE}
BOTH = "rotation and mirroring"
SYMMETRY = {"SE2": "rotation", "C": "rotation", "Mirror": "mirroring", "E2": BOTH, "D": BOTH}
SENTENCES = {
    BUILD: "build {symmetry} in, with the {name}.",
    AUGMENT: "augment, with the {name}, which sees its training images {how}.",
    PART: "use a part of the symmetry, with the {name}.",
    LEAVE: "leave the symmetry out, with the {name}.",
}
GUESS = "The best guess, but not certain: "
NO_METHOD = (
    "There is nothing to recommend: no method is clearly better than guessing. Check the labels, or ask with more \
images or more time."
)


class Recommendation(NamedTuple):
    """What to do.

    Attributes:
        action: `build it in`, `augment`, `keep a part of it`, `leave it` or `nothing to learn`.
        method: the recommended method, by the name in its config; None if nothing can be learned.
        sentence: the recommendation in words.
        reasons: sentences about the evidence and how certain it is.
        costs: a sentence about the costs of its answers and its training, relative to the plain CNN; empty if they are
            unknown.
        sure: whether, for every other method, the interval of the difference lies above 0, or above −margin if the
            other method costs at least as much.
    """

    action: str
    method: str | None
    sentence: str
    reasons: str
    costs: str
    sure: bool


def recommend(
    ranked: Sequence[MethodResults],
    accuracy: Mapping[MethodResults, float],
    titles: Mapping[MethodResults, str],
    difference: Callable[[MethodResults, MethodResults], Interval | None],
    margin: float,
    *,
    guessing: bool,
) -> Recommendation:
    """The cheapest of the methods whose accuracy is within the margin of the highest one.

    The cost is the number of multiply–adds per answer. Intervals do not decide, they only determine `sure`: an accuracy
    that is higher by more than the margin is the better guess, even if it may be chance.

    Args:
        ranked: the methods, the best first.
        accuracy: balanced accuracies, in [0, 1].
        titles: the methods' names in sentences.
        difference: the interval of the difference of two methods' accuracies; None if there are too few seeds.
        margin: a difference of balanced accuracies that counts as none.
        guessing: whether no method is clearly better than guessing.
    """
    if guessing:
        return Recommendation(NOTHING, None, NO_METHOD, "", "", False)
    near = [arm for arm in ranked if accuracy[ranked[0]] - accuracy[arm] <= margin]
    chosen = min(near, key=_cost)
    action = ACTIONS[chosen.kind]
    symmetry = SYMMETRY.get(chosen.group) or SYMMETRY.get(chosen.group.rstrip("0123456789"), "the symmetry")
    how = listed([word for name, word in (("rotate", "turned"), ("flip", "mirrored")) if name in chosen.augment])
    words = {"name": titles[chosen], "symmetry": symmetry, "how": how}
    others = [arm for arm in ranked if arm is not chosen]

    def surely(other: MethodResults) -> bool:
        d = difference(chosen, other)
        return d is not None and (d.low > 0 or (_cost(other) >= _cost(chosen) and d.low >= -margin))

    open_ = [arm for arm in others if not surely(arm)]
    reasons = [
        f"It is right on {100 * accuracy[chosen]:.1f} % of the test images, if all classes have the same weight."
    ]
    if chosen is not ranked[0]:
        best = f"The {titles[ranked[0]]} is ahead by {100 * (accuracy[ranked[0]] - accuracy[chosen]):.1f} points"
        reasons.append(f"{best}, which is less than {within(margin)}, and costs more.")
    if open_:
        names = listed([f"the {titles[arm]}" for arm in open_])
        reasons.append(f"It could also be {names}: these runs do not decide which one is better.")
    elif others:
        what = f"is not ahead by {within(margin)} and costs at least as much"
        reasons.append(f"Every other method is clearly worse, or {what}.")
    said = SENTENCES[action].format(**words)
    sentence = GUESS + said if open_ else upper(said)
    return Recommendation(action, chosen.name, sentence, " ".join(reasons), _costs(chosen, ranked), not open_)


def _cost(arm: MethodResults) -> tuple[float, ...]:
    kinds = ("plain", "augmented", "full", "partial", "augerino")
    return math.inf if arm.operations is None else arm.operations, kinds.index(arm.kind)


def _costs(chosen: MethodResults, arms: Sequence[MethodResults]) -> str:
    """`Compared with the plain CNN it needs 4.0 times the …`, as measured in these runs; empty if unknown."""
    plain = next((arm for arm in arms if arm.kind == "plain"), None)
    if plain is None or plain is chosen:
        return ""
    parts = []
    for what, ours, theirs in (
        ("multiply–adds for an answer", chosen.operations or math.nan, plain.operations or math.nan),
        ("time for an answer", chosen.image_seconds, plain.image_seconds),
        ("time for a training step", chosen.step_seconds, plain.step_seconds),
    ):
        if math.isfinite(ours) and math.isfinite(theirs) and theirs > 0:
            parts.append(f"{ours / theirs:.1f} times the {what}")
    return f"Compared with the plain CNN it needs {listed(parts)}, as measured in these runs." if parts else ""
