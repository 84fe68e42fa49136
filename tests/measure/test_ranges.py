"""Turns large and small: predictions, response curves, the measured range, the Lie derivative; subsets over seeds."""

import math

import pytest
import torch
from networks import network
from torch import nn

from partialsym import GResNet
from partialsym.data import Preprocessing, Split
from partialsym.measure import (
    class_responses,
    control_image,
    lie_derivative,
    measured_range,
    predictions_unchanged,
    range_of,
    response,
    rotate,
    subset_spread,
    turned_logits,
)
from partialsym.measure.transforms import inscribed

PLAIN = Preprocessing((0.0,), (1.0,))


class Compass(nn.Module):
    """Class 0 where the image's centre of mass is from `low` to `high` degrees off the top, else class 1.

    Counter-clockwise; in degrees. Counts its passes.
    """

    def __init__(self, low, high):
        super().__init__()
        self.low, self.high, self.passes = low, high, 0

    def forward(self, x):
        self.passes += 1
        axis = torch.arange(float(x.shape[-1])) - (x.shape[-1] - 1) / 2
        right, up = (x.sum((1, 2)) * axis).sum(1), -(x.sum((1, 3)) * axis).sum(1)
        angle = torch.atan2(-right, up) * (180 / math.pi)
        inside = ((angle >= self.low) & (angle <= self.high)).float()
        return 3.0 * torch.stack([inside, 1 - inside], 1)


def spots(degrees, size=33):
    """Smooth spots, `degrees` counter-clockwise off the top, as a split of label 0 alone."""
    axis = (torch.arange(float(size)) - (size - 1) / 2) / (size / 2)
    x, y = torch.meshgrid(axis, -axis, indexing="xy")
    turns = torch.deg2rad(torch.tensor(degrees, dtype=torch.float32))[:, None, None]
    images = torch.exp(-((x + 0.5 * turns.sin()) ** 2 + (y - 0.5 * turns.cos()) ** 2) / 0.03)
    labels = torch.zeros(len(degrees), dtype=torch.int64)
    return Split(images[:, None], labels, torch.arange(len(degrees)))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-42, 42, 40), (-33, 62, 30), (-62, 33, 30), (-2, 2, 0), (-180, 180, 180), (-177.5, 177.5, 175), (2, 90, 0)],
)
def test_the_measured_range_of_a_compass(low, high, expected):
    """The last is wrong upright and right from 5° on: that is a change, too."""
    assert measured_range(Compass(low, high), spots([0.0]), PLAIN) == expected


def test_the_measured_range_costs_no_more_than_its_first_violation_and_allows_its_tolerance():
    model = Compass(-22, 22)
    assert measured_range(model, spots([0.0]), PLAIN) == 20
    assert model.passes == 11  # 0, ±5 … ±25
    mixed = spots([0.0] * 99 + [20.0])  # the last is lost from 5° on
    assert measured_range(Compass(-22, 22), mixed, PLAIN) == 20
    assert measured_range(Compass(-22, 22), mixed, PLAIN, tolerance=0.009) == 0
    assert measured_range(Compass(-100, 100), spots([0.0]), PLAIN, step=30) == 90
    eight = Split((255 * spots([0.0]).images).byte(), mixed.labels[:1], mixed.originals[:1])
    assert measured_range(Compass(-42, 42), eight, PLAIN) == 40
    for step in (0, -5, 7):
        with pytest.raises(ValueError, match=f"step is {step}: must be a positive divisor of 180"):
            measured_range(model, mixed, PLAIN, step=step)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ({0: 0.9}, 0),
        ({0: 0.9, 10: 0.9, -10: 0.9, 20: 0.9, -20: 0.9}, 20),
        ({0: 0.9, 10: 0.9, -10: 0.5, 20: 0.9, -20: 0.9}, 0),  # both signs count
        ({0: 0.9, 10: 0.5, -10: 0.9, 20: 0.9, -20: 0.9}, 0),
        ({0: 0.9, 10: 0.9, 20: 0.5, 30: 0.9}, 10),  # the first violation ends it
        ({0: 0.9, 10: 0.89, 20: 0.8899, 30: 0.9}, 10),  # a point is within, more is not
        ({0: 0.9, 10: 0.91, 20: 0.92}, 10),  # more than a point above is a change, too
        ({30: 0.5, -10: 0.9, 0: 0.9, 20: 0.9, 10: 0.9, -20: 0.9}, 20),  # any order
        ({0: 0.9, 90: 0.9, 180: 0.9, 270: 0.9}, 180),
        ({0: 0.9, 10: 0.9, 350: 0.5}, 0),  # modulo 360
        ({360: 0.9, 10: 0.9, 350: 0.9}, 10),
        ({0: 0.95, 5: 0.94}, 5),  # 0.95 − 0.94 > 0.01 in binary
    ],
)
def test_range_of_made_up_curves(curve, expected):
    assert range_of(list(curve), list(curve.values())) == expected


def test_range_of_refuses_what_is_no_curve():
    with pytest.raises(ValueError, match="2 angles but 1 accuracies"):
        range_of([0, 5], [0.9])
    with pytest.raises(ValueError, match=r"angles are \[5, 10\]: 0 must be among them"):
        range_of([5, 10], [0.9, 0.9])
    with pytest.raises(ValueError, match=r"accuracies hold 95\.0: must be in \[0, 1\]"):
        range_of([0, 5], [95.0, 90.0])
    with pytest.raises(ValueError, match="nan"):
        range_of([0, 5], [0.9, math.nan])
    with pytest.raises(ValueError, match="tolerance is -1"):
        range_of([0], [0.9], tolerance=-1)


def test_predictions_unchanged_of_a_compass():
    images = spots([0.0, 30.0, 90.0]).images
    found = predictions_unchanged(Compass(-45, 44), images, PLAIN, (0, 30, -80, 180), mirrored=True)
    assert found["angles"] == [0.0, 30.0, -80.0, 180.0]
    assert found["share"] == pytest.approx([1, 2 / 3, 0, 1 / 3])
    assert found["mirrored"] == pytest.approx([1, 1, 1 / 3, 1 / 3])  # from 0°, −30° and −90°
    assert "mirrored" not in predictions_unchanged(Compass(-45, 44), images, PLAIN, (0,))


def test_mirrored_means_mirrored_left_right_then_turned():
    images = spots([30.0]).images
    sharp = Compass(20, 40)
    assert predictions_unchanged(sharp, images, PLAIN, (0, 60, -60), mirrored=True)["mirrored"] == [0, 1, 0]
    assert predictions_unchanged(sharp, images, PLAIN, (0, 60, -60), mirrored=True)["share"] == [1, 0, 0]


def test_class_responses_of_a_compass():
    split = spots([0.0, 0.0, 30.0, 120.0])
    split = Split(split.images, torch.tensor([0, 0, 4, 4]), split.originals)
    model, high = Compass(-45, 44), float(torch.tensor([3.0, 0.0]).softmax(0)[0])
    found = class_responses(model, split, PLAIN, (0, 60), mirrored=True)
    assert found["angles"] == [0.0, 60.0]
    assert found["classes"] == [0, 4]
    assert found["images"] == [2, 2]
    assert found["mean"][0] == [pytest.approx([high, 1 - high]), pytest.approx([1 - high, high])]
    assert found["mean"][1] == [pytest.approx([0.5, 1 - high]), pytest.approx([0.5, high])]
    assert found["mirrored"][1] == [pytest.approx([0.5, 0.5 * high + 0.5 * (1 - high)]), pytest.approx([0.5, 0.5])]
    assert found["mean"][0][0] == pytest.approx(response(model, split.images[:2], PLAIN, (0, 60))["mean"])


def test_turned_logits_are_those_of_turned_images():
    images = torch.rand(2, 1, 8, 8)
    scores = turned_logits(Compass(-45, 45), images, PLAIN, (0, 90))
    assert scores.shape == (2, 2, 2)
    assert torch.equal(scores[1], Compass(-45, 45)(images.rot90(1, (2, 3))))
    with pytest.raises(ValueError, match="angles is empty"):
        turned_logits(Compass(-45, 45), images, PLAIN, ())


def result(*thetas, group="E2"):
    layers = [("lifting", thetas[0]), ("last", thetas[1])]
    return {"subsets": [{"layer": n, "group": group, "theta_deg": t, "P(m)": t / 180} for n, t in layers], "seed": 0}


def test_the_spread_of_subsets_over_seeds():
    lift, last = subset_spread([result(180.0, 90.0), result(180.0, 45.0), result(180.0, 135.0)])
    assert lift == {
        "layer": "lifting",
        "group": "E2",
        "theta_deg": {"values": [180.0] * 3, "mean": 180.0, "std": 0.0},
        "P(m)": {"values": [1.0] * 3, "mean": 1.0, "std": 0.0},
    }
    assert last["theta_deg"] == {"values": [90.0, 45.0, 135.0], "mean": 90.0, "std": 45.0}
    assert last["P(m)"]["std"] == pytest.approx(0.25)
    assert subset_spread([result(180.0, 90.0)])[1]["theta_deg"] == {"values": [90.0], "mean": 90.0, "std": None}
    assert subset_spread([{"subsets": []}, {"subsets": []}]) == []


def test_the_spread_is_of_one_model():
    with pytest.raises(ValueError, match="results is empty"):
        subset_spread([])
    with pytest.raises(ValueError, match=r"result 1 has the layers .*'SE2'.* but the first .*'E2'"):
        subset_spread([result(1.0, 1.0), result(1.0, 1.0, group="SE2")])


class Functional(nn.Module):
    """Fixed linear functionals of the image."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        return torch.einsum("bchw,khw->bk", x, self.weight)


def smooth(size=16):
    return control_image(size, size) / 16 + 0.5


def centred(count=3, size=16):
    """Random pixels in the middle, black around them."""
    return nn.functional.pad(torch.rand(count, 1, size - 8, size - 8), (4, 4, 4, 4))


def generator(x):
    """d/dt x(g_t⁻¹p) = p_y ∂x/∂p_x − p_x ∂x/∂p_y by central differences: [N, C, H, W]."""
    axis = torch.arange(float(x.shape[-1])) - (x.shape[-1] - 1) / 2
    px, py = torch.meshgrid(axis, -axis, indexing="xy")
    return py * (x.roll(-1, -1) - x.roll(1, -1)) / 2 - px * (x.roll(1, -2) - x.roll(-1, -2)) / 2


@pytest.mark.usefixtures("float64")
def test_the_lie_derivative_of_linear_functionals_is_analytic():
    x, model = centred(), Functional(torch.randn(4, 16, 16))
    found = lie_derivative(model, x, PLAIN, step=0.01)[0]
    with torch.no_grad():
        derivative, values = model(generator(x)), model(x)
    assert found["total"] == pytest.approx(float(derivative.norm() / values.norm()), rel=0.01)
    assert found["mean_square"] == pytest.approx(float(derivative.square().mean()), rel=0.02)
    assert found["interpolation"] is found["elements"] is None
    mean = lie_derivative(Functional(torch.ones(1, 16, 16) / 256), x, PLAIN, step=0.01)[0]
    assert mean["total"] < 1e-3 < 0.1 < found["total"]
    top = torch.zeros(1, 16, 16)
    top[0, 5, 8] = 1  # one pixel, at (0.5, 2.5)
    pixel = lie_derivative(Functional(top), x[:1], PLAIN, step=0.01)[0]
    assert pixel["total"] == pytest.approx(float((generator(x)[0, 0, 5, 8] / x[0, 0, 5, 8]).abs()), rel=0.01)


@pytest.mark.usefixtures("float64")
def test_the_lie_derivative_is_that_of_finite_differences():
    model, x = network(GResNet, "SE2"), smooth()
    rows = {row["layer"]: row for row in lie_derivative(model, x, PLAIN, step=0.1)}
    assert next(iter(rows)) == "lifting"
    assert list(rows)[-1] == "output"
    t = math.radians(0.1)
    with torch.no_grad():
        plus, none, minus = (model(PLAIN(rotate(x, a, "border") * inscribed(x))) for a in (0.1, 0, -0.1))
    assert rows["output"]["total"] == pytest.approx(float((plus - minus).norm() / (2 * t * none.norm())), rel=1e-9)
    assert rows["output"]["mean_square"] == pytest.approx(float(((plus - minus) / (2 * t)).square().mean()), rel=1e-9)
    coarse = {row["layer"]: row for row in lie_derivative(model, x, PLAIN, step=0.05)}
    assert coarse["lifting"]["total"] == pytest.approx(rows["lifting"]["total"], rel=0.05)
