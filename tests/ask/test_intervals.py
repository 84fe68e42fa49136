"""Intervals of differences: their laws, and how often they hold the truth where it is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers import few
from scipy import stats

from partialsym.ask import accuracy, difference
from studies.verdict_simulation import MAIN, PROCESSES, cell, estimates


def drawn(process=MAIN, *, seeds=3, images=200, spread=1.0, gain=3.0, seed=0):
    return process.draw(np.random.default_rng(seed), gain / 100, spread / 100, images, seeds)


def by_hand(first, second, labels):
    """Half of the interval, by loops over classes, runs and images."""
    classes = np.unique(labels)
    images = rest = 0.0
    for k in classes:
        n = (labels == k).sum()
        one, other = first[:, labels == k].astype(float), second[:, labels == k].astype(float)
        images += np.var(one.mean(0) - other.mean(0), ddof=1) / n / len(classes) ** 2
        for right in (one, other):
            alone = right - right.mean(0) - right.mean(1, keepdims=True) + right.mean()
            rest += (alone**2).sum() / (len(right) - 1) / (n - 1) / n / len(right) / len(classes) ** 2
    runs = []
    for right in (first, second):
        accuracies = [np.mean([row[labels == k].mean() for k in classes]) for row in right]
        runs.append(np.var(accuracies, ddof=1) / len(right))
    counts = [(labels == k).sum() for k in classes]
    freedom = sum(1 / n for n in counts) ** 2 / sum(1 / n**2 / (n - 1) for n in counts)  # N − K where they are equal
    variance = images
    if sum(runs) > rest:
        variance += sum(runs) - rest
        by_runs = sum(v**2 / (len(r) - 1) for v, r in zip(runs, (first, second), strict=True))
        freedom = variance**2 / (images**2 / freedom + by_runs)
    return stats.t.ppf(0.975, freedom) * math.sqrt(variance)


@pytest.mark.parametrize("spread", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("name", ["runs answer alike", "ten classes, the k-th 1/k as frequent"])
def test_the_interval_is_the_one_by_hand(name, spread):
    for seed in range(3):
        first, second, labels, _ = drawn(PROCESSES[name], seeds=4, spread=spread, seed=seed)
        first = first[1:]  # a run less than of the second
        mean, low, high = difference(first, second, labels).interval()
        gains = [first[:, labels == k].mean() - second[:, labels == k].mean() for k in np.unique(labels)]
        assert mean == pytest.approx(np.mean(gains), abs=1e-12)
        assert [mean - low, high - mean] == pytest.approx([by_hand(first, second, labels)] * 2, rel=1e-9)


def test_the_order_of_methods_and_images_is_of_no_account():
    first, second, labels, _ = drawn()
    one, other = difference(first, second, labels).interval(), difference(second, first, labels).interval()
    assert (one.mean, one.low, one.high) == pytest.approx((-other.mean, -other.high, -other.low), abs=1e-12)
    order = np.random.default_rng(1).permutation(len(labels))
    assert difference(first[::-1, order], second[:, order], labels[order]).interval() == pytest.approx(one, abs=1e-12)
    assert difference(first, second, labels, order).interval() == pytest.approx(one, abs=1e-12)  # groups of one


def test_copies_of_an_image_say_nothing_more_where_they_are_a_group():
    first, second, labels, _ = drawn(images=100)
    copies, groups = [values.repeat(4, -1) for values in (first, second, labels)], np.arange(100).repeat(4)
    once, grouped = difference(first, second, labels), difference(*copies, groups)
    assert grouped.interval() == pytest.approx(once.interval(), abs=1e-12)
    assert grouped.effective == pytest.approx(100)
    assert accuracy(copies[0], copies[2], groups) == pytest.approx(accuracy(first, labels), abs=1e-12)
    assert difference(*copies).images < 0.3 * once.images  # taken for images of their own


def test_what_two_methods_share_does_not_widen_their_difference():
    """Images that are hard for both leave the difference, and so does nothing that is hard for one."""
    first, second, labels, _ = drawn()
    shared = difference(first, second, labels)
    apart = difference(first, np.roll(second, len(set(labels)), axis=1), labels)  # the same, of other images
    assert shared.mean == pytest.approx(apart.mean, abs=1e-12)
    assert shared.images < 0.6 * apart.images


def test_the_accuracy_of_one_run_has_wilsons_interval():
    right = np.arange(200) < 190
    mean, low, high = accuracy(right[None], np.zeros(200, int))
    expected = stats.binomtest(190, 200).proportion_ci(method="wilson")
    assert mean == pytest.approx(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=2e-3)  # Student's t is a little wider


@pytest.mark.parametrize("name", [None, "98.5 % right, gains a fifth", "groups of ten, one class each"])
def test_intervals_of_accuracies_hold_the_truth(name):
    process, random, held = PROCESSES[name] if name else MAIN, np.random.default_rng(0), 0
    for _ in range(300):
        _, right, labels, groups = process.draw(random, 0.0, 0.005, 200, 3)
        _, low, high = accuracy(right, labels, groups)
        held += low <= process.accuracy <= high
    assert held >= 0.91 * 300  # fewer in 1 of 1,000 samples where the coverage is 0.95


def test_accuracies_are_balanced_and_within_0_and_1():
    labels = np.array([0] * 90 + [1] * 10)
    assert accuracy(np.broadcast_to(labels == 0, (3, 100)), labels).mean == 0.5  # the larger class, always
    for wrong in (0, 1, 2, 99, 100):
        right = np.broadcast_to(np.arange(100) >= wrong, (3, 100))
        mean, low, high = accuracy(right, np.arange(100) % 2)
        assert mean == pytest.approx(1 - wrong / 100)
        assert 0 <= low <= mean <= high <= 1
        assert high - low > 0.03


@pytest.mark.parametrize(
    ("counts", "effective"), [([1000], 1000), ([50, 50], 100), ([1000, 2], 4 / (1 / 1000 + 1 / 2))]
)
def test_where_no_image_differs_their_number_alone_counts(counts, effective):
    labels = np.repeat(np.arange(len(counts)), counts)
    right = np.ones((3, len(labels)), bool)
    assert difference(right, right, labels).interval().high == pytest.approx(1 - 0.025 ** (1 / effective))


@pytest.mark.parametrize("counts", [[1] * 100, [2] * 50, [20] * 5, [100, 1, 1], [50, 1]])
def test_equal_methods_differ_in_few_cases_however_classes_are_filled(counts):
    labels, alarms = np.repeat(np.arange(len(counts)), counts), np.zeros(2)
    random = np.random.default_rng(0)
    for _ in range(300):
        one, other = (np.broadcast_to(random.random(len(labels)) < 0.8, (3, len(labels))) for _ in range(2))
        _, low, high = difference(one, other, labels).interval()
        alarms += [low > 0, high < 0]
    assert max(alarms) <= 0.05 * 300


# Of 400 trials with coverage 0.95, fewer than 0.92 hold the truth in 1 of 200 samples.
@pytest.mark.parametrize(
    ("name", "seeds", "images", "spread"),
    few(
        [
            (None, 3, 200, 0.5),
            (None, 5, 500, 1.0),
            *((name, 3, 200, 1.0) for name in PROCESSES if "not told" not in name),
        ],
        (None, 3, 200, 0.5),
        ("groups of ten, one class each", 3, 200, 1.0),
        ("98.5 % right, gains a fifth", 3, 200, 1.0),
    ),
)
def test_intervals_hold_the_truth(name, seeds, images, spread):
    found = cell(PROCESSES[name] if name else MAIN, seeds, images, spread, 0.0, 400)
    assert found["coverage"] >= 0.92
    assert max(found["helps"], found["costs"]) <= 0.05
    if name is None:
        assert found["coverage"] <= 0.99  # honest, and no wider than it must be


@pytest.mark.parametrize(
    ("half", "name"),
    [
        (lambda d: 1.96 * math.sqrt(d.images), "runs of one method differ twice as much"),  # images alone
        (lambda d: 1.96 * math.sqrt(d.runs), "runs answer alike"),  # runs alone
        (
            lambda d: 1.96 * math.sqrt(d.images + max(0, d.runs - d.interaction)),
            "runs of one method differ twice as much",
        ),
    ],
)
def test_simpler_intervals_do_not(half, name):
    trials = list(estimates(PROCESSES[name], 3, 500, 0.0 if name == "runs answer alike" else 1.5, 0.0, 300))
    assert np.mean([abs(d.mean) <= half(d) for d in trials]) < 0.9


@pytest.mark.parametrize("ignored", [False, True])
def test_groups_must_be_told(ignored):
    groups = replace(PROCESSES["groups of ten, one class each"], group=30, own=0.35, ignored=ignored)
    assert (cell(groups, 3, 900, 0.0, 0.0, 300)["coverage"] >= 0.92) != ignored


def test_scores_of_any_size_are_compared():
    first, second, labels, groups = drawn()
    scaled = difference(10 * first.astype(float) + 3, 10 * second.astype(float) + 3, labels, groups)
    assert scaled.interval() == pytest.approx(10 * np.array(difference(first, second, labels).interval()), abs=1e-9)


def test_the_images_needed_are_those_at_which_no_difference_is_seen():
    d = replace(difference(*drawn(gain=0.0, images=500)), images=2e-4, interaction=5e-5, runs=4e-5)  # no spread of runs
    images, seeds = d.needed(0.01)
    variance = 2e-4 * 500 / images
    assert seeds == 3
    assert (1.96 + stats.norm.ppf(0.9)) * math.sqrt(variance) == pytest.approx(0.01, rel=0.01)
    assert d.needed(0.02)[0] == pytest.approx(images / 4, rel=0.02)
    spread = replace(d, runs=1e-4)
    more, repeated = spread.needed(0.01)
    assert repeated > 3  # with three seeds no number of images would do
    assert math.isfinite(more)
    assert spread.needed(0.1)[1] == 3
    assert replace(d, runs=1.0).needed(0.01) is None
    right = np.ones((3, 60), bool)
    assert difference(right, right, np.arange(60) % 2).needed(0.01) == (368, 3)  # 0.025^(1/368) is 0.99
    with pytest.raises(ValueError, match=r"margin is 0: must be positive"):
        d.needed(0)


@pytest.mark.parametrize(
    ("shape", "labels", "groups", "message"),
    [
        ((3, 9), np.zeros(10, int), None, r"answers have shapes \[\(3, 9\), \(3, 9\)\], labels \(10,\)"),
        ((0, 10), np.zeros(10, int), None, r"must be \[seeds, images\]"),
        ((3, 0), np.zeros(0, int), None, r"must be \[seeds, images\]"),
        ((3, 10), np.zeros(10, int), np.zeros(9, int), r"groups have shape \(9,\), labels \(10,\)"),
    ],
)
def test_what_does_not_fit_is_refused(shape, labels, groups, message):
    right = np.ones(shape, bool)
    with pytest.raises(ValueError, match=message):
        difference(right, right, labels, groups)


def test_what_cancels_in_a_group_is_no_difference():
    """One network is wrong on another image of the group than the other: both are as good on every group."""
    one = np.array([[1, 1, 1, 0, 0, 0]] * 3 + [[1, 0, 1, 1, 0, 1]] * 4, bool).repeat(10, 1)
    other = one.reshape(7, 6, 10)[:, [3, 5, 0, 1, 2, 4]].reshape(7, 60)
    groups = np.tile(np.arange(10), 6)
    found = difference(one, other, np.zeros(60, int), groups)
    assert found.size == 1
    assert found.interval().high == pytest.approx(1 - 0.025 ** (1 / 10))


def folded(random, seeds, images=300, folds=3, methods=2, spread=0.0):
    """Right answers of each method, nan where a run tests another fold; labels."""
    there = np.arange(images) % folds == np.arange(seeds)[:, None] % folds
    easy = random.random(images)
    right = [easy + spread * random.normal(size=(seeds, 1)) < 0.8 for _ in range(methods)]
    return [np.where(there, one, np.nan) for one in right], np.arange(images) % 2


def test_nan_everywhere_the_same_is_the_fixed_split():
    """Runs that all test the same images, and others that none does: the images that are tested are all there is."""
    random = np.random.default_rng(0)
    first, second = random.random((3, 50)) < 0.9, random.random((3, 50)) < 0.7
    labels = np.arange(100) % 2
    wide = [np.concatenate([one, np.full((3, 50), np.nan)], 1) for one in (first, second)]
    found, plain = difference(*wide, labels), difference(first, second, labels[:50])
    assert found.mean == pytest.approx(plain.mean, abs=1e-12)
    assert found.images == pytest.approx(plain.images, rel=1e-12)
    assert found.interaction == pytest.approx(plain.interaction, rel=0.1), "of pairs of runs, not of each method's"
    assert found.noise == pytest.approx(found.interaction, rel=1e-9), "what images add to runs is then the interaction"
    assert (found.count, found.seeds) == (50, 3)


def test_the_variance_of_folds_is_that_of_pairs_of_runs():
    """Counted anew by hand: each image in one run, classes of equal size."""
    random = np.random.default_rng(1)
    (first, second), labels = folded(random, 3, methods=2, spread=0.1)
    d = difference(first, second, labels)
    gains = first - second
    means = [np.mean([np.nanmean(gains[k, labels == c]) for c in (0, 1)]) for k in range(3)]
    assert d.mean == pytest.approx(np.mean(means))
    assert d.runs == pytest.approx(np.var(means, ddof=1) / 3)
    each = np.nansum(gains, 0)
    assert d.images == pytest.approx(sum(each[labels == c].var(ddof=1) / 150 for c in (0, 1)) / 4)
    within = [
        sum(gains[k, (labels == c) & (np.arange(300) % 3 == k)].var(ddof=1) / 50 for c in (0, 1)) / 4 for k in range(3)
    ]
    assert d.noise == pytest.approx((sum(within) - 3 * d.images) / 6)
    assert d.interaction == 0, "no image is answered twice"
    assert (d.count, d.seeds, d.run_freedom) == (300, 3, 2)


def test_methods_together_say_more_of_the_spread_of_runs():
    random = np.random.default_rng(2)
    alone, together = [], []
    for _ in range(40):
        methods, labels = folded(random, 3, methods=5, spread=0.05)
        alone.append(difference(methods[0], methods[1], labels))
        together.append(difference(methods[0], methods[1], labels, alike=methods))
    assert {d.run_freedom for d in together} == {8.0}
    widths = [[np.ptp(d.interval()[1:]) for d in some] for some in (alone, together)]
    assert np.mean(widths[1]) < 0.85 * np.mean(widths[0])
    assert np.std(widths[1]) < 0.6 * np.std(widths[0])
    assert all(a.mean == b.mean for a, b in zip(alone, together, strict=True))


def test_groups_of_folds_count_once():
    """Copies of an image in its group change nothing."""
    random = np.random.default_rng(3)
    (first, second), labels = folded(random, 3, methods=2, spread=0.1)
    twice = [np.repeat(one, 2, axis=1) for one in (first, second)]
    d = difference(*twice, np.repeat(labels, 2), np.repeat(np.arange(300), 2))
    one = difference(first, second, labels)
    assert d.interval() == pytest.approx(one.interval(), rel=1e-9)
    assert d.images == pytest.approx(one.images)
    assert difference(*twice, np.repeat(labels, 2)).images < 0.51 * one.images, "not told, it takes them for more"


def test_runs_of_other_folds_are_no_pair():
    (first, second), labels = folded(np.random.default_rng(4), 3)
    with pytest.raises(ValueError, match="must answer the same images, row by row"):
        difference(first, second[::-1], labels)
    with pytest.raises(ValueError, match="a run answers no image"):
        difference(*(np.where(np.arange(3)[:, None] == 0, np.nan, one) for one in (first, second)), labels)
