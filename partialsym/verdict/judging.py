"""The verdict itself."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from partialsym.verdict.arms import NAMES, Arm
from partialsym.verdict.intervals import Bootstrap, Interval
from partialsym.verdict.wording import (
    COSTS,
    HELPS,
    NEITHER,
    ONE_GUESSES,
    OPEN,
    PART,
    PARTS,
    SEEDS_MISSING,
    SYMMETRIES,
    UNKNOWN,
    UNLESS,
    headline,
    listed,
    over,
    points,
    signed,
    upper,
)

SEEDS = 3  # fewer say nothing of their spread
MARGIN = 0.01  # a difference below a point makes none
GUESSING = 0.99  # level of the interval that must lie above guessing: one wrong method in 200
QUESTIONS = {  # question → what a network that is equivariant is blind to, and the groups that make it so
    "Rotation": ("how an image is turned", ("SE2", "C")),
    "Mirroring": ("which way round an image is", ("Mirror",)),
    "Rotation and mirroring together": ("how an image is turned and which way round it is", ("E2", "D")),
}


class Standing(NamedTuple):
    """How well a method generalises: balanced accuracy on `images` test images over `seeds` seeds."""

    name: str
    accuracy: Interval
    seeds: int
    images: int


class Finding(NamedTuple):
    """The answer to one question, in words; `difference` is what it rests on, in balanced accuracy."""

    question: str
    answer: str
    text: str
    difference: Interval | None


class Verdict(NamedTuple):
    """What was found, the shortest first; `best` says which method generalises best."""

    headline: str
    findings: tuple[Finding, ...]
    standings: tuple[Standing, ...]
    best: str


def verdict(arms: Sequence[Arm]) -> Verdict:
    """Which symmetries the data have, as far as these runs can tell.

    A question is asked of two methods that differ in nothing else: a G-CNN, which answers images of one orbit alike,
    and a plain CNN; d is the difference of their balanced accuracies with its 95 % interval (see `Bootstrap`).

        helps                 d > 0: the interval lies above 0
        costs                 d < 0: it lies below 0
        makes no difference   it lies within ±1 point
        not enough evidence   all else; fewer than 3 seeds; or neither method is better than guessing, which it is
                              where its 99 % interval lies above 1/classes

    "How much of it" is asked of the Partial G-CNN and the full one of a group in the same way. Several questions are
    asked of the same runs, each at its own level: nothing is corrected for their number.

    Args:
        arms: methods on equal terms, one at most of each kind and group that a question needs.
    Raises:
        ValueError: no methods; other test images, classes or settings.
    """
    if not arms:
        raise ValueError("there are no methods to compare.")
    _check(arms)
    titles = _titles(arms)
    seeds = min(len(arm.right) for arm in arms)
    bootstrap = Bootstrap({titles[arm]: arm.right[:seeds] for arm in arms}, arms[0].labels)
    standings = tuple(
        Standing(titles[a], bootstrap.accuracy(titles[a]), seeds, len(a.labels))
        for a in sorted(arms, key=lambda a: -bootstrap.accuracy(titles[a]).mean)
    )
    judge = _Judge(bootstrap, titles, seeds, len(arms[0].classes))
    findings = (*judge.symmetries(arms), *judge.parts(arms))
    return Verdict(headline([(f.question, f.answer) for f in findings]), findings, standings, judge.best(arms))


class _Judge:
    def __init__(self, bootstrap: Bootstrap, titles: Mapping[Arm, str], seeds: int, classes: int) -> None:
        self.bootstrap, self.titles, self.seeds, self.classes = bootstrap, titles, seeds, classes

    def symmetries(self, arms: Sequence[Arm]) -> Iterator[Finding]:
        """Plain against full, for every group."""
        plain = _only(arms, "plain")
        for question, (blind, groups) in QUESTIONS.items():
            full = _only(arms, "full", groups)
            if plain is None or full is None:
                continue
            answer, why, d = self.compare(full, plain)
            unless = _unless(full, plain)
            said = SYMMETRIES[answer].format(blind=blind, points=points(d), signed=signed(d), why=why, unless=unless)
            kept = self.kept(arms, question)
            yield Finding(question, answer, " ".join(filter(None, [said, kept])), d)

    def parts(self, arms: Sequence[Arm]) -> Iterator[Finding]:
        """Partial against full of the same group."""
        for partial in (arm for arm in arms if arm.kind == "partial"):
            full = next((arm for arm in arms if arm.kind == "full" and arm.group == partial.group), None)
            if full is None:
                continue
            answer, why, d = self.compare(partial, full)
            group = NAMES.get(partial.group, partial.group)
            said = PARTS[answer].format(group=group, points=points(d), signed=signed(d), why=why)
            yield Finding(f"All of {group}, or a part", PART if answer == HELPS else answer, said, d)

    def compare(self, one: Arm, other: Arm) -> tuple[str, str, Interval]:
        """Answer, the reason where there is none, and the difference `one` − `other`."""
        names = self.titles[one], self.titles[other]
        d = self.bootstrap.difference(*names)
        if self.seeds < SEEDS:
            return UNKNOWN, SEEDS_MISSING.format(seeds=self.seeds, least=SEEDS), d
        if all(self.bootstrap.accuracy(name, GUESSING).low <= 1 / self.classes for name in names):
            return UNKNOWN, ONE_GUESSES.format(*names), d
        if d.low > 0:
            return HELPS, "", d
        if d.high < 0:
            return COSTS, "", d
        if max(-d.low, d.high) <= MARGIN:
            return NEITHER, "", d
        return UNKNOWN, OPEN.format(*names, signed=signed(d)), d

    def kept(self, arms: Sequence[Arm], question: str) -> str:
        """How far the predictions of a partial network stay, as measured."""
        partial = next((arm for arm in arms if arm.kind == "partial"), None)
        if partial is None or question not in ("Rotation", "Mirroring"):
            return ""
        name = self.titles[partial]
        if question == "Mirroring":
            shares = 100 * np.array(partial.mirrored)
            return f"The {name} answers {over(shares, '%')} of the images alike when they are mirrored."
        ranges = np.array(partial.preserved)
        if np.isnan(ranges).any():
            return ""
        return f"In the median over images the {name} answers alike up to turns of ±{over(ranges, '°')}."

    def best(self, arms: Sequence[Arm]) -> str:
        """Which method is best, by 95 % intervals of the differences."""
        names = sorted(self.titles.values(), key=lambda name: -self.bootstrap.accuracy(name).mean)
        top, *others = names
        if not others:
            return f"{upper(top)} is the only method."
        if all(self.bootstrap.accuracy(name, GUESSING).low <= 1 / self.classes for name in names):
            return "No method is surely better than guessing."
        ahead = [name for name in others if self.bootstrap.difference(top, name).low <= 0]
        if ahead or self.seeds < SEEDS:
            return f"{upper(top)} comes first, but is not told apart from {listed(ahead or others)}."
        return f"{upper(top)} generalises best, {points(self.bootstrap.difference(top, others[0]))} before {others[0]}."


def _unless(full: Arm, plain: Arm) -> str:
    """A caution where the full network learned its training images less well; nothing where that is unknown."""
    shares = [100 * float(np.mean(arm.trained)) for arm in (full, plain)]
    return UNLESS.format(*shares) if shares[0] < shares[1] - 1 else ""


def _check(arms: Sequence[Arm]) -> None:
    first, held = arms[0], dict[str, tuple[Any, str]]()
    for arm in arms:
        if arm.classes != first.classes or not np.array_equal(arm.labels, first.labels):
            raise ValueError(f"{arm.name!r} and {first.name!r} have different test images: they cannot be compared.")
        for key, value in arm.terms.items():
            before, name = held.setdefault(key, (value, arm.name))
            if before != value:
                raise ValueError(f"{key} is {value!r} in {arm.name!r} and {before!r} in {name!r}: not on equal terms.")


def _titles(arms: Sequence[Arm]) -> dict[Arm, str]:
    """Titles, with the name where two methods have the same."""
    all_ = [arm.title for arm in arms]
    return {arm: arm.title if all_.count(arm.title) == 1 else f"{arm.title} ({arm.name})" for arm in arms}


def _only(arms: Sequence[Arm], kind: str, groups: Sequence[str] = ("T2",)) -> Arm | None:
    """The one arm of a kind and group; None where there is none, or more than one to choose from."""
    found = [arm for arm in arms if arm.kind == kind and (arm.group in groups or arm.group[:1] in groups)]
    return found[0] if len(found) == 1 else None
