"""The committed answers of `ask` are the known ones, and the study finds what is wrong in an answer."""

import pytest

from studies.answers import CASES, RESULTS, results, wrong

FOUND = list(results())


def result(visible=("visible", "not visible"), said="costs", action="leave it"):
    seen = [{"degrees": degrees, "answer": answer} for degrees, answer in zip((90.0, 180.0), visible, strict=True)]
    findings = [{"question": "Rotation", "answer": said}]
    advice = None if action is None else {"action": action}
    answer = {"visibility": {"transformations": seen}, "findings": findings, "recommendation": advice}
    return {"kind": "sixes-turned", "answer": answer}


def test_a_right_answer_has_no_mistake():
    assert wrong(result()) == []
    assert wrong(result(visible=("visible", "not enough images"))) == []  # undecided is no mistake


@pytest.mark.parametrize(
    ("mistake", "found"),
    [
        ({"visible": ("not visible", "not visible")}, ["90°: not visible"]),
        ({"visible": ("visible", "visible")}, ["180°: visible"]),
        ({"said": "helps"}, ["Rotation: helps"]),
        ({"action": "build it in"}, ["recommended: build it in"]),
        ({"action": None}, ["recommended: None"]),
    ],
)
def test_every_mistake_is_named(mistake, found):
    assert wrong(result(**mistake)) == found


@pytest.mark.parametrize("found", FOUND, ids=[f"{one['kind']}-{one['seed']}" for one in FOUND])
def test_a_committed_answer_is_right_and_took_ten_minutes_at_most(found):
    assert wrong(found) == []
    assert found["seconds"] <= 600


def test_every_case_was_asked():
    asked = {(one["kind"], one["seed"]) for one in FOUND}
    assert asked == {(kind, seed) for kind, case in CASES.items() for seed in case.seeds}
    assert len(list(RESULTS.glob("*.json"))) == len(asked)


def test_other_images_of_one_kind_give_the_same_answer():
    for kind, case in CASES.items():
        answers = [one["answer"]["findings"] for one in FOUND if one["kind"] == kind]
        said = [{f["question"]: f["answer"] for f in findings} for findings in answers]
        assert all(len({one[question] for one in said}) == 1 for question in case.answers)
        assert not any({one.get(question) for one in said} >= {"helps", "costs"} for question in said[0])
