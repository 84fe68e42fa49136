"""The preserved range of single images."""

import pytest
import torch
from hypothesis import given, strategies as st

from partialsym.measure import preserved_ranges


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
