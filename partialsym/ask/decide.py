"""The verdict itself."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from partialsym.ask.intervals import Difference, Floats, Interval, Right, accuracy, difference
from partialsym.ask.method_results import NAMES, Change, MethodResults, aligned, with_roles
from partialsym.ask.recommend import Recommendation, recommend
from partialsym.ask.text import (
    AUGMENTATION,
    BUILT_IN,
    COSTS,
    FIRST,
    HELPS,
    MIRRORED,
    NEITHER,
    ONE_GUESSES,
    OPEN,
    PART,
    PARTS,
    SEEDS_MISSING,
    SYMMETRIES,
    UNKNOWN,
    UNLESS,
    brier,
    change,
    headline,
    listed,
    needed,
    over,
    points,
    signed,
    upper,
    within,
)
from partialsym.errors import InputError

SEEDS = 3  # fewer say nothing of their spread
MARGIN = 0.01  # a difference below a point makes none, unless the user says otherwise
QUESTIONS = {  # question → what a network that is equivariant is blind to, and the groups that make it so
    "Rotation": ("how an image is turned", ("SE2", "C")),
    "Mirroring": ("which way round an image is", ("Mirror",)),
    "Rotation and mirroring together": ("how an image is turned and which way round it is", ("E2", "D")),
}
BOTH = QUESTIONS["Rotation and mirroring together"][1]


class Standing(NamedTuple):
    """How well a method generalises: balanced accuracy on `images` test images over `seeds` seeds.

    `name` is what the reader sees, `method` what its config calls it.
    """

    name: str
    accuracy: Interval
    seeds: int
    images: int
    method: str


class Finding(NamedTuple):
    """The answer to one question, in words; `difference` is what it rests on, in balanced accuracy."""

    question: str
    answer: str
    text: str
    difference: Interval | None


class Verdict(NamedTuple):
    """What was found, the shortest first; `best` says which method generalises best, `recommendation` what to do,
    None where there is one method alone."""

    headline: str
    findings: tuple[Finding, ...]
    standings: tuple[Standing, ...]
    best: str
    recommendation: Recommendation | None


def verdict(arms: Sequence[MethodResults], margin: float = MARGIN) -> Verdict:
    """Which symmetries the data have, as far as these runs can tell.

    A question is asked of two methods on equal terms: a G-CNN, which answers images of one orbit alike, and a plain
    CNN of the same width; d is the difference of their balanced accuracies on the seeds they share, with its 95 %
    interval (see `Difference`).

        helps                 d > 0: the interval lies above 0
        costs                 d < 0: it lies below 0
        makes no difference   it lies within ±margin
        not enough evidence   all else; fewer than 3 seeds; or neither method is better than guessing, which it is
                              where the 95 % interval of its balanced accuracy lies above 1/classes

    Where behaviours hold Brier scores, the text tells their difference too: a second reading, which decides nothing. It
    counts confidence, and so it also differs where one network is surer than it may be.

    "All of it, or a part" is asked of the Partial G-CNN and the full one of a group in the same way, and so are
    "Augmentation" of a plain CNN that turned and mirrored its training images and the plain one, and "Built in, or
    augmented" of a full G-CNN and the augmented one. Several questions are asked of the same runs, each at its own
    level: nothing is corrected for their number.

    Args:
        arms: methods on equal terms, one at most of each kind and group that a question needs.
        margin: a difference of balanced accuracies below which a symmetry makes none, in (0, 1).
    Raises:
        ValueError: no methods; other test images, classes or settings; a margin out of range.
    """
    if not arms:
        raise InputError("there are no methods to compare.")
    if not 0 < margin < 1:
        raise InputError(f"margin is {margin}: must be in (0, 1).")
    arms = aligned(with_roles(arms))
    _check(arms)
    judge = _Judge(arms, margin)
    findings = (*judge.symmetries(), *judge.augmentation(), *judge.parts())
    said = headline([(f.question, f.answer) for f in findings])
    return Verdict(said, findings, tuple(judge.standings), judge.best(), judge.recommendation())


def comparisons(arms: Sequence[MethodResults], margin: float = MARGIN) -> list[tuple[str, str, Difference | None]]:
    """Names of the two methods of each question, and their difference so far; arguments and errors as of `verdict`."""
    arms = aligned(with_roles(arms))
    _check(arms)
    judge = _Judge(arms, margin)
    for _ in (*judge.symmetries(), *judge.augmentation(), *judge.parts()):
        pass
    return judge.compared


class _Judge:
    def __init__(self, arms: Sequence[MethodResults], margin: float) -> None:
        self.compared: list[tuple[str, str, Difference | None]] = []
        self.arms, self.labels, self.titles, self.margin = arms, arms[0].labels, _titles(arms), margin
        self.groups = arms[0].groups
        alone = {arm: accuracy(arm.right, self.labels, self.groups) for arm in arms}
        self.standings = sorted(
            (Standing(self.titles[a], alone[a], len(a.seeds), len(a.labels), a.name) for a in arms),
            key=lambda standing: -standing.accuracy.mean,
        )
        chance = 1 / len(np.unique(self.labels))
        self.guessing = {arm for arm in arms if alone[arm].low <= chance}

    def difference(self, one: MethodResults, other: MethodResults) -> Difference | None:
        """Balanced accuracy of `one` less that of `other` on the seeds that both have; None where there are none."""
        shared = sorted({*one.seeds} & {*other.seeds})
        if not shared:
            return None
        first, second = (arm.right[arm.rows(shared)] for arm in (one, other))
        alike = self.alike([arm.right for arm in self.arms], shared)
        return difference(first, second, self.labels, self.groups, alike)

    def alike(self, values: Sequence[Right | Floats | None], seeds: Sequence[int]) -> list[Right | Floats]:
        """Those rows of all methods that have these seeds."""
        pairs = zip(self.arms, values, strict=True)
        return [v[arm.rows(seeds)] for arm, v in pairs if v is not None and {*seeds} <= {*arm.seeds}]

    def confidence(self, one: MethodResults, other: MethodResults) -> str:
        """What the Brier score says of the same comparison; nothing where it is unknown, or seeds are too few."""
        shared = sorted({*one.seeds} & {*other.seeds})
        if one.brier is None or other.brier is None or len(shared) < SEEDS:
            return ""
        first, second = one.brier[one.rows(shared)], other.brier[other.rows(shared)]
        alike = self.alike([arm.brier for arm in self.arms], shared)
        d = difference(first, second, self.labels, self.groups, alike).interval()
        return brier(d, self.titles[one], self.titles[other])

    def symmetries(self) -> Iterator[Finding]:
        """Plain against full, for every group."""
        plain = _only(self.arms, "plain", ("T2",))
        for question, (blind, groups) in QUESTIONS.items():
            full = _only(self.arms, "full", groups)
            if plain is None or full is None:
                continue
            answer, why, d = self.compare(full, plain)
            words = {"blind": blind, "why": why, "unless": _unless(full, plain, answer), **self._numbers(d)}
            said = SYMMETRIES[answer].format(**words), self.confidence(full, plain), self.kept(question, groups)
            yield Finding(question, answer, " ".join(filter(None, said)), d)

    def augmentation(self) -> Iterator[Finding]:
        """Augmented against plain, and the full network of as large a group against augmented."""
        plain, augmented = _only(self.arms, "plain", ("T2",)), _only(self.arms, "augmented", ("T2",))
        if augmented is None:
            return
        turns, flips = ("rotate" in augmented.augment), ("flip" in augmented.augment)
        groups = BOTH if turns and flips else QUESTIONS["Rotation" if turns else "Mirroring"][1]
        full = _only(self.arms, "full", groups)
        how = listed([word for word, there in (("turned", turns), ("mirrored", flips)) if there])
        for question, one, other, sentences in (
            ("Augmentation", augmented, plain, AUGMENTATION),
            ("Built in, or augmented", full, augmented, BUILT_IN),
        ):
            if one is not None and other is not None:
                answer, why, d = self.compare(one, other)
                said = sentences[answer].format(how=how, why=why, name=self.titles[one], **self._numbers(d))
                yield Finding(question, answer, " ".join(filter(None, (said, self.confidence(one, other)))), d)

    def parts(self) -> Iterator[Finding]:
        """Partial against full of the same group and number of elements."""
        for partial in (arm for arm in self.arms if arm.kind == "partial"):
            same = [a for a in self.arms if (a.group, a.samples) == (partial.group, partial.samples)]
            full = _only(same, "full", (partial.group,))
            if full is None or _only(same, "partial", (partial.group,)) is None:
                continue
            answer, why, d = self.compare(partial, full)
            group = NAMES.get(partial.group, partial.group)
            said = PARTS[answer].format(group=group, why=why, **self._numbers(d)), self.confidence(partial, full)
            text = " ".join(filter(None, said))
            yield Finding(f"All of {group}, or a part", PART if answer == HELPS else answer, text, d)

    def compare(self, one: MethodResults, other: MethodResults) -> tuple[str, str, Interval | None]:
        """Answer, the reason where there is none, and the difference `one` − `other`."""
        found = self.difference(one, other)
        self.compared.append((one.name, other.name, found))
        d = None if found is None else found.interval()
        if found is None or d is None or found.seeds < SEEDS:
            return UNKNOWN, SEEDS_MISSING.format(seeds=0 if found is None else found.seeds, least=SEEDS), d
        if self.guessing >= {one, other}:
            return UNKNOWN, ONE_GUESSES.format(self.titles[one], self.titles[other]), d
        if d.low > 0:
            return HELPS, "", d
        if d.high < 0:
            return COSTS, "", d
        if max(-d.low, d.high) <= self.margin:
            return NEITHER, "", d
        why = OPEN.format(self.titles[one], self.titles[other], signed=signed(d))
        return UNKNOWN, f"{why} {needed(found, self.margin)}".strip(), d

    def _numbers(self, d: Interval | None) -> Mapping[str, str]:
        return {} if d is None else {"points": points(d), "signed": signed(d), "margin": within(self.margin)}

    def kept(self, question: str, groups: Sequence[str]) -> str:
        """How far the predictions of the partial network that can keep this symmetry stay, as measured."""
        partial = _only(self.arms, "partial", (*groups, *BOTH))
        if partial is None or question not in ("Rotation", "Mirroring"):
            return ""
        name, images = self.titles[partial], partial.turned
        if question == "Mirroring":
            return MIRRORED.format(share=over(100 * np.array(partial.mirrored), " %"), name=name, images=images)
        return "" if partial.changed is None else self.turns(partial.changed, name, images)

    def turns(self, changed: Change, name: str, images: int) -> str:
        """From which turn on, and in which direction, half of the answers change; of two classes, of each."""
        said = change((changed.counter_clockwise, changed.clockwise), name, f"{images} test images")
        if len(changed.classes) != 2:
            return said
        classes = self.arms[0].classes
        parts = [change(both, "", f"class {classes[label]}") for label, both in changed.classes.items()]
        return f"{said} {' '.join(parts)}"

    def recommendation(self) -> Recommendation | None:
        """What to do, from the accuracies and what each method costs."""
        if len(self.arms) < 2:
            return None
        by_name = {arm.name: arm for arm in self.arms}
        ranked = [by_name[standing.method] for standing in self.standings]

        def difference(one: MethodResults, other: MethodResults) -> Interval | None:
            found = self.difference(one, other)
            return None if found is None or found.seeds < SEEDS else found.interval()

        return recommend(
            ranked,
            {arm: alone.accuracy.mean for arm, alone in zip(ranked, self.standings, strict=True)},
            self.titles,
            difference,
            self.margin,
            guessing=self.guessing == {*self.arms},
        )

    def best(self) -> str:
        """Which method is best, by 95 % intervals of the differences."""
        by_name = {arm.name: arm for arm in self.arms}
        top, *others = [by_name[standing.method] for standing in self.standings]
        if not others:
            return f"{upper(self.titles[top])} is the only method."
        if self.guessing == {*self.arms}:
            return "No method is surely better than guessing."
        found = {other: self.difference(top, other) for other in others}
        near = [self.titles[o] for o, d in found.items() if d is None or d.seeds < SEEDS or d.interval().low <= 0]
        if near:
            return f"{upper(self.titles[top])} comes first, but is not told apart from {listed(near)}."
        second = found[others[0]]
        assert second is not None
        return FIRST.format(upper(self.titles[top]), points(second.interval()), self.titles[others[0]])


def _unless(full: MethodResults, plain: MethodResults, answer: str) -> str:
    """A caution where the loser learned its training images less well; nothing where that is unknown."""
    shares = [100 * float(np.mean(arm.trained)) for arm in (full, plain)]
    behind = {COSTS: shares[0] < shares[1] - 1, HELPS: shares[1] < shares[0] - 1}
    return UNLESS.format(*shares) if behind.get(answer, False) else ""


def _check(arms: Sequence[MethodResults]) -> None:
    first, held = arms[0], dict[str, tuple[Any, str]]()
    for arm in arms:
        if arm.classes != first.classes or not np.array_equal(arm.labels, first.labels):
            raise InputError(f"{arm.name!r} and {first.name!r} have different test images: they cannot be compared.")
        for seed in {*arm.seeds} & {*first.seeds}:
            one, other = (a.lengths[a.seeds.index(seed)] for a in (arm, first))
            if one != other:
                what = (
                    f"epochs, passes and images are {one} in seed {seed} of {arm.name!r} and {other} in {first.name!r}"
                )
                raise InputError(f"{what}: not on equal terms.")
        for key, value in arm.terms.items():
            before, name = held.setdefault(key, (value, arm.name))
            if before != value:
                raise InputError(f"{key} is {value!r} in {arm.name!r} and {before!r} in {name!r}: not on equal terms.")


def _titles(arms: Sequence[MethodResults]) -> dict[MethodResults, str]:
    """Titles, with the name where two methods have the same."""
    all_ = [arm.title for arm in arms]
    return {arm: arm.title if all_.count(arm.title) == 1 else f"{arm.title} ({arm.name})" for arm in arms}


def _only(arms: Sequence[MethodResults], kind: str, groups: Sequence[str]) -> MethodResults | None:
    """The one arm of a kind and group; None where there is none, or more than one to choose from."""
    found = [
        arm for arm in arms if arm.kind == kind and not {arm.group, arm.group.rstrip("0123456789")}.isdisjoint(groups)
    ]
    return found[0] if len(found) == 1 else None
