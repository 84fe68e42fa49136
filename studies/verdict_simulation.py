"""How often the verdict of `ask` is right: simulated trainings whose truth is known.

`python -m studies.verdict_simulation --simulate` draws them and writes results/verdict/simulation.json, and with that
the tables of docs/ask.md; `--stopping` does so with results/verdict/stopping.json, of runs that are added until the
answer is known, and of folds. Without either the tables alone.
"""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from benchmarks.tables import fill
from partialsym._utils.atomic import replace_text
from partialsym.ask import MARGIN, Difference, difference
from partialsym.ask.schedule import STRICT, closed
from partialsym.runs.provenance import provenance
from partialsym.runs.schema import read_json

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "results" / "verdict" / "simulation.json"
STOPPING = ROOT / "results" / "verdict" / "stopping.json"
DOCUMENT = ROOT / "docs" / "ask.md"
FORMAT = 1
TRIALS = 2000  # of a cell; half as many of the other processes
SEEDS, IMAGES, SPREADS, GAINS = (3, 5), (200, 500, 2000), (0.5, 1.0), (0.0, 3.0, 5.0)  # spreads and gains in points
OTHERS = ((3, 200, 0.5, 0.0), (3, 500, 1.0, 3.0), (3, 2000, 1.0, 0.0), (5, 2000, 0.5, 0.0))  # seeds, images, …
# Seeds, spread, margin, accuracy: how many images show that there is no difference.
PLANNED = ((3, 0.2, 1.0, 0.85), (5, 0.2, 1.0, 0.85), (3, 0.1, 1.0, 0.98), (5, 0.5, 2.0, 0.85))
# Of adding seeds: images and spread; gains in points; seeds at the first look and at most; levels of stopping.
OPEN, OPEN_GAINS = ((200, 0.5), (500, 1.0), (2000, 1.0)), (0.0, 3.0)
FEWEST, MOST, LEVELS = 3, 8, (0.95, STRICT)
# Of folds: seeds, images, spread, how many times as much the runs of one method of five spread.
FOLDED = (
    (3, 300, 0.5, 1.0),
    (3, 1000, 1.0, 1.0),
    (3, 3000, 1.0, 1.0),
    (4, 1000, 1.0, 1.0),
    (6, 1000, 1.0, 1.0),
    (3, 1000, 0.7, 2.0),
)
METHODS, FOLDS = 5, 3
PILOT = 500  # images from which that is foretold
Booleans = NDArray[np.bool_]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Process:
    """Two methods that answer the same images, in several runs each.

    A run answers an image rightly where a normal number of variance 1 lies below a threshold, which differs between
    runs: Φ⁻¹(accuracy) on average. The number is the sum of what the image is to all (`image`), to all runs of a method
    (`own`), and to a run alone (the rest).

    Attributes:
        image, own: shares of the variance.
        accuracy: balanced accuracy of the second method.
        classes: how frequent they are.
        bimodal: instead, each image has a chance to be answered rightly, of a beta distribution, most near 0 or 1; of
            `own` images the two methods have chances of their own.
        unequal: the spread of the second method's runs over that of the first.
        by_class: runs differ in each class by itself.
        tails: of ten runs one comes from a distribution nine times as wide.
        paired: correlation of the runs of two methods that have the same number.
        group: images a group, and `within` the share of every part of the variance that is the same in a group.
        one_class: the images of a group are of one class.
        ignored: the interval is not told of the groups.
    """

    image: float = 0.6
    own: float = 0.1
    accuracy: float = 0.85
    classes: tuple[float, ...] = (1.0,) * 10
    bimodal: bool = False
    unequal: float = 1.0
    by_class: bool = False
    tails: bool = False
    paired: float = 0.0
    group: int = 1
    within: float = 0.5
    one_class: bool = False
    ignored: bool = False

    def draw(
        self, random: np.random.Generator, gain: float, spread: float, images: int, seeds: int
    ) -> tuple[Booleans, Booleans, Integers, Integers | None]:
        """Right answers of both methods, [seeds, images] each, labels and groups of the images."""
        shares = np.array(self.classes) / sum(self.classes)
        counts = np.maximum(1, np.round(shares * images)).astype(int)
        labels = np.repeat(np.arange(len(counts)), counts)
        groups = self._groups(random, labels)
        runs = self._runs(random, seeds, len(counts))
        if self.bimodal:
            first, second = self._bimodal(random, gain, spread, labels, runs)
        else:
            common = self._part(random, self.image, 1, groups)
            first, second = (
                common
                + self._part(random, self.own, 1, groups)
                + self._part(random, 1 - self.image - self.own, seeds, groups)
                < self._thresholds(mean, scale, runs[method])[:, labels]
                for method, (mean, scale) in enumerate(self._means(gain, spread))
            )
        return first, second, labels, None if self.group == 1 or self.ignored else groups

    def several(
        self,
        random: np.random.Generator,
        gain: float,
        spread: float,
        labels: Integers,
        seeds: int,
        methods: int,
        unequal: float,
    ) -> list[Booleans]:
        """Right answers of so many methods; the first has the gain, and its runs spread `unequal` times as much."""
        groups = np.arange(len(labels))
        common, found = self._part(random, self.image, 1, groups), []
        for method in range(methods):
            mean, scale = self.accuracy + gain * (method == 0), spread * (unequal if method == 0 else 1)
            at = self._thresholds(mean, scale, self._runs(random, seeds, len(self.classes))[0])[:, labels]
            own, rest = (self._part(random, share, n, groups) for share, n in self._parts(seeds))
            found.append(common + own + rest < at)
        return found

    def _parts(self, seeds: int) -> tuple[tuple[float, int], tuple[float, int]]:
        """Shares of what is a method's own and what is a run's, and how often they are drawn."""
        return (self.own, 1), (1 - self.image - self.own, seeds)

    def _means(self, gain: float, spread: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """Accuracy and spread of both methods."""
        ratio = math.sqrt(self.unequal)
        return (self.accuracy + gain, spread / ratio), (self.accuracy, spread * ratio)

    def _runs(self, random: np.random.Generator, seeds: int, classes: int) -> NDArray[np.float64]:
        """Deviations of variance 1, [methods, seeds, classes]: in most processes the same in all classes."""
        shape = (3, seeds, classes if self.by_class else 1)
        drawn = random.standard_normal(shape)
        if self.tails:  # 0.9 · 0.33² + 0.1 · 3² = 1
            drawn *= np.where(random.random(shape) < 0.1, 3.0, 1 / 3)
        both, alone = drawn[2], drawn[:2]
        mixed = math.sqrt(self.paired) * both + math.sqrt(1 - self.paired) * alone
        scale = math.sqrt(classes) if self.by_class else 1.0
        return np.broadcast_to(scale * mixed, (2, seeds, classes))

    def _thresholds(self, mean: float, spread: float, runs: NDArray[np.float64]) -> NDArray[np.float64]:
        """[seeds, classes]; their accuracies have that mean exactly, and that spread nearly."""
        if self.tails:
            return np.asarray(ndtri(np.clip(mean + spread * runs, 0.01, 0.9999)))
        middle = float(ndtri(mean))
        sigma = spread * math.sqrt(2 * math.pi) * math.exp(middle**2 / 2)
        scale = math.sqrt(len(self.classes)) if self.by_class else 1.0
        return middle * math.sqrt(1 + (scale * sigma) ** 2) + sigma * runs

    def _bimodal(
        self, random: np.random.Generator, gain: float, spread: float, labels: Integers, runs: NDArray[np.float64]
    ) -> list[Booleans]:
        a, b = 0.7 * self.accuracy, 0.7 * (1 - self.accuracy)
        found, common = [], random.beta(a, b, len(labels))
        for method, (mean, scale) in enumerate(self._means(gain, spread)):
            chance = np.where(random.random(len(labels)) < self.own, random.beta(a, b, len(labels)), common)
            wanted = np.clip(mean + scale * runs[method], 0, 1)[:, labels]
            better, worse = (1 - wanted) / (1 - self.accuracy), wanted / self.accuracy
            moved = np.where(wanted > self.accuracy, 1 - (1 - chance) * better, chance * worse)
            found.append(random.random(moved.shape) < moved)
        return found

    def _groups(self, random: np.random.Generator, labels: Integers) -> Integers:
        order = np.arange(len(labels)) if self.one_class else random.permutation(len(labels))
        return order // self.group

    def _part(self, random: np.random.Generator, share: float, rows: int, groups: Integers) -> NDArray[np.float64]:
        alone = random.standard_normal((rows, len(groups)))
        if self.group == 1:
            return math.sqrt(share) * alone
        common = random.standard_normal((rows, int(groups.max()) + 1))[:, groups]
        return math.sqrt(share) * (math.sqrt(self.within) * common + math.sqrt(1 - self.within) * alone)


MAIN = Process()
PROCESSES = {
    "runs answer alike": Process(image=0.8, own=0.19),
    "runs answer each in its own way": Process(image=0.1, own=0.05),
    "images easy or hard": Process(bimodal=True, own=0.15),
    "runs differ in single classes": Process(by_class=True),
    "runs of one method differ twice as much": Process(unequal=2.0),
    "one run in ten is far off": Process(tails=True),
    "runs of the same number are alike": Process(paired=0.8),
    "two classes, 52 % right": Process(accuracy=0.52, classes=(1.0, 1.0)),
    "96 % right": Process(accuracy=0.96),
    "98.5 % right, gains a fifth": Process(accuracy=0.985),
    "nine of ten images in one class": Process(classes=(9.0, 1.0)),
    "ten classes, the k-th 1/k as frequent": Process(classes=tuple(1 / k for k in range(1, 11))),
    "groups of ten, any class": Process(group=10),
    "groups of ten, one class each": Process(group=10, one_class=True, classes=(1.0, 1.0)),
    "the same, but the interval is not told": Process(group=10, one_class=True, classes=(1.0, 1.0), ignored=True),
}


def estimates(
    process: Process, seeds: int, images: int, spread: float, gain: float, trials: int, seed: int = 0
) -> Iterator[Difference]:
    """What the verdict sees of each trial; spread and gain in points."""
    random = np.random.default_rng([seed, seeds, images, round(100 * spread), round(100 * gain)])
    for _ in range(trials):
        yield difference(*process.draw(random, gain / 100, spread / 100, images, seeds))


def cell(
    process: Process,
    seeds: int,
    images: int,
    spread: float,
    gain: float,
    trials: int,
    *,
    margin: float = 100 * MARGIN,
) -> dict[str, Any]:
    """Shares of the trials; spread, gain, margin and half the width of the interval in points."""
    found = np.array([100 * np.array(d.interval()) for d in estimates(process, seeds, images, spread, gain, trials)])
    mean, low, high = found.T
    helps, costs = low > 0, high < 0
    return {
        "seeds": seeds,
        "images": images,
        "spread": spread,
        "gain": gain,
        "trials": trials,
        "half_width": round(float((high - low).mean()) / 2, 3),
        "needed_half_width": round(float(ndtri(0.975) * mean.std(ddof=1)), 3),
        "coverage": float(((low <= gain) & (gain <= high)).mean()),
        "helps": float(helps.mean()),
        "costs": float(costs.mean()),
        "no_difference": float((~helps & ~costs & (np.maximum(-low, high) <= margin)).mean()),
    }


def planned(seeds: int, spread: float, margin: float, accuracy: float, trials: int) -> dict[str, Any]:
    """How many images pilots of equal methods ask for in the median, and how often these show no difference."""
    process = Process(accuracy=accuracy)
    pilots = [d.needed(margin / 100) for d in estimates(process, seeds, PILOT, spread, 0.0, trials // 5, seed=1)]
    enough = [found[0] for found in pilots if found and found[1] == seeds]
    images = round(float(np.median(enough)))
    return {
        "accuracy": accuracy,
        "margin": margin,
        "asked_for_images": len(enough) / len(pilots),
        "equal": cell(process, seeds, images, spread, 0.0, trials // 4, margin=margin),
        "at_margin": cell(process, seeds, images, spread, margin, trials // 4, margin=margin),
    }


def until_closed(
    process: Process,
    images: int,
    spread: float,
    gain: float,
    level: float,
    trials: int,
    *,
    margin: float = 100 * MARGIN,
) -> dict[str, Any]:
    """As `cell`, of runs that are added seed by seed until the interval of a level decides, or there are MOST.

    What is said is then said by the 95 % interval, as `ask` does.
    """
    random = np.random.default_rng([7, images, round(100 * spread), round(100 * gain)])
    found = []
    for _ in range(trials):
        first, second, labels, groups = process.draw(random, gain / 100, spread / 100, images, MOST)
        for seeds in range(FEWEST, MOST + 1):
            d = difference(first[:seeds], second[:seeds], labels, groups)
            if closed(d, margin / 100, FEWEST, level):
                break
        found.append([d.seeds, *(100 * value for value in d.interval()[1:])])
    seeds_, low, high = np.array(found).T
    return {
        "images": images,
        "spread": spread,
        "gain": gain,
        "level": level,
        "trials": trials,
        "seeds": round(float(seeds_.mean()), 2),
        "coverage": float(((low <= gain) & (gain <= high)).mean()),
        "helps": float((low > 0).mean()),
        "costs": float((high < 0).mean()),
    }


def folded(seeds: int, images: int, spread: float, unequal: float, gain: float, trials: int) -> dict[str, Any]:
    """As `cell`, of FOLDS folds, each run tested on one; of METHODS methods the first has that gain and spread."""
    random = np.random.default_rng([8, seeds, images, round(100 * spread), round(100 * unequal), round(100 * gain)])
    labels = np.repeat(np.arange(10), images // 10)
    there = np.arange(len(labels)) % FOLDS == np.arange(seeds)[:, None] % FOLDS
    found = []
    for _ in range(trials):
        methods = MAIN.several(random, gain / 100, spread / 100, labels, seeds, METHODS, unequal)
        rows = [np.where(there, right, np.nan) for right in methods]
        found.append([100 * value for value in difference(rows[0], rows[1], labels, None, rows).interval()])
    mean, low, high = np.array(found).T
    return {
        "seeds": seeds,
        "images": images,
        "spread": spread,
        "unequal": unequal,
        "gain": gain,
        "trials": trials,
        "half_width": round(float((high - low).mean()) / 2, 3),
        "needed_half_width": round(float(ndtri(0.975) * mean.std(ddof=1)), 3),
        "coverage": float(((low <= gain) & (gain <= high)).mean()),
        "helps": float((low > 0).mean()),
        "costs": float((high < 0).mean()),
    }


def stopping(trials: int) -> dict[str, Any]:
    """Everything in stopping.json."""
    open_ = [
        until_closed(MAIN, images, spread, gain, level, trials)
        for images, spread in OPEN
        for gain in OPEN_GAINS
        for level in LEVELS
    ]
    folds = [folded(*one, gain, trials) for one in FOLDED for gain in OPEN_GAINS]
    return {"format": FORMAT, **provenance(), "open": open_, "folds": folds}


def simulate(trials: int) -> dict[str, Any]:
    """Everything in simulation.json."""
    cells = [
        cell(MAIN, seeds, images, spread, gain, trials)
        for seeds in SEEDS
        for images in IMAGES
        for spread in SPREADS
        for gain in GAINS
    ]
    others = {
        name: [
            cell(process, seeds, images, spread, gain * (0.1 if process.accuracy > 0.98 else 1.0), trials // 2)
            for seeds, images, spread, gain in OTHERS
        ]
        for name, process in PROCESSES.items()
    }
    plans = [planned(seeds, spread, margin, accuracy, trials) for seeds, spread, margin, accuracy in PLANNED]
    return {"format": FORMAT, **provenance(), "cells": cells, "others": others, "planned": plans}


def texts() -> dict[str, str]:
    """What stands between each pair of marks of the document."""
    found = read_json(RESULT)
    return {
        "verdict": _cells(found["cells"]),
        "verdict-others": _others(found["others"]),
        "verdict-planned": _planned(found["planned"]),
        "verdict-open": _open((added := read_json(STOPPING))["open"]),
        "verdict-folds": _folds(added["folds"]),
    }


def _cells(cells: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| seeds | images | spread | half-width | coverage | false helps | false costs | sees 3 points | sees 5 |",
        "| --- |" + " --- |" * 8,
    ]
    for k in range(0, len(cells), len(GAINS)):
        equal, three, five = some = cells[k : k + len(GAINS)]
        shares = [c["coverage"] for c in some]
        texts = [
            str(equal["seeds"]),
            f"{equal['images']:,}",
            str(equal["spread"]),
            f"±{equal['half_width']:.1f}",
            f"{_percent(min(shares))} to {_percent(max(shares))}",
            *(_percent(share) for share in (equal["helps"], equal["costs"], three["helps"], five["helps"])),
        ]
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join(lines)


def _others(others: dict[str, list[dict[str, Any]]]) -> str:
    named = [f"{seeds} seeds, {images:,} images" for seeds, images, *_ in OTHERS]
    lines = [
        "| coverage where | " + " | ".join(named) + " | widest / needed | false alarms, at most |",
        "| --- |" + " --- |" * (len(OTHERS) + 2),
    ]
    for name, cells in others.items():
        width = max(one["half_width"] / one["needed_half_width"] for one in cells)
        alarms = max(one[side] for one in cells if one["gain"] == 0 for side in ("helps", "costs"))
        coverage = [_percent(one["coverage"]) for one in cells]
        lines.append("| " + " | ".join([name, *coverage, f"{width:.2f}", _percent(alarms)]) + " |")
    return "\n".join(lines)


def _planned(plans: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| accuracy | seeds | spread | margin | images asked for | said of equal methods | said at a difference of the "
        "margin |",
        "| --- |" + " --- |" * 6,
    ]
    for plan in plans:
        equal = plan["equal"]
        texts = [
            f"{100 * plan['accuracy']:.0f} %",
            str(equal["seeds"]),
            str(equal["spread"]),
            f"±{plan['margin']:g}",
            f"{equal['images']:,}",
            _percent(equal["no_difference"]),
            _percent(plan["at_margin"]["no_difference"]),
        ]
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join(lines)


def _open(cells: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| images | spread | stops at | coverage | false helps | false costs | sees 3 points | seeds, no gain | seeds, "
        "3 points |",
        "| --- |" + " --- |" * 8,
    ]
    for images, spread in OPEN:
        for level in LEVELS:
            none, some = (
                next(
                    c
                    for c in cells
                    if (c["images"], c["spread"], c["level"], c["gain"]) == (images, spread, level, gain)
                )
                for gain in OPEN_GAINS
            )
            texts = [
                f"{images:,}",
                str(spread),
                f"{100 * level:g} %",
                f"{_percent(min(none['coverage'], some['coverage']))}",
                *(_percent(share) for share in (none["helps"], none["costs"], some["helps"])),
                *(f"{c['seeds']:.1f}" for c in (none, some)),
            ]
            lines.append("| " + " | ".join(texts) + " |")
    return "\n".join(lines)


def _folds(cells: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| seeds | images | spread | half-width | width / needed | coverage | false helps | false costs | sees 3 |",
        "| --- |" + " --- |" * 8,
    ]
    for k in range(0, len(cells), len(OPEN_GAINS)):
        none, some = cells[k : k + len(OPEN_GAINS)]
        spread = f"{none['spread']}" + (
            f", of one method {none['spread'] * none['unequal']:g}" if none["unequal"] > 1 else ""
        )
        texts = [
            str(none["seeds"]),
            f"{none['images']:,}",
            spread,
            f"±{none['half_width']:.1f}",
            f"{max(c['half_width'] / c['needed_half_width'] for c in (none, some)):.2f}",
            _percent(min(none["coverage"], some["coverage"])),
            *(_percent(share) for share in (none["helps"], none["costs"], some["helps"])),
        ]
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulate", action="store_true", help="draw everything anew; some minutes")
    parser.add_argument("--trials", type=int, default=TRIALS, help="of a cell")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--stopping", action="store_true", help="draw anew what is added to, and folds; some minutes")
    options = parser.parse_args()
    if options.stopping:
        replace_text(STOPPING, json.dumps(stopping(options.trials // 4), indent=1, ensure_ascii=False) + "\n")
    if options.simulate:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        replace_text(options.out, json.dumps(simulate(options.trials), indent=1, ensure_ascii=False) + "\n")
    if options.out == RESULT:
        for mark, text in texts().items():
            fill(DOCUMENT, mark, text)


if __name__ == "__main__":
    main()
