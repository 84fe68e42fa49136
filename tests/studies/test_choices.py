"""What was chosen on validation images is what the tables train."""

import pytest

from partialsym.reproduction.table import load_table
from studies.choices import TRIALS, experiments


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: f"{trial.row} {trial.budget} {'+'.join(trial.candidates)}")
def test_candidates_differ_in_what_is_tried_alone(trial):
    row = load_table(trial.table).experiment(trial.row, 0, trial.budget)
    for name, config in experiments(trial):
        tried = {
            (part, key) for parts in (trial.common, trial.candidates[name]) for part in parts for key in parts[part]
        }
        for part in ("data", "model", "training"):
            ours, theirs = vars(getattr(config, part)), vars(getattr(row, part))
            differ = {(part, key) for key in ours if ours[key] != theirs[key]}
            assert differ <= tried | {("data", "test_images")}
        assert config.data.test_images == 200


def test_the_row_of_crops_has_the_settings_of_its_candidate():
    row = load_table("mnist6").experiment("E2-8/partial+crops/MNIST6-M", 0)
    (candidate,) = {
        config.training
        for trial in TRIALS
        for name, config in experiments(trial)
        if name == "epochs-12-crop-density-lr-0.1"
    }
    assert row.training == candidate
    assert row.data.augment == ("crop",)
