"""The verdict: what it says of made-up answers, and that it says nothing where there is nothing to say."""

import copy

import numpy as np
import pytest
from made_up import behaviour, result

from partialsym.verdict import Bootstrap, arm, verdict

CLASSES = 2


def labels_of(images, classes=CLASSES):
    return np.arange(images) % classes


def answers(share, images=400, seeds=3, *, seed=0, classes=CLASSES, spread=0.0):
    """Right on `share` of the images: [seeds, images], each seed on its own, its share off by up to `spread`."""
    random = np.random.default_rng(seed)
    shares = share + spread * random.uniform(-1, 1, (seeds, 1))
    return random.random((seeds, images)) < shares


def arm_of(group, right, *, partial=False, name=None, classes=CLASSES, preserved=90.0, mirrored=0.5):
    labels = labels_of(right.shape[1], classes)
    predictions = np.where(right, labels, (labels + 1) % classes)
    results, behaviours = [], []
    for k, row in enumerate(predictions):
        one = result(group if group != "T2" else "SE2", seed=k, run=name or f"{group}-{partial}")
        one["config"]["model"] |= {"group": group, "partial": partial}
        results.append(one)
        behaviours.append(behaviour(labels, row, classes=classes, preserved=preserved, mirrored=mirrored))
    return arm(name or f"{group}-{partial}", results, behaviours)


def rotation(plain, full):
    (finding,) = verdict([arm_of("T2", plain), arm_of("SE2", full)]).findings
    assert finding.question == "Rotation"
    return finding


@pytest.mark.parametrize(
    ("plain", "full", "answer"),
    [(0.7, 0.9, "helps"), (0.9, 0.5, "costs"), (0.5, 0.9, "helps"), (0.80, 0.81, "not enough evidence")],
)
def test_a_clear_difference_is_called_by_its_sign(plain, full, answer):
    found = rotation(answers(plain), answers(full, seed=1))
    assert found.answer == answer
    assert found.difference.mean == pytest.approx(full - plain, abs=0.04)
    assert (found.difference.low > 0) == (answer == "helps")
    assert (found.difference.high < 0) == (answer == "costs")


def test_only_many_images_show_that_there_is_no_difference():
    few, many = np.ones((3, 60), bool), np.ones((3, 600), bool)
    assert rotation(few, few).answer == "not enough evidence"  # though all are right: 60 images cannot show a point
    assert rotation(many, many).answer == "makes no difference"


def test_fewer_than_three_seeds_are_no_evidence():
    clear = answers(0.6), answers(0.95)
    assert rotation(*clear).answer == "helps"
    found = rotation(*(right[:2] for right in clear))
    assert found.answer == "not enough evidence"
    assert "2 of 3 seeds" in found.text


def test_seeds_that_disagree_are_no_evidence():
    torn = np.concatenate([answers(0.5, seeds=1), answers(0.95, seeds=2)])
    assert rotation(answers(0.75, seed=5), torn).answer == "not enough evidence"
    assert rotation(answers(0.75, seed=5), answers(0.95)).answer == "helps"


def test_guessing_gets_no_verdict():
    """Labels that no image tells: what a network answers is the same in every seed, and right by chance."""
    answered = 0
    for trial in range(100):
        random = np.random.default_rng(trial)
        guess = [np.broadcast_to(random.random(80) < 0.5, (3, 80)) ^ (random.random((3, 80)) < 0.1) for _ in range(2)]
        answered += rotation(*guess).answer != "not enough evidence"
    assert answered <= 5


def coverage(estimate, *, spread, trials=150):
    hits = 0
    for trial in range(trials):
        random = np.random.default_rng(trial)
        shares = 0.8 + spread * random.standard_normal((3, 1))
        right = random.random((3, 200)) < shares
        low, high = estimate(right, trial)
        hits += low <= 0.8 <= high
    return hits / trials


@pytest.mark.parametrize("spread", [0.0, 0.03, 0.1])
def test_intervals_hold_the_truth(spread):
    def ours(right, trial):
        return Bootstrap({"a": right}, labels_of(200), trial, draws=400).accuracy("a")[1:]

    assert coverage(ours, spread=spread) >= 0.91


def test_a_plain_bootstrap_over_three_seeds_does_not():
    def naive(right, trial):
        random = np.random.default_rng(trial)
        means = right.mean(1)[random.integers(0, 3, (400, 3))].mean(1)
        return np.quantile(means, [0.025, 0.975])

    assert coverage(naive, spread=0.1) < 0.85


def test_what_two_methods_share_does_not_widen_their_difference():
    hard = answers(0.7, seeds=1).repeat(3, 0)
    better = hard.copy()
    better[:, np.flatnonzero(~hard[0])[:30]] = True
    shared = Bootstrap({"a": better, "b": hard}, labels_of(400)).difference("a", "b")
    apart = Bootstrap({"a": better, "b": hard[:, ::-1]}, labels_of(400)).difference("a", "b")
    assert shared.high - shared.low < 0.6 * (apart.high - apart.low)
    assert shared.mean == pytest.approx(30 / 400)


def test_accuracy_is_balanced():
    labels = np.array([0] * 90 + [1] * 10)
    right = np.broadcast_to(labels == 0, (3, 100))  # the larger class, always
    assert Bootstrap({"a": right}, labels).accuracy("a").mean == 0.5


def test_parts_are_compared_with_the_whole():
    plain, full = arm_of("T2", answers(0.6)), arm_of("E2", answers(0.8, seed=1))
    part = arm_of("E2", answers(0.95, seed=2), partial=True)
    found = verdict([plain, full, part])
    assert [f.question for f in found.findings] == ["Rotation and mirroring together", "All of E(2), or a part"]
    assert [f.answer for f in found.findings] == ["helps", "a part is better"]
    assert found.best.startswith("Partial E(2) G-CNN generalises best, ")
    assert [s.name for s in found.standings] == ["Partial E(2) G-CNN", "full E(2) G-CNN", "plain CNN"]


def test_what_partial_networks_preserve_is_said():
    arms = [arm_of("T2", answers(0.9)), arm_of("SE2", answers(0.5, seed=1)), arm_of("Mirror", answers(0.5, seed=2))]
    found = verdict([*arms, arm_of("E2", answers(0.9, seed=3), partial=True, preserved=85.0, mirrored=0.25)])
    rotated, mirrored = found.findings
    assert "answers alike up to turns of ±85°." in rotated.text
    assert "25% of the images" in mirrored.text
    assert found.headline == "Orientation matters. Handedness matters."


def test_a_network_that_learned_less_is_said_to():
    def trained(share):
        slow = copy.copy(arm_of("SE2", answers(0.6, seed=1)))
        object.__setattr__(slow, "trained", (share,) * 3)
        plain = copy.copy(arm_of("T2", answers(0.9)))
        object.__setattr__(plain, "trained", (0.99,) * 3)
        return verdict([plain, slow]).findings[0].text

    assert trained(0.7).endswith("it is right on 70 % of its training images, the plain CNN on 99 %.")
    assert trained(0.99).endswith("labels depend on it.")


def test_unequal_terms_are_refused():
    plain, full = arm_of("T2", answers(0.9)), arm_of("SE2", answers(0.9))
    longer = copy.copy(full)
    object.__setattr__(longer, "terms", full.terms | {"training.epochs": 99})
    with pytest.raises(ValueError, match=r"training\.epochs is 99 in 'SE2-False' and \d+ in 'T2-False'"):
        verdict([plain, longer])
    free = copy.copy(full)
    object.__setattr__(free, "terms", full.terms | {"training.haar": 0.1})  # a prior that a full network has no use for
    assert verdict([plain, free])
    with pytest.raises(ValueError, match="different test images"):
        verdict([plain, arm_of("SE2", answers(0.9, images=300))])
    with pytest.raises(ValueError, match="no methods"):
        verdict([])
