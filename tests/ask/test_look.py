"""What `ask` keeps and says of the first question."""

import json

import pytest
import torch
from processes import Here

from partialsym.ask import look as looking
from partialsym.ask.intervals import Interval
from partialsym.ask.look import FILE, json_of, look, read, sentences
from partialsym.ask.two_sample import TRANSFORMATIONS, TURNED, Visibility, clopper_pearson
from partialsym.data import Dataset, Split


def seen(degrees, answer, told=50, pairs=100):
    name = "mirrored" if degrees == 0 else f"turned by {degrees:g}°"
    return Visibility(name, degrees, answer, pairs, told, clopper_pearson(told, pairs))


def of(*visible, hidden="not visible"):
    """All turns, those of `visible` degrees visible."""
    return [seen(t.degrees, "visible" if t.degrees in visible else hidden, 90) for t in TURNED]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (of(180, 90, 45, 22.5), "Turns are visible, from 22.5° on (the smallest turn tested): at that turn a network"),
        (of(180, 90, 45), "Turns are visible, from 45° on: at that turn a network distinguishes 90 % of images"),
        (of(180, 90, 22.5), "Turns are visible, from 90° on: "),
        (of(180), "Turns are visible, from 180° on: "),
        (
            of(),
            "Turns are not visible: of 100 pairs of an image and its copy, a network can distinguish at most 95 %;",
        ),
        (
            [seen(90, "not enough images", 133, 240)],
            "It is undecided whether turns are visible: of 240 pairs of an image and a copy that was turned by 90°, "
            "a network distinguished 55 %, and up to ",
        ),
        (
            of(hidden="not enough images"),
            "There are too few images to decide whether turns are visible: they form 100 pairs",
        ),
        ([seen(0, "visible", 70)], "A network sees that an image is mirrored, in 70 % of 100 pairs "),
        (
            [seen(0, "not visible", 50)],
            "A network does not see that an image is mirrored: of 100 pairs of an image and its copy, it can "
            "distinguish at most 60 %;",
        ),
        (
            [seen(0, "not enough images")],
            "There are too few images to decide whether a network sees that an image is mirrored: ",
        ),
    ],
)
def test_what_was_seen_is_said(found, said):
    (sentence,) = sentences(found)
    assert sentence.startswith(said)


def test_turns_and_mirroring_get_a_sentence_each():
    assert len(sentences([*of(180), seen(0, "visible")])) == 2
    assert sentences([]) == []


def noise(count, splits=3):
    images = torch.randint(0, 256, (count, 1, 6, 6), dtype=torch.uint8)
    labels, index = torch.arange(count) % 2, torch.arange(count)
    parts = [Split(images[i::splits], labels[i::splits], index[i::splits]) for i in range(splits)]
    return Dataset("noise", ("a", "b"), *parts, mean=(0.5,), std=(0.3,))


@pytest.fixture
def brief(monkeypatch):
    monkeypatch.setattr(looking, "STEPS", 2)


def test_images_of_all_splits_are_looked_at_once(brief, tmp_path, monkeypatch):
    found = look(Here(), 2, "E2", noise(60), tmp_path, 1e6)
    assert [one.degrees for one in found] == [t.degrees for t in TRANSFORMATIONS["E2"]]
    assert {one.pairs for one in found} == {36}
    width = found[0].share.high - found[0].share.low
    assert width == pytest.approx(clopper_pearson(found[0].told, 36, 0.99).high - found[0].share.low)
    monkeypatch.setattr(looking, "look_for", None)
    assert look(Here(), 2, "E2", noise(60), tmp_path, 1e6) == found == read(tmp_path / FILE)


def test_of_many_images_some_of_each_split_are_looked_at(brief, tmp_path, monkeypatch):
    monkeypatch.setattr(looking, "MOST_IMAGES", 30)
    assert look(Here(), 1, "Mirror", noise(300), tmp_path, 1e6)[0].pairs == 18


def test_too_few_images_are_no_reason_to_stop(brief, tmp_path, caplog):
    caplog.set_level("INFO")
    assert look(Here(), 1, "SE2", noise(9), tmp_path, 1e6) == []
    assert "9 images, or groups of images: must be at least 10" in caplog.text
    assert read(tmp_path / FILE) == []


def test_a_question_that_was_stopped_before_has_seen_nothing(tmp_path):
    assert read(tmp_path / FILE) == []


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"format": 9}', '{"format": 1}', '{"format": 1, "transformations": [{}]}']
)
def test_damaged_files_are_refused(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ValueError, match=r"images\.json is damaged"):
        read(tmp_path / FILE)


def test_what_is_kept_is_plain_json(tmp_path):
    found = [*of(90), seen(0, "visible")]
    (tmp_path / FILE).write_text(json_of(found))
    assert read(tmp_path / FILE) == found
    held = json.loads(json_of(found))["transformations"][0]
    assert held["share"] == found[0].share._asdict()
    assert isinstance(read(tmp_path / FILE)[0].share, Interval)


@pytest.mark.parametrize(("budget", "expected"), [(600, 72), (36000, 240)])
def test_its_share_of_a_budget_is_small(budget, expected):
    assert looking.seconds(budget) == expected
