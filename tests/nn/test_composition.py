"""Signals are combined on one draw alone; layers stand in `nn.Sequential`; what does not fit is said."""

import copy
import pickle

import pytest
import torch
from helpers import SAMPLES, few, group_conv, lifting, perturbed, random_signal
from networks import assert_frozen, shaken
from torch import nn
from torch.nn import functional as F

import partialsym as ps
from partialsym import SE2, Elements, GroupConv, Signal, SpatialPool, cat, group
from partialsym.data import Preprocessing
from partialsym.measure import equivariance_errors
from partialsym.testing import assert_equivariant

CODE = {
    "sum": lambda f, g: f + g,
    "difference": lambda f, g: f - g,
    "product": lambda f, g: f * g,
    "quotient": lambda f, g: f / g,
}


class Composed(nn.Module):
    """A residual branch with a shortcut, one without, and a dense block, each on one draw."""

    def __init__(self, name, kind="learned", *, shares=True):
        super().__init__()
        self.lift, self.conv, self.shares = lifting(name, kind, into=2), group_conv(name, kind), shares
        self.shortcut, self.same, self.dense = (
            GroupConv(3, 3, codomain=group(name), kernel_size=size) for size in (1, 3, 3)
        )
        self.norm, self.act, self.pool = ps.BatchNorm(6), ps.ReLU(), SpatialPool(2)
        self.head = group_conv(name, kind, into=6)

    def forward(self, images):
        f = self.act(self.lift(images))
        out = self.conv(f)
        out = out + self.shortcut(f, elements=out.elements if self.shares else f.elements)
        out = self.pool(out)
        out = 0.5 * out - self.same(out, elements=out.elements)
        out = cat([out, self.act(self.dense(out, elements=out.elements))])
        return self.head(self.norm(out)).map(F.relu)


def plane_of(model):
    return nn.Sequential(model, ps.GlobalPool("mean"))


@pytest.mark.parametrize("code", CODE)
def test_signals_of_one_draw_are_combined_point_by_point(code):
    f = random_signal("E2")
    g = f.map(lambda v: v.cos() + 2)
    out = CODE[code](f, g)
    assert torch.equal(out.values, CODE[code](f.values, g.values))
    assert out.elements is f.elements


def test_a_signal_is_copied_and_pickled():
    f = random_signal("E2")
    for g in (copy.copy(f), copy.deepcopy(f), pickle.loads(pickle.dumps(f))):
        assert torch.equal(g.values, f.values)
    assert copy.copy(f).elements is f.elements
    with pytest.raises(ValueError, match="different elements of E2"):
        _ = f + copy.deepcopy(f)


def test_numbers_stand_on_both_sides():
    f = random_signal("E2")
    for number in (3, 2.5, torch.tensor(2.0), nn.Parameter(torch.tensor([4.0]))):
        for code in CODE.values():
            torch.testing.assert_close(code(f, number).values, code(f.values, number))
        torch.testing.assert_close((number + f).values, number + f.values)
        torch.testing.assert_close((number - f).values, number - f.values)
        torch.testing.assert_close((number * f).values, number * f.values)
    torch.testing.assert_close((-f).values, -f.values)
    torch.testing.assert_close(sum([f, f, f]).values, 3 * f.values)


def test_gradients_reach_both_and_the_number():
    f, g = random_signal("C4"), random_signal("C4")
    a, b, scale = f.values.requires_grad_(), g.values.requires_grad_(), nn.Parameter(torch.tensor(2.0))
    (scale * (f * Signal(b, f.elements))).values.sum().backward()
    torch.testing.assert_close(a.grad, 2 * b)
    torch.testing.assert_close(b.grad, 2 * a)
    torch.testing.assert_close(scale.grad, (a * b).sum())


def test_channels_are_joined_in_order():
    f = random_signal("E2")
    g = f.map(torch.sin)
    assert torch.equal(cat([f, g, f]).values, torch.cat([f.values, g.values, f.values], 1))
    assert cat(iter([f, g])).elements is f.elements
    assert torch.equal(cat([f]).values, f.values)


@pytest.mark.parametrize("combine", [*CODE.values(), lambda f, g: cat([f, g])])
def test_two_draws_are_not_combined_even_where_they_are_equal(combine):
    """Whole finite groups are equal in every draw; the rule does not wait for a layer to learn."""
    f = random_signal("C4")
    equal = Signal(f.values, Elements(f.group, f.elements.matrices.clone()))
    weighted = Signal(f.values, Elements(f.group, f.elements.matrices, torch.ones(4)))
    for other in (equal, weighted):
        with pytest.raises(ValueError, match=r"different elements of C4.*elements=a\.elements"):
            combine(f, other)
    with pytest.raises(ValueError, match="one signal is on C4, another on D4: map one"):
        combine(f, random_signal("D4"))


def test_the_plane_has_one_element():
    a, b = (Signal.image(torch.randn(2, 3, 5, 5)) for _ in range(2))
    assert torch.equal((a + b).values, a.values + b.values)
    layers = [GroupConv(3, 4, codomain=ps.dirac(group("T2")), kernel_size=3) for _ in range(2)]
    assert cat([layer(a) for layer in layers]).values.shape == (2, 8, 1, 5, 5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["haar", "learned"])
@pytest.mark.parametrize("name", few(SAMPLES, "SE2", "E2", "D4"))
def test_composed_networks_are_equivariant(name, kind, training, float64):
    net = perturbed(Composed(name, kind)).train(training)
    assert_equivariant(net, torch.randn(2, 2, 9, 9), group(name))


def test_the_wrong_way_is_an_error(float64):
    for training in (True, False):
        with pytest.raises(ValueError, match="different elements of SE2"):
            Composed("SE2", shares=False).train(training)(torch.randn(1, 2, 7, 7))


def test_a_signal_given_from_outside_can_be_the_draw(float64):
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = GroupConv(3, 3, codomain=group("E2"), kernel_size=3)

        def forward(self, f):
            return f + self.conv(f, elements=f.elements)

    net = Residual()
    f = random_signal("E2")
    assert_equivariant(net, f, group("E2"))
    frozen = ps.to_conv2d(net, f)
    torch.testing.assert_close(frozen(f).values, net(f).values)
    assert frozen(f).elements is f.elements


@pytest.mark.parametrize("name", few(SAMPLES, "SE2", "E2"))
def test_composed_networks_are_converted_and_moved(name, float64):
    net, x = plane_of(shaken(Composed(name))), torch.randn(2, 2, 9, 9)
    frozen = assert_frozen(net, x, example=x)
    expected = frozen(x)
    moved = copy.deepcopy(frozen).float().double()  # every buffer is a new tensor: shared ones stay shared
    torch.testing.assert_close(moved(x), expected, rtol=1e-4, atol=1e-4)
    assert moved[0].conv.elements is moved[0].shortcut.elements
    assert moved[0].conv.elements is not moved[0].lift.elements


def test_composed_networks_are_measured_on_given_elements():
    net = nn.Sequential(shaken(Composed("SE2")), ps.GlobalPool())
    rows = equivariance_errors(net, torch.rand(2, 2, 9, 9), preprocess=lambda x: x, angles=(90,))
    assert all(row["interpolation"] < 1e-4 for row in rows)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by dynamo itself
def test_composed_networks_are_compiled_and_mapped():
    net, x = plane_of(shaken(Composed("SE2"))), torch.randn(3, 2, 9, 9)
    expected = net(x)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), expected)
    mapped = torch.func.vmap(lambda image: net(image[None])[0])(x)
    torch.testing.assert_close(mapped, expected, rtol=1e-4, atol=1e-5)


def test_layers_stand_in_a_sequential():
    net = nn.Sequential(
        lifting("SE2", "learned", into=2),
        ps.BatchNorm(3),
        ps.ReLU(),
        ps.Dropout(0.5, channels=True),
        GroupConv(3, 4, codomain=ps.learned(SE2(), 4), kernel_size=3),
        ps.Activation(nn.PReLU()),
        ps.Activation(torch.tanh),
        ps.Dropout(0.1),
        SpatialPool(2),
        ps.GlobalPool("mean"),
        nn.Linear(4, 3),
    )
    images = torch.randn(2, 2, 8, 8)
    net(images).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    f = random_signal("SE2")
    assert torch.equal(ps.ReLU()(f).values, f.values.relu())
    assert torch.equal(ps.Activation(torch.tanh)(f).values, f.values.tanh())
    assert "tanh" in repr(ps.Activation(torch.tanh))


def test_the_domain_is_the_codomains_group_unless_given():
    layer = GroupConv(2, 3, codomain=ps.haar(SE2(), 4), kernel_size=3)
    assert layer.domain == SE2()
    assert GroupConv(2, 3, codomain=ps.dirac(group("T2")), kernel_size=3).domain == group("T2")


def test_layers_on_the_plane_take_images():
    layer, images = lifting("C4"), torch.randn(2, 2, 5, 6)
    torch.testing.assert_close(layer(images).values, layer(Signal.image(images)).values)
    with pytest.raises(ValueError, match=r"images has shape \(2, 5, 6\): must be \[batch"):
        layer(images[0])


def test_dropout_of_channels_drops_whole_channels():
    torch.manual_seed(0)
    f = random_signal("E2", channels=200).map(torch.ones_like)
    kept = ps.Dropout(0.25, channels=True)(f).values
    assert torch.equal(kept, kept[:, :, :1, :1, :1].expand_as(kept))
    assert kept.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert 0.15 < float((kept == 0).float().mean()) < 0.35
    values = ps.Dropout(0.25)(f).values
    assert not torch.equal(values, values[:, :, :1, :1, :1].expand_as(values))
    for layer in (ps.Dropout(0.5), ps.Dropout(0.5, channels=True)):
        assert torch.equal(layer.eval()(f).values, f.values)


def test_a_projection_pools_the_elements_that_are_in(float64):
    weights = torch.tensor([1.0, 0, 1, 1, 0, 0, 1, 1])
    f = random_signal("E2", weights=weights)
    kept = f.values[:, :, weights == 1]
    torch.testing.assert_close(ps.project(f, "max"), kept.amax(2))
    torch.testing.assert_close(ps.project(f, "mean"), kept.mean(2))
    with pytest.raises(ValueError, match="mode is 'sum': must be 'max' or 'mean'"):
        ps.project(f, "sum")


@pytest.mark.parametrize("mode", ["max", "mean"])
def test_a_projection_goes_along_with_the_image(mode, float64):
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = Composed("E2"), nn.Conv2d(3, 5, 1)

        def forward(self, images):
            return self.head(ps.project(self.body(images), mode))

    assert_equivariant(perturbed(Dense()), torch.randn(2, 2, 9, 9), group("E2"))
    with pytest.raises(AssertionError, match="not equivariant"):  # torch's 3×3 convolutions know which way is up
        assert_equivariant(nn.Sequential(Dense(), nn.Conv2d(5, 5, 3)), torch.randn(2, 2, 9, 9), group("E2"))


MISTAKES = [
    (lambda f: nn.ReLU()(f), TypeError, r"torch's relu takes tensors, but was given a Signal: use partialsym\.ReLU"),
    (lambda f: F.leaky_relu(f), TypeError, r"leaky_relu .*Signal\.map"),
    (lambda f: torch.tanh(f), TypeError, r"torch's tanh takes tensors.*use partialsym\.Activation"),
    (lambda f: nn.Dropout()(f), TypeError, r"use partialsym\.Dropout"),
    (lambda f: torch.cat([f, f], 1), TypeError, r"torch's cat .*use partialsym\.cat"),
    (lambda f: nn.Conv2d(3, 3, 3)(f), TypeError, r"torch's conv2d .*use partialsym\.GroupConv"),
    (lambda f: nn.MaxPool2d(2)(f), TypeError, r"use partialsym\.SpatialPool"),
    (lambda f: nn.Upsample(scale_factor=2)(f), TypeError, r"use partialsym\.Upsample"),
    (lambda f: nn.GroupNorm(1, 3)(f), TypeError, r"use partialsym\.BatchNorm or InstanceNorm"),
    (lambda f: nn.BatchNorm2d(3)(f), AttributeError, r"has no `dim`: if a layer of torch.*BatchNorm"),
    (lambda f: torch.flatten(f, 1), TypeError, r"torch's flatten takes .*use partialsym\.GlobalPool"),
    (lambda f: F.mse_loss(f, f), TypeError, r"mse_loss .*GlobalPool or project before the loss"),
    (lambda f: F.cross_entropy(f, torch.tensor([0, 1])), TypeError, r"GlobalPool or project before the loss"),
    (lambda f: nn.Flatten()(f), AttributeError, r"has no `flatten`.*`Signal\.values`"),
    (lambda f: nn.Linear(3, 3)(f), TypeError, r"torch's linear .*GlobalPool before"),
    (lambda f: f.nothing, AttributeError, "'Signal' object has no attribute 'nothing'"),
    (lambda f: ps.ReLU()(f.values), TypeError, r"the input is a Tensor: must be a Signal"),
    (lambda f: group_conv("C4")(f.values), TypeError, r"must be a Signal on C4\. The layer that takes .*domain=.*T2"),
    (
        lambda f: ps.GroupConv(3, 3, codomain="C4", kernel_size=3),
        TypeError,
        r"codomain is 'C4': must be a density, such",
    ),
    (
        lambda f: ps.GroupConv(3, 3, domain="T2", codomain=f.group, kernel_size=3),
        TypeError,
        "domain is 'T2': must be a G",
    ),
    (
        lambda f: ps.GroupConv(3, 3, codomain=f.group, kernel_size=3)(f),
        ValueError,
        r"no density on C4: pass its output elements as `elements=`, or make it with a density",
    ),
    (
        lambda f: ps.GroupConv(3, 3, codomain=f.group, kernel_size=3)(f, elements=f),
        TypeError,
        r"elements is a Signal: must be Elements, such as `f\.elements`",
    ),
    (lambda f: group_conv("C4", size=(3, 3)), TypeError, r"kernel_size is \(3, 3\): must be one number"),
    (
        lambda f: ps.GroupConv(3, 3, codomain=f.group, kernel_size=3, stride=(2, 2)),
        TypeError,
        r"stride is \(2, 2\): must be one number",
    ),
    (
        lambda f: ps.GroupConv(3, 3, codomain=f.group, kernel_size=3, kernel="SIREN"),
        TypeError,
        "kernel is 'SIREN': must be a class of kernels",
    ),
    (
        lambda f: ps.SeparableGroupConv(3, 3, codomain=f.group, kernel_size=3, kernel=nn.Linear(2, 2)),
        TypeError,
        "kernel is Linear.*: must be a class of kernels",
    ),
    (lambda f: ps.Upsample(2)(f, size=11), TypeError, r"size is 11: must be \(height, width\)"),
    (lambda f: ps.exact_symmetries(nn.ReLU(), 8), TypeError, r"size is 8: must be \(height, width\)"),
    (lambda f: ps.group(f.group), TypeError, "group is .*, which is no string: must be the name"),
    (lambda f: ps.models.create("gunet", partial="yes"), TypeError, "partial is 'yes': must be True or False"),
    (
        lambda f: ps.recalibrate(ps.ReLU(), [[f.values, torch.zeros(2)]]),
        TypeError,
        r"a batch is a list: must be a tensor of images\. If `loader`",
    ),
    (
        lambda f: ps.recalibrate(ps.ReLU(), f.values),
        TypeError,
        r"batches is one tensor: must be .*such as `\[images\]`",
    ),
    (
        lambda f: Preprocessing(0.5, 0.3)(f.values),
        TypeError,
        r"mean is 0\.5 and std 0\.3: must have one number for each",
    ),
    (lambda f: ps.haar(f.group, 4.0), TypeError, r"samples is 4\.0: must be an integer"),
    (lambda f: ps.haar("SE2", 4), TypeError, "group is 'SE2': must be a Group, such as"),
    (lambda f: ps.group("se2"), ValueError, "Unknown group 'se2': must be one of .* Did you mean 'SE2'"),
    (
        lambda f: ps.Signal.image(torch.zeros(1, 3, 4, 4, dtype=torch.uint8)),
        ValueError,
        "torch.uint8: must be floating",
    ),
    (lambda f: group_conv("C4", into=4)(f), ValueError, "the input has 3 channels, but this layer expects 4"),
    (lambda f: group_conv("D4")(f), ValueError, "the input is a signal on C4, but this layer's domain is D4"),
    (lambda f: group_conv("C4", size=4)(f), ValueError, "kernel_size is 4: must be odd and positive"),
    (lambda f: f + group_conv("C4")(f), ValueError, "each GroupConv draws its own"),
    (lambda f: f + f.values, TypeError, r"tensor of shape \(2, 3, 4, 6, 6\): must be a Signal, or one number"),
    (lambda f: f + "a", TypeError, "a Signal is combined with 'a'"),
    (lambda f: f * cat([f, f]), ValueError, r"\(2, 3, 4, 6, 6\) and \(2, 6, 4, 6, 6\): must be equal"),
    (lambda f: cat([f, SpatialPool(2)(f)]), ValueError, "equal except for the channels. Upsample accepts a size"),
    (lambda f: cat([]), ValueError, "no signals"),
    (lambda f: cat([f, f.values]), TypeError, "the input is a Tensor: must be a Signal"),
    (lambda f: ps.Activation(nn.ReLU), TypeError, r"fn is the class ReLU: must be an instance, such as ReLU\(\)"),
    (lambda f: ps.Activation("relu"), TypeError, "fn is 'relu': must be a function"),
    (lambda f: ps.Activation(nn.BatchNorm3d(3)), TypeError, "call partialsym's BatchNorm"),
    (lambda f: ps.Activation(nn.MaxPool3d(2))(f), ValueError, "map takes pointwise functions"),
    (lambda f: ps.Dropout(1.0), ValueError, r"p is 1\.0: must be in \[0, 1\)"),
    (lambda f: ps.project(f.values), TypeError, "the input is a Tensor: must be a Signal"),
]


@pytest.mark.parametrize(("make", "error", "message"), MISTAKES)
def test_mistakes_are_said(make, error, message):
    with pytest.raises(error, match=message):
        make(random_signal("C4"))
