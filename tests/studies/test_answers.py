"""The study of answers whose truth is known finds what is wrong in an answer."""

import pytest

from studies.answers import wrong


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
