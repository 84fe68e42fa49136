"""Balanced accuracies of methods and their differences, with intervals for the choice of images and runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from partialsym.errors import InputError

LEVEL = 0.95
POWER = 0.8  # of `Difference.needed`
MOST_SEEDS = 100
NORMAL = 1e6  # with more degrees of freedom, Student's t equals the normal distribution to rounding
Right = NDArray[np.bool_]  # [seeds, images], whether an answer is right
Labels = NDArray[np.int64]
Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A share in [0, 1], or a difference of shares, with the limits of its interval at 95 % (or another level)."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A difference of two balanced accuracies (or a single one), and the variances of its error.

    The model: run s of method m is right on image i with the value μ_m + run_ms + image_mi + rest_msi. Images and runs
    are drawn at random; all runs answer the same images. With N images and S runs of each method,

        variance = images + max(0, runs − interaction).

    `images` estimates var(image_1 − image_2)/N + Σ_m var(rest_m)/(S N). `runs` estimates Σ_m var(run_m)/S plus the same
    second term, and `interaction` estimates this second term alone. The runs of two methods are treated as independent,
    even if their seeds have the same number. If such runs are correlated, the interval is wider than necessary.
    Quantiles are those of Student's t with Satterthwaite's (1946) degrees of freedom.

    If runs answer different images (folds), runs with the same number are paired, because they answer the same images.
    `runs` is then the variance of the differences of the pairs, divided by S. The images alone contribute
    `noise` = (Σ_s V_s − S·images)/(S (S − 1)) to it instead of the interaction. V_s is the variance due to images of
    the difference of pair s, as `images` is that of the mean over pairs. If all runs answer all images, the noise
    equals the interaction.

    Attributes:
        mean: the estimate.
        images, runs, interaction, noise: variances of the estimate, as above.
        image_freedom, run_freedom: degrees of freedom of `images` and `runs`; `run_freedom` is 0 for single runs.
        effective: the number of images, or groups, of equal weight that would give the same precision.
        size: root mean square of the differences of single images, or groups, among those that differ; 1 if none does.
        count: number of images.
        seeds: number of runs of the method with the fewest.
    """

    mean: float
    images: float
    runs: float
    interaction: float
    noise: float
    image_freedom: float
    run_freedom: float
    effective: float
    size: float
    count: int
    seeds: int

    def interval(self, level: float = LEVEL) -> Interval:
        """The interval mean ± half-width, at a level in (0, 1).

        The half-width is at least size · (1 − ((1 − level)/2)^(1/effective)), the limit for data in which no image
        differs.
        """
        half = self._half(1.0, 1.0, level)
        return Interval(self.mean, self.mean - half, self.mean + half)

    def half_width(self, seeds: float, level: float = LEVEL) -> float:
        """Half the width of the interval with `seeds` times as many seeds, if the variances are as estimated."""
        return self._half(1.0, seeds, level)

    def needed(self, margin: float, power: float = POWER, level: float = LEVEL) -> tuple[int, int] | None:
        """The number of test images and of seeds that show that there is no difference, as a lower bound.

        With these numbers the interval lies within ±margin with probability `power`, if the true difference is 0 and
        the variances are as estimated. The number of seeds is the smallest, starting at the present one, for which
        runs contribute at most half of the variance.

        Args:
            margin: a difference that counts as none, positive.
            power: probability in (0, 1).
            level: level of the interval, in (0, 1).
        Returns:
            (images, seeds); None if more than 100 seeds would be necessary.
        Raises:
            ValueError: margin is not positive.
        """
        if not margin > 0:
            raise InputError(f"margin is {margin}: must be positive.")

        def enough(images: float, seeds: float, within: float = margin) -> bool:
            spread = float(ndtri((1 + power) / 2)) * math.sqrt(self._variance(images, seeds)[0])
            return self._half(images, seeds, level) + spread <= within

        ratios = (n / self.seeds for n in range(self.seeds, MOST_SEEDS + 1))
        more = next((ratio for ratio in ratios if enough(math.inf, ratio, margin / math.sqrt(2))), None)
        if more is None:
            return None
        low, high = 0.0, 1.0
        while not enough(high, more):
            low, high = high, 2 * high
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (low, middle) if enough(middle, more) else (middle, high)
        return math.ceil(high * self.count), round(more * self.seeds)

    def _variance(self, images: float, seeds: float) -> tuple[float, float]:
        """The variance and its degrees of freedom, with `images` and `seeds` times as many images and seeds."""
        rest, noise = self.interaction / (images * seeds), self.noise / (images * seeds)
        of_images = (self.images - self.interaction) / images + rest
        of_runs = max(0.0, self.runs - self.noise) / seeds
        variance = of_images + of_runs
        if of_runs == 0:
            return variance, self.image_freedom * images
        spread = of_images**2 / (self.image_freedom * images) + (of_runs + noise) ** 2 / (self.run_freedom * seeds)
        return variance, variance**2 / spread

    def _half(self, images: float, seeds: float, level: float) -> float:
        variance, freedom = self._variance(images, seeds)
        tail = (1 - level) / 2
        least = self.size * (1 - tail ** (1 / (self.effective * images)))
        return max(float(stdtrit(min(freedom, NORMAL), 1 - tail)) * math.sqrt(variance), least)


def difference(
    first: Right | Floats,
    second: Right | Floats,
    labels: Labels,
    groups: Labels | None = None,
    alike: Sequence[Right | Floats] = (),
) -> Difference:
    """The balanced accuracy of `first` minus that of `second`: the mean over classes of the mean over images.

    Args:
        first, second: whether an answer is right, or any real score, [seeds, images]. The numbers of seeds may differ.
            With a single run the variance between runs is unknown, and is left out. An entry is nan if the run does not
            answer the image; the runs of both methods must then answer the same images, row by row.
        labels: class of each image, [images].
        groups: number of the group (a patient, a slide) of each image, [images]. The model then draws groups at random,
            not images, so images of one group are not treated as independent.
        alike: answers of all methods whose runs are assumed to have the same variance, including these two,
            [seeds, images] each. If runs answer different images, a few runs show their variance badly; it is then
            estimated from all these methods together.
    Raises:
        ValueError: shapes do not fit, or the methods answer different images.
    """
    signed = [np.asarray(first, dtype=np.float64), -np.asarray(second, dtype=np.float64)]
    return _estimate(signed, labels, groups, alike)


def accuracy(right: Right | Floats, labels: Labels, groups: Labels | None = None, level: float = LEVEL) -> Interval:
    """The balanced accuracy of a method, with an interval within [0, 1].

    The interval is Wilson's (1927), with Student's t, for the number of images whose binomial variance equals the
    estimated one. The arguments are those of `difference`.
    """
    wrong, _, most = _estimate([1.0 - np.asarray(right, dtype=np.float64)], labels, groups).interval(level)
    p, half = 1 - wrong, most - wrong
    binomial = p * (1 - p)
    if binomial < 1e-12:  # all answers are right, or none
        return Interval(p, max(0.0, p - half), min(1.0, p + half))
    q = half**2 / binomial  # t²/n
    middle, width = (p + q / 2) / (1 + q), math.sqrt(half**2 + q**2 / 4) / (1 + q)
    return Interval(p, middle - width, middle + width)


def _estimate(
    signed: list[Floats], labels: Labels, groups: Labels | None, alike: Sequence[Right | Floats] = ()
) -> Difference:
    """The estimate for the sum of the terms in `signed`, [seeds, images] each."""
    shapes = [values.shape for values in signed]
    expected = labels.shape if groups is None else groups.shape
    if labels.ndim != 1 or not len(labels) or any(s[1:] != labels.shape or not s[0] for s in shapes):
        raise InputError(f"answers have shapes {shapes}, labels {labels.shape}: must be [seeds, images] and [images].")
    if expected != labels.shape:
        raise InputError(f"groups have shape {expected}, labels {labels.shape}: must be alike.")
    if any(np.isnan(values).any() for values in signed):
        return _of_folds(signed, labels, groups, alike)
    sample = _Sample(labels, groups)
    mean = np.sum([values.mean(0) for values in signed], axis=0)
    repeated = [values for values in signed if len(values) > 1]
    runs = [float((values @ sample.weights).var(ddof=1)) / len(values) for values in repeated]
    rests = [values - values.mean(0) for values in repeated]
    interaction = sum(float((sample.errors(r) ** 2).sum()) / (len(r) - 1) / len(r) for r in rests)
    parts = sum(run**2 / (len(values) - 1) for run, values in zip(runs, repeated, strict=True))
    return Difference(
        images=max(interaction, sample.variance(mean)),
        runs=sum(runs),
        interaction=interaction,
        noise=interaction,
        run_freedom=sum(runs) ** 2 / parts if parts else 0.0,
        seeds=min(map(len, signed)),
        **sample.about(mean),
    )


class _Folds:
    """Runs that answer different images, `there` [seeds, images]; images that no run answers are left out."""

    def __init__(self, there: Right, labels: Labels, groups: Labels | None) -> None:
        if not there.any(1).all():
            raise InputError("a run answers no image.")
        self.asked = there.any(0)
        self.there, self.labels = there[:, self.asked], labels[self.asked]
        self.groups = None if groups is None else groups[self.asked]
        self.sample, self.seeds, self.repeats = _Sample(self.labels, self.groups), len(there), self.there.sum(0)
        of = self.groups
        self.alone = [_Sample(self.labels[t], None if of is None else of[t]) for t in self.there]

    def mean(self, values: Floats) -> Floats:
        """The mean for each image over the runs that answer it: [seeds, images] → [images]."""
        return np.nansum(values, axis=0) / self.repeats

    def interaction(self, values: Floats) -> float:
        """The variance of the interaction, estimated from the images that several runs answer."""
        repeats = np.maximum(1, self.repeats * (self.repeats - 1))
        apart = np.where(self.there, values - self.mean(values), 0.0) / np.sqrt(repeats)
        return sum(self.sample.variance(row) for row in apart)

    def spread(self, values: Floats) -> tuple[float, float]:
        """The variances `runs` and `noise` of a `Difference`."""
        if self.seeds == 1:
            return 0.0, 0.0
        alone = [(own, row[there]) for own, row, there in zip(self.alone, values, self.there, strict=True)]
        means = np.array([float(row @ own.weights) for own, row in alone])
        within = sum(own.variance(row) for own, row in alone)
        images = self.seeds * self.sample.variance(self.mean(values))
        return float(means.var(ddof=1)) / self.seeds, max(0.0, within - images) / (self.seeds * (self.seeds - 1))


def _of_folds(
    signed: list[Floats], labels: Labels, groups: Labels | None, alike: Sequence[Right | Floats] = ()
) -> Difference:
    """`_estimate` for runs that answer different images; the entries of the others are nan."""
    there = ~np.isnan(signed[0])
    if any(values.shape != there.shape or (np.isnan(values) == there).any() for values in [*signed, *alike]):
        raise InputError("the runs of all methods must answer the same images, row by row.")
    folds = _Folds(there, labels, groups)
    values = np.sum(signed, axis=0)[:, folds.asked]
    images, (runs, noise), freedom = folds.sample.variance(folds.mean(values)), folds.spread(values), folds.seeds - 1.0
    if len(alike) > 2:
        pairs = [folds.spread((one - other)[:, folds.asked]) for one, other in combinations(alike, 2)]
        runs = max(0.0, noise + float(np.mean([run - without for run, without in pairs])))
        freedom *= len(alike) - 1
    return Difference(
        images=images,
        runs=runs,
        interaction=min(images, folds.interaction(values)),
        noise=noise,
        run_freedom=freedom,
        seeds=folds.seeds,
        **folds.sample.about(folds.mean(values)),
    )


class _Sample:
    """Test images as a sample of groups, stratified by class; without groups, each image is a group.

    Classes with a single group together form one stratum, because a single group shows no variance.

    Attributes:
        weights: weight of each image in a balanced accuracy, 1/(K n_k), [images].
        shares: the sum of the weights of each group's images, [groups].
        freedom: degrees of freedom of the variance between groups, if a group's variance is proportional to its share².
    """

    def __init__(self, labels: Labels, groups: Labels | None) -> None:
        _, of_class, counts = np.unique(labels, return_inverse=True, return_counts=True)
        self.weights: Floats = 1 / (counts[of_class] * len(counts))
        self.group = np.unique(np.arange(len(labels)) if groups is None else groups, return_inverse=True)[1]
        single = self._groups_in(of_class) == 1
        self.stratum = np.unique(np.where(single[of_class], -1, of_class), return_inverse=True)[1]
        self.totals = np.bincount(self.stratum, self.weights)
        n = self._groups_in(self.stratum)
        unbiased = (n / np.maximum(1, n - 1))[self.stratum]
        self.factors = np.sqrt(unbiased)
        self.shares = self.sums(self.weights**0)
        of_group = self.sums(unbiased) / self.shares
        self.freedom = float((self.shares**2).sum() ** 2 / (self.shares**4 * of_group).sum())

    def _groups_in(self, of: NDArray[np.intp]) -> NDArray[np.intp]:
        """The number of groups with images in each class, or stratum."""
        count = int(self.group.max()) + 1
        return np.bincount(np.unique(of * count + self.group) // count)

    def variance(self, values: Floats) -> float:
        """The variance of Σ weight · value between groups."""
        return float((self.errors(values) ** 2).sum())

    def about(self, mean: Floats) -> dict[str, Any]:
        """The fields of a `Difference` that depend on the mean of each image, [images]."""
        by_group = self.sums(mean) / self.shares
        differ = by_group[abs(by_group) > 1e-9]  # rounding: sums of thirds may differ from 0
        return {
            "mean": float(mean @ self.weights),
            "image_freedom": self.freedom,
            "effective": 1 / float((self.shares**2).sum()),
            "size": math.sqrt(float((differ**2).mean())) if len(differ) else 1.0,
            "count": len(mean),
        }

    def sums(self, values: Floats) -> Floats:
        """Σ weight · value over each group: [..., images] → [..., groups]."""
        flat = (self.weights * values).reshape(-1, values.shape[-1])
        return np.array([np.bincount(self.group, row) for row in flat]).reshape(*values.shape[:-1], -1)

    def errors(self, values: Floats) -> Floats:
        """Each group's contribution to the error of Σ weight · value; the sum of their squares is its variance."""
        flat = (self.weights * values).reshape(-1, values.shape[-1])
        means = np.array([np.bincount(self.stratum, row) for row in flat]) / self.totals
        centred = values - means[:, self.stratum].reshape(values.shape)
        return self.sums(self.factors * centred)
