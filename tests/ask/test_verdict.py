"""The verdict: what it says of made-up answers, and that it says nothing where there is nothing to say."""

import copy

import numpy as np
import pytest
from fake_results import behaviour, result
from helpers import few

from partialsym.ask import method_results, verdict

CLASSES = 2


def labels_of(images, classes=CLASSES):
    return np.arange(images) % classes


def answers(share, images=400, seeds=3, *, seed=0, classes=CLASSES, spread=0.0):
    """Right on `share` of the images: [seeds, images], each seed on its own, its share off by up to `spread`."""
    random = np.random.default_rng(seed)
    shares = share + spread * random.uniform(-1, 1, (seeds, 1))
    return random.random((seeds, images)) < shares


def arm_of(group, right, *, partial=False, name=None, classes=CLASSES, brier=None, augment=(), **behaved):
    labels = labels_of(right.shape[1], classes)
    predictions = np.where(right, labels, (labels + 1) % classes)
    results, behaviours = [], []
    scores = [None] * len(right) if brier is None else brier
    for k, (row, score) in enumerate(zip(predictions, scores, strict=True)):
        one = result(group if group != "T2" else "SE2", seed=k, run=name or f"{group}-{partial}")
        one["config"]["model"] |= {"group": group, "partial": partial}
        one["config"]["data"] |= {"augment": list(augment)}
        results.append(one)
        behaviours.append(behaviour(labels, row, classes=classes, brier=score, **behaved))
    return method_results(name or f"{group}-{partial}", results, behaviours)


def rotation(plain, full, **margin):
    (finding,) = verdict([arm_of("T2", plain), arm_of("SE2", full)], **margin).findings
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


def test_the_margin_is_the_users():
    plain, full = answers(0.80, 2000), answers(0.81, 2000, seed=1)
    assert rotation(plain, full).answer == "not enough evidence"
    wide = rotation(plain, full, margin=0.05)
    assert wide.answer == "makes no difference"
    assert wide.text.endswith("it neither gains nor loses 5 points.")
    assert wide.difference == rotation(plain, full).difference  # the interval is that of the data alone
    for margin in (0, 1, float("nan")):
        with pytest.raises(ValueError, match=f"margin is {margin}: must be in"):
            rotation(plain, full, margin=margin)


def test_how_many_images_would_do_is_said():
    few, many = np.ones((3, 60), bool), np.ones((3, 600), bool)
    text = "at least about {} test images like these and 3 seeds are needed to show that it is below {}."
    assert rotation(few, few).text.endswith(text.format(370, "a point"))  # 0.025^(1/368) = 0.99
    assert rotation(few, few, margin=0.005).text.endswith(text.format(740, "0.5 points"))
    assert "are needed" not in rotation(many, many).text
    torn = np.concatenate([answers(0.6, seeds=2), answers(0.95, seeds=1)])
    assert (
        "not even 100 seeds would show that a difference is below a point."
        in rotation(answers(0.72, seed=5), torn).text
    )


@pytest.mark.parametrize(("surer", "change"), [(0.1, "falls"), (-0.1, "rises"), (0.0, "changes in no clear direction")])
def test_brier_scores_are_a_second_reading_that_decides_nothing(surer, change):
    """Both networks are as often right; where the full one is right more surely, its score is lower."""
    random = np.random.default_rng(0)
    right = {"T2": answers(0.8), "SE2": answers(0.8, seed=1)}
    scores = {g: 0.5 - by + 0.1 * random.standard_normal((3, 400)) for g, by in (("T2", 0), ("SE2", surer))}
    read = verdict([arm_of(g, right[g], brier=scores[g]) for g in right]).findings[0]
    without = verdict([arm_of(g, right[g]) for g in right]).findings[0]
    assert (read.answer, read.difference) == (without.answer, without.difference)
    assert f"to the full SE(2) G-CNN the Brier score, an error that also counts confidence, {change}: " in read.text
    assert read.text.startswith(without.text)
    assert "Brier" not in without.text
    for unknown in (None, np.full((3, 400), np.nan)):  # measured by an earlier version; diverged
        arms = arm_of("T2", right["T2"], brier=scores["T2"]), arm_of("SE2", right["SE2"], brier=unknown)
        assert verdict(arms).findings[0] == without


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


@pytest.mark.parametrize("trials", few([20, 100], 20))
def test_guessing_gets_no_verdict(trials):
    """Labels that no image tells: what a network answers is the same in every seed, and right by chance."""
    answered = 0
    for trial in range(trials):
        random = np.random.default_rng(trial)
        guess = [np.broadcast_to(random.random(80) < 0.5, (3, 80)) ^ (random.random((3, 80)) < 0.1) for _ in range(2)]
        answered += rotation(*guess).answer != "not enough evidence"
    assert answered <= trials / 20


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
    turns = {"angles": [0, 90, 180, 270], "share": [1, 0.8, 0, 0]}
    found = verdict([*arms, arm_of("E2", answers(0.9, seed=3), partial=True, turns=turns, mirrored=0.25)])
    rotated, mirrored = found.findings
    said = "From a turn of 45° clockwise or 124° counter-clockwise on, at least half of the answers of the Partial E(2)"
    assert said in rotated.text
    assert "When 40 test images are mirrored, 25 % of the answers of the Partial E(2) G-CNN stay" in mirrored.text
    assert found.headline == "Orientation matters. Handedness matters."


def test_where_answers_change_is_said_of_each_of_two_classes():
    """3 against 3 turned by 90°: turns to the left change the answers of one class, to the right those of the other."""
    angles = [0.0, 45.0, 90.0, 180.0, 270.0, 315.0]
    turns = {"angles": angles, "classes": [0, 1], "share": [1, 0.9, 0.5, 0.4, 0.5, 0.9]}
    turns["by_class"] = [[1, 0.5, 0, 0, 1, 1], [1, 1, 1, 0.8, 0, 0.5]]
    arms = [arm_of("T2", answers(0.9)), arm_of("SE2", answers(0.5, seed=1))]
    found = verdict([*arms, arm_of("SE2", answers(0.9, seed=3), partial=True, turns=turns)]).findings[0]
    assert "From a turn of 90° clockwise or 90° counter-clockwise on, at least half of the answers of the" in found.text
    assert "From a turn of 45° counter-clockwise or 135° clockwise on" in found.text
    assert "upright images (class 0)" in found.text
    assert (
        "From a turn of 45° clockwise on, at least half of the answers differ from those to the upright images "
        "(class 1)." in found.text
    )
    blind = {"angles": [0.0, 90.0, 180.0, 270.0], "share": [1.0, 0.9, 0.8, 0.9]}
    text = verdict([*arms, arm_of("SE2", answers(0.9, seed=3), partial=True, turns=blind)]).findings[0].text
    said = (
        "At every turn, more than half of the answers of the Partial SE(2) G-CNN are the same as those to the upright "
        "images (40 test images)."
    )
    assert said in text


def e2_arms(plain, augmented, full, part=None):
    """Methods of a question about E2 with such accuracies, on 2,000 images."""
    kinds = [
        ("T2", plain, {}),
        ("T2", augmented, {"name": "augmented", "augment": ["rotate", "flip"]}),
        ("E2", full, {}),
    ]
    kinds += [] if part is None else [("E2", part, {"partial": True})]
    return [arm_of(g, answers(s, 2000, seed=k), **o) for k, (g, s, o) in enumerate(kinds)]


@pytest.mark.parametrize(
    ("shares", "action", "sentence"),
    [
        ((0.7, 0.8, 0.9, 0.8), "build it in", "Build rotation and mirroring in, with the full E(2) G-CNN."),
        (
            (0.7, 0.9, 0.8, 0.8),
            "augment",
            "Augment, with the plain CNN with augmentation, which sees its training images ",
        ),
        ((0.7, 0.8, 0.8, 0.9), "keep a part of it", "Use a part of the symmetry, with the Partial E(2) G-CNN."),
        ((0.9, 0.8, 0.8, 0.8), "leave it", "Leave the symmetry out, with the plain CNN."),
        ((0.5, 0.5, 0.5, 0.5), "nothing to learn", "There is nothing to recommend"),
    ],
)
def test_the_recommendation_says_what_to_do(shares, action, sentence):
    found = verdict(e2_arms(*shares)).recommendation
    assert found.action == action
    assert found.sentence.startswith(sentence)
    assert found.sure == (action != "nothing to learn")
    assert (found.method is None) == (action == "nothing to learn")


def test_within_the_margin_the_cheaper_one_is_recommended_and_doubts_are_said():
    arms = e2_arms(0.9, 0.9, 0.92)
    costs = {"T2-False": 10, "augmented": 10, "E2-False": 80}
    priced = [with_(a, operations=costs[a.name], step_seconds=costs[a.name] / 100) for a in arms]
    assert verdict(priced, margin=0.05).recommendation.sure  # surely not worse by 5 points
    found = verdict(priced, margin=0.02).recommendation
    assert (found.action, found.costs, found.sure) == ("leave it", "", False)
    assert found.sentence == "The best guess, but not certain: leave the symmetry out, with the plain CNN."
    assert "It could also be the full E(2) G-CNN" in found.reasons
    better = verdict([*priced[:2], with_(priced[2], right=answers(0.98, 2000))], margin=0.05).recommendation
    assert better.method == "E2-False"
    assert "8.0 times the multiply–adds for an answer and 8.0 times the time for a training step, as" in better.costs
    assert better.sure
    equal = [with_(arm, right=np.ones((3, 2000), bool)) for arm in priced]
    assert verdict(equal).recommendation.sure  # the cheapest, and not worse than the others by a point
    assert not verdict(equal, margin=1e-4).recommendation.sure


def test_augmentation_is_a_method_of_its_own_and_compared_with_what_is_built_in():
    found = verdict(e2_arms(0.7, 0.8, 0.9))
    assert {f.question: f.answer for f in found.findings} == {
        "Rotation and mirroring together": "helps",
        "Augmentation": "helps",
        "Built in, or augmented": "helps",
    }
    texts = {f.question: f.text for f in found.findings}
    assert texts["Augmentation"].startswith(
        "A plain CNN that sees its training images turned and mirrored gains 9.6 points "
    )
    assert texts["Built in, or augmented"].startswith("The full E(2) G-CNN gains ")
    assert "plain CNN with augmentation" in [s.name for s in found.standings]
    other = {f.question: f.answer for f in verdict(e2_arms(0.7, 0.9, 0.8)).findings}
    assert (other["Augmentation"], other["Built in, or augmented"]) == ("helps", "costs")


def test_other_differences_of_augmentation_are_unequal_terms():
    plain, _, full = e2_arms(0.7, 0.8, 0.9)
    for augment in (("crop",), ("crop", "flip")):
        with pytest.raises(ValueError, match=r"data\.augment is .* not on equal terms"):
            verdict([plain, full, with_(plain, name="other", augment=augment)])
    with pytest.raises(ValueError, match=r"data\.augment is \['flip'\] in 'E2-False'"):
        verdict([plain, with_(arm_of("SE2", answers(0.9, 2000))), with_(full, augment=("flip",))])
    both = [with_(arm, augment=("crop", *arm.augment)) for arm in e2_arms(0.7, 0.8, 0.9)]
    assert len(verdict(both).findings) == 3


def with_(arm, **changes):
    changed = copy.copy(arm)
    for key, value in changes.items():
        object.__setattr__(changed, key, value)
    return changed


@pytest.mark.parametrize(
    ("plain", "full", "said"),
    few([(0.9, 0.6, "useful cue"), (0.6, 0.9, "build this symmetry in")], (0.9, 0.6, "useful cue")),
)
def test_a_loser_that_learned_less_is_said_to(plain, full, said):
    def text(*trained):
        arms = arm_of("T2", answers(plain)), arm_of("SE2", answers(full, seed=1))
        return verdict([with_(a, trained=(t,) * 3) for a, t in zip(arms, trained, strict=True)]).findings[0].text

    low, high = (0.99, 0.7) if plain > full else (0.7, 0.99)
    expected = f"is right on {100 * high:.0f} % of its training images, the plain CNN on {100 * low:.0f} %."
    assert text(low, high).endswith(f"{said}, unless one of them needed more training: this network {expected}")
    assert text(0.99, 0.99).endswith(f"{said}.")
    assert text(high, low).endswith(f"{said}.")  # who learned more needs no excuse


def test_each_question_counts_the_seeds_of_its_own_two_methods():
    plain, full = arm_of("T2", answers(0.6)), arm_of("SE2", answers(0.9, seed=1))
    short = arm_of("SE2", answers(0.9, seeds=2, seed=2), partial=True)
    found = verdict([plain, full, short])
    assert [f.answer for f in found.findings] == ["helps", "not enough evidence"]
    assert [s.seeds for s in found.standings if s.name == "plain CNN"] == [3]


def test_seeds_are_paired_by_number():
    right = answers(0.6)
    later = with_(arm_of("SE2", answers(0.95, seed=1)), seeds=(1, 2, 3))
    (finding,) = verdict([arm_of("T2", right), later]).findings
    assert "only 2 of 3 seeds" in finding.text
    assert finding.difference.mean == pytest.approx(later.right[:2].mean() - right[1:].mean())


def test_guessing_is_that_among_the_classes_there_are():
    """Of ten classes two are in the test: always to answer one of them is right half of the time."""
    labels = labels_of(400)
    right = np.broadcast_to(labels == 0, (3, 400))
    arms = [with_(arm_of(g, right), classes=tuple("abcdefghij")) for g in ("T2", "SE2")]
    assert "clearly better than guessing" in verdict(arms).findings[0].text


def test_networks_of_other_elements_are_not_compared_as_part_and_whole():
    full, part = arm_of("SE2", answers(0.6)), arm_of("SE2", answers(0.9), partial=True)
    assert len(verdict([full, part]).findings) == 1
    assert verdict([full, with_(part, samples=16)]).findings == ()


def test_unequal_terms_are_refused():
    plain, full = arm_of("T2", answers(0.9)), arm_of("SE2", answers(0.9))
    longer = with_(full, lengths=((99, 1, None), *full.lengths[1:]))
    with pytest.raises(
        ValueError, match=r"epochs, passes and images are \(99, 1, None\) in seed 0 of 'SE2-False' and \(10, "
    ):
        verdict([plain, longer])
    free = with_(full, terms=full.terms | {"training.haar": 0.1})  # a prior that a full network has no use for
    assert verdict([plain, free])
    with pytest.raises(ValueError, match="different test images"):
        verdict([plain, arm_of("SE2", answers(0.9, images=300))])
    with pytest.raises(ValueError, match="no methods"):
        verdict([])
