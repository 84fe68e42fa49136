"""Equivariance errors of layers and models, what they are due to, and what must have them."""

import math

import pytest
import torch
from helpers import SAMPLES, ReLU, few, group_conv, lifting, perturbed
from networks import shaken
from torch import nn

from partialsym import GCNN13, Augerino, Elements, GlobalPool, GResNet, Signal, group, to_conv2d
from partialsym.data import Preprocessing
from partialsym.measure import control_error, control_image, equivariance_errors, lie_derivative, probe, rotate
from partialsym.measure.transforms import Motion, inscribed
from partialsym.testing import grid_symmetries, transform

pytestmark = pytest.mark.usefixtures("float64")
GREY = Preprocessing((0.3,), (0.5,))
QUARTERS = (0, 90, 180, 270, -90)
SMALL = {"width": 3, "hidden": 4, "kernel_size": 3, "num_classes": 5}
EXACT = 1e-10


def images(count=2, size=16):
    return torch.rand(count, 1, size, size)


def smooth(size=16):
    """A control image in [0, 1]."""
    return control_image(size, size) / 16 + 0.5


def network(name="SE2", cls=GResNet, **options):
    return perturbed(cls(name, **{"samples": SAMPLES[name], "partial": False, **SMALL, **options}))


def partial(name="SE2", theta=0.3, **options):
    return shaken(network(name, partial=True, **options), theta)


class Lifting(nn.Module):
    """One layer on images, giving a signal."""

    def __init__(self, name):
        super().__init__()
        self.layer = lifting(name, into=1)

    def forward(self, x):
        return self.layer(Signal.image(x))


def plain_cnn():
    layers = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(4, 5))


def worst(rows, part, **where):
    return max(row[part] for row in rows if all(row[key] == value for key, value in where.items()))


@pytest.mark.parametrize("cls", [GResNet, GCNN13])
@pytest.mark.parametrize("name", few(["SE2", "E2", "C8", "D4"], "SE2", "D4"))
def test_full_networks_have_no_error_at_quarter_turns(cls, name):
    mirrored = name in ("E2", "D4")
    rows = equivariance_errors(network(name, cls), images(), GREY, QUARTERS, mirrored)
    assert len(rows) == len(QUARTERS) * (1 + mirrored) * (9 if cls is GResNet else 10)
    assert [row["layer"] for row in rows[:2]] == (
        ["lifting", "block1.conv1"] if cls is GResNet else ["lifting", "convs.1"]
    )
    assert all(row[part] <= EXACT for row in rows for part in ("total", "interpolation", "elements", "control"))
    assert all(row["partiality"] is None and row["monte_carlo"] is None for row in rows)


@pytest.mark.parametrize("name", ["SE2", "E2", "D4"])
def test_a_partial_network_has_one_that_is_no_interpolation(name):
    rows = equivariance_errors(partial(name), images(), GREY, (90, 180), mirrored=True)
    assert worst(rows, "interpolation") <= EXACT
    assert worst(rows, "total", layer="output", angle=90.0) > 0.01
    inner = [row for row in rows if row["layer"].startswith("block2") and row["angle"] == 90]
    assert len(inner) == 6
    assert min(row["total"] for row in inner) > 0.01
    assert all(row["elements"] == pytest.approx(row["total"], abs=1e-9) for row in rows)


@pytest.mark.parametrize(("name", "angle", "mirrored"), [("SE2", 0, True), ("C4", 0, True), ("Mirror", 90, False)])
def test_a_network_has_one_in_what_its_group_lacks(name, angle, mirrored):
    rows = equivariance_errors(network(name), images(), GREY, (angle,), mirrored)
    assert worst(rows, "interpolation") <= EXACT
    assert worst(rows, "total", layer="output", mirrored=mirrored) > 1e-3


def test_plain_networks_have_one():
    rows = equivariance_errors(network("T2"), images(), GREY, (90, 90), mirrored=True)
    assert len(rows) == 2 * 9
    assert worst(rows, "interpolation") <= EXACT
    assert min(row["total"] for row in rows) > 0.01
    for model in (plain_cnn(), to_conv2d(network("T2").eval()), nn.Sequential(nn.Conv2d(1, 1, 3), network("SE2"))):
        rows = [r for r in equivariance_errors(model, images(), GREY, (0, 90)) if r["layer"] == "output"]
        assert [row["interpolation"] for row in rows] == [row["elements"] for row in rows] == [None, None]
        assert rows[0]["total"] == 0
        assert rows[1]["total"] > 0.01


def test_a_kernel_that_sees_absolute_elements_cannot_pass_for_partial(monkeypatch):
    model = network("SE2")
    honest = model.last._coordinates
    monkeypatch.setattr(model.last, "_coordinates", lambda out, into: honest(torch.eye(2).expand_as(out), into))
    rows = equivariance_errors(model, images(), GREY, (90,))
    assert worst(rows, "interpolation", layer="last") > 0.1
    assert worst(rows, "interpolation", layer="block2.conv2") <= EXACT


@pytest.mark.parametrize("head", ["plane", "linear"])
def test_other_heads_break_it_at_the_end(head):
    rows = equivariance_errors(network("SE2", head=head), images(), GREY, (90,))
    assert worst(rows, "interpolation") <= EXACT
    assert worst(rows, "total", layer="block2.conv2") <= EXACT
    assert worst(rows, "total", layer="output") > 1e-3


@pytest.mark.parametrize("name", ["T2", "SE2", "Mirror"])
def test_a_layer_by_hand(name):
    model, x, g = perturbed(Lifting(name)).eval(), images(size=9), grid_symmetries()[1]
    rows = equivariance_errors(model, x, GREY, (90,))
    disc = inscribed(x)
    with torch.no_grad():
        before, after = (model(GREY(image * disc)).values.mean(2) for image in (x, transform(x, g)))
    expected = ((transform(before, g) - after) * disc).norm() / (before * disc).norm()
    assert [row["layer"] for row in rows] == ["layer", "output"]
    assert all(row["total"] == pytest.approx(float(expected), abs=1e-12) for row in rows)
    assert (float(expected) <= EXACT) == (name == "SE2")


def test_an_element_of_weight_0_does_not_matter():
    values, matrices = torch.randn(2, 3, 4, 6, 6), grid_symmetries(group("SE2"))
    f = Signal(values, Elements(group("SE2"), matrices, torch.tensor([1.0, 0.0, 1.0, 0.0])))
    torch.testing.assert_close(probe.plane(f), values[:, :, ::2].mean(2))
    torch.testing.assert_close(probe.plane(Signal(values, Elements(group("SE2"), matrices))), values.mean(2))


def test_the_parts_add_up():
    model = partial("SE2", 0.6)
    rows = equivariance_errors(model, images(), GREY, (10, 45, 90, 130), refine=2)
    for whole, one, other in (("total", "interpolation", "elements"), ("elements", "partiality", "monte_carlo")):
        for row in rows:
            assert abs(row[one] - row[other]) - 1e-9 <= row[whole] <= row[one] + row[other] + 1e-9
    finite = equivariance_errors(partial("C8"), images(), GREY, (90, 30), refine=2)
    assert worst(finite, "elements") > 0.01
    assert all(row["monte_carlo"] <= EXACT and row["partiality"] == row["elements"] for row in finite)


def test_without_partiality_what_refining_leaves_falls_and_with_it_does_not():
    left = {}
    for theta in (1.0, 0.4):
        model = partial("SE2", theta)
        errors = [equivariance_errors(model, images(1), GREY, (30,), refine=k) for k in (2, 8)]
        left[theta] = [worst(rows, "partiality", layer="block2.conv2") for rows in errors]
    assert left[1.0][1] < 0.1 * left[1.0][0]
    assert left[0.4][1] > max(0.03, 0.3 * left[0.4][0])


def test_the_error_goes_to_zero_with_the_angle():
    rows = equivariance_errors(network("T2"), smooth(), GREY, (0, 0.01, 0.1, 1))
    for layer in {row["layer"] for row in rows}:
        totals = [row["total"] for row in rows if row["layer"] == layer]
        assert totals[0] == 0
        assert totals[1] < 0.2 * totals[2] < 0.05 * max(totals[3], 1e-3)


def test_the_control():
    errors = {size: [control_error(size, size, Motion(a)) for a in (0, 15, 45, 90)] for size in (14, 28)}
    for nothing, some, more, exact in errors.values():
        assert nothing == exact == 0
        assert 0.02 < some < 0.1
        assert 0.02 < more < 0.1
    c = control_image(32, 32)
    spectrum = torch.fft.fft2(control_image(256, 256) * torch.hann_window(256)[:, None] * torch.hann_window(256))
    f = torch.fft.fftfreq(256)
    assert spectrum[0, 0, (f[:, None] ** 2 + f**2).sqrt() > 0.14].abs().max() < 1e-3 * spectrum.abs().max()
    truth = math.radians(20)
    axis = torch.arange(32.0) - 15.5
    x, y = torch.meshgrid(axis, -axis, indexing="xy")
    waves = [(2 * math.pi * k / 64, k * math.pi * (3 - math.sqrt(5)) + truth, k) for k in range(1, 9)]
    turned = sum(torch.cos(w * (math.cos(a) * x + math.sin(a) * y) + k) for w, a, k in waves)
    assert ((turned - rotate(c, 20, "border")[0, 0]) * inscribed(c)).norm() < 0.05 * c.norm()
    finer = equivariance_errors(network("SE2", samples=16), smooth(), GREY, (30,))
    assert worst(finer, "control", layer="output") == control_error(16, 16, Motion(30.0))
    assert worst(finer, "control", layer="block2.conv1") == control_error(4, 4, Motion(30.0))


def test_augerino_has_the_layers_of_the_network_inside():
    inside, x = network("T2").eval(), images()
    whole = equivariance_errors(Augerino(inside, "SE2"), x, GREY, (90, 30))
    alone = equivariance_errors(inside, x, GREY, (90, 30))
    assert [r for r in whole if r["layer"] != "output"] == [r for r in alone if r["layer"] != "output"]
    quarter, odd = (row for row in whole if row["layer"] == "output")
    assert quarter["total"] <= EXACT < 1e-3 < odd["total"]
    assert quarter["interpolation"] is None


def test_nothing_of_the_model_changes_and_batches_do_not_matter(monkeypatch):
    model, x = partial("E2").train(), (255 * images(3)).byte()
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    state, rng = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    rows, local = equivariance_errors(model, x, GREY, (45,), refine=2), lie_derivative(model, x, GREY)
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    monkeypatch.setattr(probe, "BATCH", 2)
    for got, expected in (
        (equivariance_errors(model, x, GREY, (45,), refine=2), rows),
        (lie_derivative(model, x, GREY), local),
    ):
        numbers = [[v for row in rows for v in row.values() if isinstance(v, float)] for rows in (got, expected)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-6)
    with pytest.raises(ValueError, match="channels"):
        equivariance_errors(model, torch.rand(1, 2, 16, 16), Preprocessing((0.0, 0.0), (1.0, 1.0)))
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]


def test_a_layer_called_twice_has_two_rows():
    layer = group_conv("SE2")
    model = nn.Sequential(Lifting("SE2"), layer, ReLU(), layer, GlobalPool())
    rows = equivariance_errors(model, images(size=8), GREY, (90,))
    assert [row["layer"] for row in rows] == ["0.layer", "1", "1 (2)", "output"]
    assert worst(rows, "total") <= EXACT


def test_what_is_refused():
    model = network("SE2", head="linear")
    with pytest.raises(ValueError, match="refine is 0: must be at least 1"):
        equivariance_errors(model, images(), GREY, refine=0)
    with pytest.raises(ValueError, match="2 images and 0 angles"):
        equivariance_errors(model, images(), GREY, ())
    with pytest.raises(ValueError, match="on 8 elements, but this layer was made for 4"):
        equivariance_errors(model, images(), GREY, refine=2)
    with pytest.raises(ValueError, match=r"step is 0: must be in \(0, 5\]"):
        lie_derivative(model, images(), GREY, step=0)
    with pytest.raises(ValueError, match="images is empty"):
        lie_derivative(model, images(0), GREY)


def test_more_elements_make_a_layer_locally_equivariant_and_a_plain_one_is_not():
    model, parts = Lifting("SE2"), {}
    for n in (8, 64):
        model.layer.codomain.samples = n
        parts[n] = lie_derivative(model, smooth(), GREY)[0]["elements"]
    assert parts[8] > 0.1
    assert parts[64] < 1e-6
    assert lie_derivative(Lifting("T2"), smooth(), GREY)[0]["elements"] > 0.1
