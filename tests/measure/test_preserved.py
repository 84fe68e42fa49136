"""The preserved range of single images."""

import pytest
import torch
from hypothesis import given, strategies as st

from partialsym.measure import half_changed, preserved_ranges


def sector_of(count, orientations, angles):
    """The class of images in sectors of 360°/count about 0°, 360°/count, …, as an oracle names it at each angle."""
    turned = torch.tensor(angles)[:, None] + orientations[None]
    return torch.round(turned % 360 * count / 360).long() % count


@pytest.mark.parametrize("count", [2, 3, 4, 6])
@given(offset=st.floats(0, 360, exclude_max=True))
def test_it_reads_half_the_sector_wherever_in_it_an_image_lies(count, offset):
    angles = [5.0 * k for k in range(72)]
    found = preserved_ranges(sector_of(count, torch.tensor([offset]), angles), angles)
    assert abs(float(found[0]) - 180 / count) <= 5


def test_finer_grids_come_nearer():
    orientations = 360 * torch.rand(500, generator=torch.Generator().manual_seed(0))
    errors = []
    for steps in (10, 31, 100):
        angles = [360 * k / steps for k in range(steps)]
        found = preserved_ranges(sector_of(3, orientations, angles), angles)
        errors.append(float((found - 60).square().mean().sqrt()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_an_answer_that_never_changes_is_kept_all_round_and_one_that_does_at_once_is_not():
    angles = [90.0 * k for k in range(4)]
    always, never = torch.zeros(4, dtype=torch.long), torch.tensor([0, 1, 2, 1])
    back = torch.tensor([0, 1, 0, 1])  # unchanged at 180°, but not on the way there
    found = preserved_ranges(torch.stack([always, never, back], 1), angles)
    assert found.tolist() == [180.0, 45.0, 45.0]


@pytest.mark.parametrize(
    ("rows", "angles", "said"),
    [(2, [0.0, 90.0], "a whole circle"), (3, [0.0, 180.0], "3 rows"), (2, [180.0, 0.0], "a whole circle")],
)
def test_other_grids_are_refused(rows, angles, said):
    with pytest.raises(ValueError, match=said):
        preserved_ranges(torch.zeros(rows, 1, dtype=torch.long), angles)


@pytest.mark.parametrize("count", [2, 3, 4, 6])
@given(offset=st.floats(-0.9, 0.9))
def test_half_of_the_answers_change_at_the_borders_of_a_sector_each_in_its_direction(count, offset):
    """Images spread by a few degrees about an orientation that is off the middle of its sector."""
    angles = [5.0 * k for k in range(72)]
    half = 180 / count
    orientations = offset * half + torch.linspace(-3, 3, 41)
    orientations = orientations.clamp(-half + 0.01, half - 0.01)
    classes = sector_of(count, orientations, angles)
    found = half_changed(angles, (classes == classes[0]).double().mean(1).tolist())
    middle = float(orientations.median())
    if count > 2:  # turned by more than half the circle it is back
        assert found[0] == pytest.approx(half - middle, abs=5)
        assert found[1] == pytest.approx(half + middle, abs=5)
    else:
        assert min(found) == pytest.approx(90 - abs(middle), abs=5)


def test_a_share_that_stays_above_half_changes_at_no_turn():
    angles = [90.0 * k for k in range(4)]
    assert half_changed(angles, [1.0, 0.51, 0.6, 0.51]) == (None, None)
    assert half_changed(angles, [1.0, 0.5, 0.6, 0.51]) == (90.0, None)
    assert half_changed([0, 350, 10], [1.0, 0.0, 1.0]) == (None, 5.0)
    assert half_changed([-90, 0, 90, 180], [0.0, 1.0, 1.0, 1.0]) == (None, 45.0)


def test_half_changed_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="2 angles and 1 shares"):
        half_changed([0, 90], [1.0])
    with pytest.raises(ValueError, match="0 must be among them"):
        half_changed([10, 90], [1.0, 0.5])
