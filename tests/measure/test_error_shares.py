"""Shares of the causes of an equivariance error add up, where the causes themselves cancel."""

import pytest
import torch
from helpers import perturbed

from partialsym import GResNet
from partialsym.data import Preprocessing
from partialsym.measure import equivariance_errors, lie_derivative

pytestmark = pytest.mark.usefixtures("float64")
GREY = Preprocessing((0.3,), (0.5,))
SETTINGS = {"samples": 4, "width": 3, "hidden": 4, "kernel_size": 3, "num_classes": 5}


def test_the_shares_add_up_where_the_parts_are_larger_than_the_whole():
    """By the law of cosines: ⟨a, a + b⟩ = (|a|² + |a + b|² − |b|²) / 2."""
    images = torch.rand(2, 1, 16, 16)
    model = perturbed(GResNet("SE2", **SETTINGS, partial=False, kernel="MAGNet", kernel_options={"scale": 6.0}))
    rows = equivariance_errors(model, images, GREY, (45, 100), refine=2)
    assert any(row["interpolation"] > row["total"] for row in rows)
    assert any(row["interpolation_share"] < 0 or row["elements_share"] < 0 for row in rows)
    for row in rows:
        a, b = row["interpolation"], row["elements"]
        expected = (a**2 + row["total"] ** 2 - b**2) / (2 * row["total"] ** 2)
        assert row["interpolation_share"] == pytest.approx(expected, abs=1e-9)
        assert row["interpolation_share"] + row["elements_share"] == pytest.approx(1, abs=1e-9)
        assert row["partiality_share"] + row["monte_carlo_share"] == pytest.approx(row["elements_share"], abs=1e-9)
    (still,) = (row for row in equivariance_errors(model, images, GREY, (0,)) if row["layer"] == "output")
    assert (still["total"], still["interpolation_share"], still["elements_share"]) == (0, None, None)
    lie = lie_derivative(model, images, GREY)
    assert all(row["interpolation_share"] + row["elements_share"] == pytest.approx(1, abs=1e-9) for row in lie)
