"""The verdict: which symmetries help, cost or make no difference, computed from the answers of all methods."""

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

SEEDS = 3  # fewer runs do not show how much runs differ
MARGIN = 0.01  # a difference below one percentage point counts as none, unless the user sets another margin
QUESTIONS = {  # question → what an invariant network ignores, and the groups that make it invariant
    "Rotation": ("how an image is turned", ("SE2", "C")),
    "Mirroring": ("whether an image is mirrored", ("Mirror",)),
    "Rotation and mirroring together": ("how an image is turned and whether it is mirrored", ("E2", "D")),
}
BOTH = QUESTIONS["Rotation and mirroring together"][1]


class Standing(NamedTuple):
    """How well a method generalises: balanced accuracy on `images` test images over `seeds` seeds.

    `name` is the title on the page, `method` the name in the config.
    """

    name: str
    accuracy: Interval
    seeds: int
    images: int
    method: str


class Finding(NamedTuple):
    """The answer to one question, in words; `difference` is the difference of balanced accuracies that decided it."""

    question: str
    answer: str
    text: str
    difference: Interval | None


class Verdict(NamedTuple):
    """All answers, with a headline.

    `best` is a sentence about the method that generalises best. `recommendation` says what to do; it is None if there
    is only one method.
    """

    headline: str
    findings: tuple[Finding, ...]
    standings: tuple[Standing, ...]
    best: str
    recommendation: Recommendation | None


def verdict(methods: Sequence[MethodResults], margin: float = MARGIN) -> Verdict:
    """Which symmetries the data have, as far as these runs show it.

    Each question compares two methods on equal terms: a G-CNN, which gives all images of one orbit the same answer, and
    a plain CNN of the same width. d is the difference of their balanced accuracies on the seeds that both have, with
    its 95 % interval (see `Difference`).

        helps                 the interval of d lies above 0
        costs                 the interval of d lies below 0
        makes no difference   the interval of d lies within ±margin
        not enough evidence   all other cases; fewer than 3 seeds; or neither method is better than guessing. A method
                              is better than guessing if the 95 % interval of its balanced accuracy lies above 1/classes

    If the behaviours contain Brier scores, the text reports their difference too. It decides nothing: the score counts
    confidence, so it also differs if one network is overconfident.

    Three more questions are decided in the same way: "All of it, or a part" compares the Partial G-CNN with the full
    one of a group, "Augmentation" compares a plain CNN that turned and mirrored its training images with the plain one,
    and "Built in, or augmented" compares a full G-CNN with the augmented CNN. All questions use the same runs, each at
    its own level: there is no correction for their number.

    Args:
        methods: methods on equal terms, at most one of each kind and group that a question needs.
        margin: a difference of balanced accuracies that counts as none, in (0, 1).
    Raises:
        ValueError: there are no methods; their test images, classes or settings differ; the margin is out of range.
    """
    if not methods:
        raise InputError("there are no methods to compare.")
    if not 0 < margin < 1:
        raise InputError(f"margin is {margin}: must be in (0, 1).")
    methods = aligned(with_roles(methods))
    _check(methods)
    judge = _Judge(methods, margin)
    findings = (*judge.symmetries(), *judge.augmentation(), *judge.parts())
    said = headline([(f.question, f.answer) for f in findings])
    return Verdict(said, findings, tuple(judge.standings), judge.best(), judge.recommendation())


def comparisons(methods: Sequence[MethodResults], margin: float = MARGIN) -> list[tuple[str, str, Difference | None]]:
    """The names of the two methods of each question, and their difference so far.

    The difference is None if the methods share no seed. Arguments and errors are those of `verdict`.
    """
    methods = aligned(with_roles(methods))
    _check(methods)
    judge = _Judge(methods, margin)
    for _ in (*judge.symmetries(), *judge.augmentation(), *judge.parts()):
        pass
    return judge.compared


class _Judge:
    def __init__(self, methods: Sequence[MethodResults], margin: float) -> None:
        self.compared: list[tuple[str, str, Difference | None]] = []
        self.methods, self.labels, self.titles, self.margin = methods, methods[0].labels, _titles(methods), margin
        self.groups = methods[0].groups
        alone = {method: accuracy(method.right, self.labels, self.groups) for method in methods}
        self.standings = sorted(
            (Standing(self.titles[a], alone[a], len(a.seeds), len(a.labels), a.name) for a in methods),
            key=lambda standing: -standing.accuracy.mean,
        )
        chance = 1 / len(np.unique(self.labels))
        self.guessing = {method for method in methods if alone[method].low <= chance}

    def difference(self, one: MethodResults, other: MethodResults) -> Difference | None:
        """Balanced accuracy of `one` minus that of `other` on the seeds that both have; None if they share no seed."""
        shared = sorted({*one.seeds} & {*other.seeds})
        if not shared:
            return None
        first, second = (method.right[method.rows(shared)] for method in (one, other))
        alike = self.alike([method.right for method in self.methods], shared)
        return difference(first, second, self.labels, self.groups, alike)

    def alike(self, values: Sequence[Right | Floats | None], seeds: Sequence[int]) -> list[Right | Floats]:
        """The rows of these seeds, from every method that has all of them."""
        pairs = zip(self.methods, values, strict=True)
        return [v[method.rows(seeds)] for method, v in pairs if v is not None and {*seeds} <= {*method.seeds}]

    def confidence(self, one: MethodResults, other: MethodResults) -> str:
        """A sentence about the Brier scores of the same comparison; empty if they are unknown or seeds are too few."""
        shared = sorted({*one.seeds} & {*other.seeds})
        if one.brier is None or other.brier is None or len(shared) < SEEDS:
            return ""
        first, second = one.brier[one.rows(shared)], other.brier[other.rows(shared)]
        alike = self.alike([method.brier for method in self.methods], shared)
        d = difference(first, second, self.labels, self.groups, alike).interval()
        return brier(d, self.titles[one], self.titles[other])

    def symmetries(self) -> Iterator[Finding]:
        """Compare the full network of each group with the plain one."""
        plain = _only(self.methods, "plain", ("T2",))
        for question, (blind, groups) in QUESTIONS.items():
            full = _only(self.methods, "full", groups)
            if plain is None or full is None:
                continue
            answer, why, d = self.compare(full, plain)
            words = {"blind": blind, "why": why, "unless": _unless(full, plain, answer), **self._numbers(d)}
            said = SYMMETRIES[answer].format(**words), self.confidence(full, plain), self.kept(question, groups)
            yield Finding(question, answer, " ".join(filter(None, said)), d)

    def augmentation(self) -> Iterator[Finding]:
        """Compare the augmented network with the plain one, and the full one of the same group with the augmented."""
        plain, augmented = _only(self.methods, "plain", ("T2",)), _only(self.methods, "augmented", ("T2",))
        if augmented is None:
            return
        turns, flips = ("rotate" in augmented.augment), ("flip" in augmented.augment)
        groups = BOTH if turns and flips else QUESTIONS["Rotation" if turns else "Mirroring"][1]
        full = _only(self.methods, "full", groups)
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
        """Compare each partial network with the full one of the same group and number of elements."""
        for partial in (method for method in self.methods if method.kind == "partial"):
            same = [a for a in self.methods if (a.group, a.samples) == (partial.group, partial.samples)]
            full = _only(same, "full", (partial.group,))
            if full is None or _only(same, "partial", (partial.group,)) is None:
                continue
            answer, why, d = self.compare(partial, full)
            group = NAMES.get(partial.group, partial.group)
            said = PARTS[answer].format(group=group, why=why, **self._numbers(d)), self.confidence(partial, full)
            text = " ".join(filter(None, said))
            yield Finding(f"All of {group}, or a part", PART if answer == HELPS else answer, text, d)

    def compare(self, one: MethodResults, other: MethodResults) -> tuple[str, str, Interval | None]:
        """The answer, the reason if it is `not enough evidence`, and the difference `one` − `other`."""
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
        """How far the predictions of the partial network with this symmetry stay the same, as measured."""
        partial = _only(self.methods, "partial", (*groups, *BOTH))
        if partial is None or question not in ("Rotation", "Mirroring"):
            return ""
        name, images = self.titles[partial], partial.turned
        if question == "Mirroring":
            return MIRRORED.format(share=over(100 * np.array(partial.mirrored), " %"), name=name, images=images)
        return "" if partial.changed is None else self.turns(partial.changed, name, images)

    def turns(self, changed: Change, name: str, images: int) -> str:
        """From which turn on, and in which direction, half of the answers change; if there are two classes, also for
        each of them."""
        said = change((changed.counter_clockwise, changed.clockwise), name, f"{images} test images")
        if len(changed.classes) != 2:
            return said
        classes = self.methods[0].classes
        parts = [change(both, "", f"class {classes[label]}") for label, both in changed.classes.items()]
        return f"{said} {' '.join(parts)}"

    def recommendation(self) -> Recommendation | None:
        """What to do, by the accuracies and costs of the methods; None if there is only one method."""
        if len(self.methods) < 2:
            return None
        by_name = {method.name: method for method in self.methods}
        ranked = [by_name[standing.method] for standing in self.standings]

        def difference(one: MethodResults, other: MethodResults) -> Interval | None:
            found = self.difference(one, other)
            return None if found is None or found.seeds < SEEDS else found.interval()

        return recommend(
            ranked,
            {method: alone.accuracy.mean for method, alone in zip(ranked, self.standings, strict=True)},
            self.titles,
            difference,
            self.margin,
            guessing=self.guessing == {*self.methods},
        )

    def best(self) -> str:
        """A sentence about the best method, decided by the 95 % intervals of the differences."""
        by_name = {method.name: method for method in self.methods}
        top, *others = [by_name[standing.method] for standing in self.standings]
        if not others:
            return f"{upper(self.titles[top])} is the only method."
        if self.guessing == {*self.methods}:
            return "No method is clearly better than guessing."
        found = {other: self.difference(top, other) for other in others}
        near = [self.titles[o] for o, d in found.items() if d is None or d.seeds < SEEDS or d.interval().low <= 0]
        if near:
            return (
                f"{upper(self.titles[top])} has the highest accuracy, but these runs cannot distinguish it from "
                f"{listed(near)}."
            )
        second = found[others[0]]
        assert second is not None
        return FIRST.format(upper(self.titles[top]), points(second.interval()), self.titles[others[0]])


def _unless(full: MethodResults, plain: MethodResults, answer: str) -> str:
    """A caution if the method that lost learned its training images less well; empty if that is unknown."""
    shares = [100 * float(np.mean(method.trained)) for method in (full, plain)]
    behind = {COSTS: shares[0] < shares[1] - 1, HELPS: shares[1] < shares[0] - 1}
    return UNLESS.format(*shares) if behind.get(answer, False) else ""


def _check(methods: Sequence[MethodResults]) -> None:
    first, held = methods[0], dict[str, tuple[Any, str]]()
    for method in methods:
        if method.classes != first.classes or not np.array_equal(method.labels, first.labels):
            raise InputError(f"{method.name!r} and {first.name!r} have different test images: they cannot be compared.")
        for seed in {*method.seeds} & {*first.seeds}:
            one, other = (a.lengths[a.seeds.index(seed)] for a in (method, first))
            if one != other:
                both = f"{one} in seed {seed} of {method.name!r} and {other} in {first.name!r}"
                raise InputError(f"epochs, passes and images are {both}: not on equal terms.")
        for key, value in method.terms.items():
            before, name = held.setdefault(key, (value, method.name))
            if before != value:
                raise InputError(
                    f"{key} is {value!r} in {method.name!r} and {before!r} in {name!r}: not on equal terms."
                )


def _titles(methods: Sequence[MethodResults]) -> dict[MethodResults, str]:
    """The titles; the name of the method follows if two methods have the same title."""
    all_ = [method.title for method in methods]
    return {
        method: method.title if all_.count(method.title) == 1 else f"{method.title} ({method.name})"
        for method in methods
    }


def _only(methods: Sequence[MethodResults], kind: str, groups: Sequence[str]) -> MethodResults | None:
    """The only method of a kind and group; None if there is none, or more than one."""
    found = [
        method
        for method in methods
        if method.kind == kind and not {method.group, method.group.rstrip("0123456789")}.isdisjoint(groups)
    ]
    return found[0] if len(found) == 1 else None
