"""Records of a run that are damaged inside get a line that names the file."""

import json

import pytest
from helpers import few_angles
from training import TINY, run

from partialsym.models.saving import StoreError
from partialsym.runs.run import Run
from partialsym.runs.schema import read_json
from partialsym.training.behaviour import behaviour, read_behaviour


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    done = run(tmp_path_factory.mktemp("runs"), TINY)
    with pytest.MonkeyPatch.context() as patch:
        few_angles(patch)
        behaviour(done)
    return done


@pytest.fixture
def folder(trained, tmp_path):
    """A copy to damage."""
    copy = tmp_path / "run"
    (copy / "model").mkdir(parents=True)
    for file in (*trained.folder.glob("*.json"), *trained.folder.glob("*.csv"), *trained.folder.glob("model/*")):
        (copy / file.relative_to(trained.folder)).write_bytes(file.read_bytes())
    return copy


@pytest.mark.parametrize(
    "change",
    [
        {"mean": ["a"]},
        {"mean": [0.5, 0.5]},
        {"std": [0.0]},
        {"classes": [1, 2]},
        {"size": [0, 28]},
        {"size": ["a", "b"]},
        {"fit": "stretch"},
    ],
)
def test_what_surrounds_a_model_is_checked(folder, change):
    path = folder / "model" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StoreError, match=r"model\.json is incomplete"):
        Run(folder).model()


@pytest.mark.parametrize("text", ["epoch,step\n1\n", "epoch\n1,2\n", "epoch\nx\n", "epoch\n\0\n"])
def test_damaged_histories_are_named(folder, text):
    (folder / "metrics.csv").write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.csv is damaged"):
        Run(folder).history()


def test_deep_and_endless_records_are_refused(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"result\.json is damaged"):
        read_json(path)
    path.write_bytes(b" " * (2**24 + 1))
    with pytest.raises(ValueError, match="at most 16,777,216"):
        read_json(path)


def broken(found, *keys, to=None):
    """`found` with the value at `keys` put to `to`; left out where that is None."""
    copy = json.loads(json.dumps(found))
    inner = copy
    for key in keys[:-1]:
        inner = inner[key]
    if to is None:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = to
    return copy


@pytest.mark.parametrize(
    ("keys", "to"),
    [
        (["answers"], None),
        (["answers", "labels"], [0]),
        (["answers", "predictions"], 3),
        (["answers", "brier"], [0.5]),
        (["answers", "predictions", 0], 99),
        (["answers", "predictions", 0], -1),
        (["unchanged", "by_class"], [[1.0]]),
        (["unchanged", "by_class", 0, 0], "a"),
        (["unchanged", "angles", 0], 7),
        (["changed"], [{}]),
        (["changed"], 5),
        (["changed", 0, "png"], 1),
        (["changed", 0, "label"], 99),
        (["image_seconds"], "1"),
        (["preserved", "ranges"], ["a"]),
        (["unchanged", "mirrored"], None),
        (["responses", "mean"], 1),
        (["images"], {}),
        (["multiply_adds"], None),
        (["format"], 9),
    ],
)
def test_damaged_behaviours_are_named(folder, keys, to):
    path = folder / "behaviour.json"
    whole = json.loads(path.read_text())
    assert read_behaviour(path) == whole
    path.write_text(json.dumps(broken(whole, *keys, to=to)))
    with pytest.raises(ValueError, match=r"behaviour\.json .*[dD]elete the file to measure again"):
        read_behaviour(path)
