"""The controlled runs on CIFAR-10 differ from their row in what they say, and no test image chooses."""

import json

import pytest

from partialsym.reproduction.table import load_table
from partialsym.runs.run import identity
from studies import controls

PAIRS = [(row, change) for row, changes in controls.TRIALS for change in changes]


@pytest.mark.parametrize(("row", "change"), PAIRS)
def test_a_trial_differs_from_its_row_in_one_setting(row, change):
    base, tried = (identity(controls.experiment(row, name)) for name in ("as it is", change))
    wanted = {f"{part}.{key}" for part, values in controls.CHANGES[change].items() for key in values}
    assert {key for key in base if base[key] != tried[key]} - {"name"} == wanted
    own = identity(load_table("table2").experiment(row, 0, "compact"))
    assert {key for key in own if own[key] != base[key]} - {"name"} == {
        "data.train_images",
        "data.test_images",
        "training.epochs",
    }


def test_every_change_is_tried_and_has_a_row_to_compare_with():
    assert {change for _, change in PAIRS} == set(controls.CHANGES)
    assert all(changes[0] == "as it is" for _, changes in controls.TRIALS)


def test_the_table_reads_validation_images_and_leaves_cells_empty(tmp_path):
    row = "SE2-4/partial/CIFAR-10"
    target = controls.place(row, "as it is", tmp_path)
    published = controls.ROOT / "results" / "table2" / "SE2-4" / "partial" / "CIFAR-10" / "compact" / "seed0.json"
    result = json.loads(published.read_text())
    result["history"][-1] |= {"train_accuracy": 0.5, "validation_accuracy": 0.4}
    target.parent.mkdir(parents=True)
    target.write_text(json.dumps(result))
    lines = controls.table(tmp_path).splitlines()
    assert len(lines) == 2 + len(PAIRS)
    (filled,) = (line for line in lines[2:] if not line.endswith("|  |  |  |"))
    assert filled.startswith("| SE2-4/partial | as it is | 50.0 | 40.0 |")
