"""Intervals of balanced accuracies and their differences: bootstrap over seeds, then test images, paired."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DRAWS = 4_000
# Quantiles of Student's t at 97.5 %, over the normal's, by degrees of freedom: what few seeds hide.
STUDENT = {1: 6.483, 2: 2.195, 3: 1.624, 4: 1.417, 5: 1.312, 6: 1.248, 7: 1.206, 8: 1.177, 9: 1.154}
Right = NDArray[np.bool_]  # [seeds, images], whether an answer is right


class Interval(NamedTuple):
    """A share, or a difference of shares, and where it lies by 95 % (or another level)."""

    mean: float
    low: float
    high: float


class Bootstrap:
    """Balanced accuracies of methods on the same test images, resampled together.

    Of every draw seeds are taken with replacement, the same for every method, and images within their class, the same
    for every method and seed, so that what is common to two methods leaves their difference. Deviations are widened
    to be unbiased for small n, √(n/(n − 1)), those between seeds by Student's t as well: from three seeds a plain
    percentile interval would hold the truth in some 75 % of cases, not 95 (Hesterberg 2015, "expanded percentile").
    Classes with a single test image are resampled together. No interval is narrower than what no image at all that
    speaks against it allows, ±(1 − 0.025^(1/N)), N the number of images of equal classes that would weigh as much,
    K²/Σ(1/n_k).

    Args:
        right: name → [seeds, images]; the same shape for each.
        labels: of the images, [images].
        seed, draws: of the resampling.
    Raises:
        ValueError: no methods, or shapes that differ.
    """

    def __init__(
        self, right: Mapping[str, Right], labels: NDArray[np.int64], seed: int = 0, draws: int = DRAWS
    ) -> None:
        shapes = {name: value.shape for name, value in right.items()}
        if not shapes or len(set(shapes.values())) > 1 or next(iter(shapes.values()))[1:] != labels.shape:
            raise ValueError(f"right has shapes {shapes}, labels {labels.shape}: must be [seeds, images], alike.")
        random = np.random.default_rng(seed)
        ((seeds, _),) = set(shapes.values())
        of_seeds = random.multinomial(seeds, [1 / seeds] * seeds, draws) / seeds
        widen = math.sqrt(seeds / max(1, seeds - 1)) * _student(seeds - 1)
        of_seeds = 1 / seeds + widen * (of_seeds - 1 / seeds)
        strata, weights = _strata(labels)
        self.effective = 1 / float((weights**2).sum())
        self._mean = {name: float((value * weights).sum(1).mean()) for name, value in right.items()}
        self._draws = {name: np.zeros(draws) for name in right}
        for stratum in strata:
            n = len(stratum)
            counts = random.multinomial(n, [1 / n] * n, draws)
            of_images = weights[stratum] * (1 + math.sqrt(n / max(1, n - 1)) * (counts - 1))
            for name, value in right.items():
                self._draws[name] += (of_seeds * (of_images @ value[:, stratum].T)).sum(1)

    def accuracy(self, name: str, level: float = 0.95) -> Interval:
        """Balanced accuracy of a method, its interval within [0, 1]."""
        mean, low, high = self._interval(self._mean[name], self._draws[name], level)
        return Interval(mean, max(0.0, low), min(1.0, high))

    def difference(self, first: str, second: str, level: float = 0.95) -> Interval:
        """Balanced accuracy of `first` less that of `second`."""
        return self._interval(self._mean[first] - self._mean[second], self._draws[first] - self._draws[second], level)

    def _interval(self, mean: float, draws: NDArray[np.float64], level: float) -> Interval:
        tail = (1 - level) / 2
        low, high = np.quantile(draws, [tail, 1 - tail])
        least = 1 - tail ** (1 / self.effective)
        return Interval(mean, min(float(low), mean - least), max(float(high), mean + least))


def _strata(labels: NDArray[np.int64]) -> tuple[list[NDArray[np.int64]], NDArray[np.float64]]:
    """Indices of the images that are drawn together, and what each weighs in the balanced accuracy."""
    _, of_class, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights = 1 / (counts[of_class] * len(counts))
    alone = np.flatnonzero(counts[of_class] == 1)
    strata = [np.flatnonzero(of_class == k) for k in np.flatnonzero(counts > 1)]
    return ([*strata, alone] if len(alone) else strata), weights


def _student(freedom: int) -> float:
    return 1.0 if freedom < 1 else STUDENT.get(freedom, 1 + 1.3 / freedom)
