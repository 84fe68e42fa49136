"""What the committed look at images of known symmetry must say."""

import pytest

from partialsym.ask import TRANSFORMATIONS
from partialsym.ask.two_sample import bonferroni, clopper_pearson
from partialsym.runs.schema import read_json
from studies.visibility import KINDS, RESULT

TURNS, MIRROR = [180.0, 90.0, 45.0, 22.5], 0
VISIBLE = {  # degrees that are visible in images of each kind; what is neither here nor in HIDDEN is not known
    "digits turned within ±180°": {MIRROR},
    "digits turned within ±60°": {180.0, 90.0, MIRROR},
    "digits turned within ±20°": {*TURNS, MIRROR},
    "the same, 200 images": {180.0, 90.0},
    "CIFAR-10": {180.0, 90.0},
}
HIDDEN = {
    "digits turned within ±180°": set(TURNS),
    "the same, half of them mirrored": {*TURNS, MIRROR},
    "white noise": {*TURNS, MIRROR},
}


@pytest.fixture(scope="module")
def kinds():
    return read_json(RESULT)["kinds"]


@pytest.mark.parametrize("name", KINDS)
def test_what_is_known_was_seen(kinds, name):
    found = {one["degrees"]: one for one in kinds[name]}
    assert set(found) == {t.degrees for t in TRANSFORMATIONS["E2"]}
    assert all(found[degrees]["answer"] == "visible" for degrees in VISIBLE.get(name, ()))
    for degrees in HIDDEN.get(name, ()):
        assert found[degrees]["answer"] == "not visible"
        assert found[degrees]["share"]["low"] < 0.5 < found[degrees]["share"]["high"]


def test_the_intervals_are_those_of_the_counts(kinds):
    for seen in kinds.values():
        for one in seen:
            share = clopper_pearson(one["told"], one["pairs"], bonferroni(len(seen)))
            assert one["share"] == pytest.approx(share._asdict())
