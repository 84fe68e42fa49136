"""f(g·x) against g·f(x) for answers a pixel: 0 where it is exact, and by hand where it is not."""

import pytest
import torch
from networks import shaken
from torch import nn

import partialsym as ps
from partialsym import class_responses, dense_errors, predictions_unchanged
from partialsym.data import Split

QUARTERS = (0, 90, 180, 270)


def as_it_is(x):
    return x


def unet(group, samples):
    net = ps.models.create(
        "gunet", group=group, samples=samples, partial=False, width=2, hidden=2, levels=2, in_channels=1
    )
    ps.recalibrate(shaken(net), [torch.rand(4, 1, 9, 9)])
    return net


def test_a_full_network_goes_along_on_the_grid_and_a_plain_one_does_not():
    images = torch.rand(3, 1, 9, 9)
    exact = dense_errors(unet("E2", 8), images, as_it_is, QUARTERS, mirrored=True)
    assert len(exact) == 8
    assert max(row["error"] for row in exact) < 1e-5
    assert all(row["agreement"] == 1 for row in exact)
    plain = dense_errors(unet("T2", 1), images, as_it_is, QUARTERS)
    assert plain[0]["error"] == 0
    assert min(row["error"] for row in plain[1:]) > 1e-2
    mirrored = dense_errors(unet("SE2", 4), images, as_it_is, (0,), mirrored=True)
    assert [row["error"] > 1e-3 for row in mirrored] == [False, True]


@pytest.mark.parametrize("size", [(9, 12), (13, 9), (8, 12)])
def test_it_is_exact_on_images_that_are_not_square(size):
    net, images = unet("E2", 8), torch.rand(3, 1, *size)
    rows = dense_errors(net, images, lambda x: x - 0.4, QUARTERS, mirrored=True)
    assert max(row["error"] for row in rows) < 1e-5
    assert all(row["control"] == 0 for row in rows)
    assert dense_errors(unet("T2", 1), images, as_it_is, (90,))[0]["error"] > 1e-2


class Rows(nn.Module):
    """1 in the upper half of the image and −1 in the lower, whatever it shows."""

    def forward(self, x):
        answers = torch.ones_like(x)
        answers[..., x.shape[-2] // 2 :, :] = -1
        return answers


def test_the_numbers_are_those_of_a_known_answer():
    """Turned by 180° every sign changes: the difference is twice the answer. By 90° in half of the pixels."""
    quarter, half = dense_errors(Rows(), torch.rand(2, 1, 8, 8), as_it_is, (90, 180))
    assert half["error"] == pytest.approx(2)
    assert half["agreement"] == 0
    assert quarter["agreement"] == pytest.approx(0.5)
    assert quarter["error"] == pytest.approx(2**0.5)
    two = nn.Sequential(Rows(), nn.Conv2d(1, 2, 1, bias=False))
    with torch.no_grad():
        two[1].weight.copy_(torch.tensor([1.0, -1.0])[:, None, None, None])
    assert dense_errors(two, torch.rand(2, 1, 8, 8), as_it_is, (180,))[0]["agreement"] == 0


def test_predictions_of_a_full_network_are_turned_back_and_those_of_a_plain_one_change():
    images = torch.rand(3, 1, 9, 9)
    exact = predictions_unchanged(unet("E2", 8), images, as_it_is, QUARTERS, mirrored=True)
    assert exact == {"angles": [0, 90, 180, 270], "share": [1] * 4, "mirrored": [1] * 4}
    plain = predictions_unchanged(unet("T2", 1), images, as_it_is, QUARTERS)
    assert plain["share"][0] == 1
    assert max(plain["share"][1:]) < 0.95


class Quadrant(nn.Module):
    """Two classes: the upper left quarter of the map, and the rest."""

    def forward(self, x):
        height, width = x.shape[-2:]
        first = torch.full((len(x), 1, height, width), -1.0)
        first[..., : height // 2, : width // 2] = 1
        return torch.cat([first, -first], 1)


class Corners(nn.Module):
    """The class of a pixel is whether it is bright."""

    def forward(self, x):
        return torch.cat([0.5 - x, x - 0.5], 1)


def test_the_share_of_pixels_is_that_of_a_known_answer():
    """A quadrant that stays where it is while the image turns: two quarters change by any turn but 0°."""
    images = torch.rand(2, 1, 8, 8)
    found = predictions_unchanged(Quadrant(), images, as_it_is, QUARTERS)
    assert found["share"] == pytest.approx([1, 0.5, 0.5, 0.5])
    assert predictions_unchanged(Rows(), images, as_it_is, (180,))["share"] == [0]  # a single logit: its sign
    white = predictions_unchanged(Corners(), torch.ones(1, 1, 32, 32), as_it_is, (45, 60))
    assert min(white["share"]) > 0.95  # the corners are cut off and turn black, and do not count


def test_class_responses_of_answers_for_pixels_are_refused():
    split = Split(torch.rand(2, 1, 8, 8), torch.tensor([0, 1]), torch.arange(2))
    with pytest.raises(ValueError, match=r"\(2, 2, 8, 8\): must be \[batch, classes\]. Measure .*dense_errors"):
        class_responses(Quadrant(), split, as_it_is)


def test_what_it_cannot_measure_is_said():
    images = torch.rand(2, 1, 8, 8)
    with pytest.raises(ValueError, match=r"answer is \(2, 64\): must be \[batch, classes, height, width\] of 8×8"):
        dense_errors(nn.Flatten(), images, as_it_is)
    with pytest.raises(ValueError, match="0 images and 13 angles"):
        dense_errors(Rows(), images[:0], as_it_is)
    with pytest.raises(ValueError, match="0 images and 24 angles"):
        predictions_unchanged(Rows(), images[:0], as_it_is)
    with pytest.raises(ValueError, match=r"\(2, 1, 64\): must be \[batch, classes\] or \[batch, classes, height"):
        predictions_unchanged(nn.Flatten(2), images, as_it_is)
