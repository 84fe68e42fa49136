"""Exact equivariance with transported elements, and what must fail it; the whole network at θ = 1 and below."""

import itertools
import math
from itertools import product

import pytest
import torch
from helpers import KINDS, SAMPLES, ReLU, density, few, group_conv, lifting, perturbed, random_signal, taken
from torch import nn
from torch.nn import functional as F

from partialsym import (
    BatchNorm,
    GlobalPool,
    GResNet,
    GroupConv,
    GroupPool,
    InstanceNorm,
    Signal,
    SpatialPool,
    dirac,
    group,
    haar,
)
from partialsym.models import ResidualBlock
from partialsym.registry import KERNELS
from partialsym.testing import assert_equivariant, equivariance_error, grid_symmetries, transform

pytestmark = pytest.mark.usefixtures("float64")
QUARTER, MIRROR = grid_symmetries()[1], grid_symmetries()[4]


def image(size=8, channels=2):
    return Signal.image(torch.randn(2, channels, size, size))


class Pointwise(nn.Module):
    """A function of the values of a signal, as a module."""

    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, f):
        return Signal(self.fn(f.values), f.elements)


def stack(name, kind, kernel=None):
    """Lifting → norm → relu → pool → group conv → norm → relu → group conv, smaller than its input."""
    middle = group_conv(name, kind, kernel=kernel)
    last = group_conv(name, kind, kernel=kernel, padding="valid")
    norms = BatchNorm(3), InstanceNorm(3)
    first = lifting(name, kind, kernel=kernel, size=5)
    return perturbed(nn.Sequential(first, norms[0], ReLU(), SpatialPool(2), middle, norms[1], ReLU(), last))


def block(name, kind):
    shortcut = group_conv(name, kind, channels=4, size=1, bias=False)
    return ResidualBlock(group_conv(name, kind), group_conv(name, kind, channels=4), shortcut)


def test_transform_is_the_action_on_functions_of_the_plane():
    axis = torch.arange(5.0) - 2
    x, y = torch.meshgrid(axis, -axis, indexing="xy")
    points = torch.stack([x, y], -1)

    def f(p):
        return p[..., 0] + 10 * p[..., 1] ** 2 + 100 * p[..., 1]

    for g in grid_symmetries():
        assert torch.equal(transform(f(points), g), f(points @ torch.linalg.inv(g).T))


def test_transform_moves_elements_and_refuses_what_it_cannot_do():
    f = random_signal("SE2")
    assert torch.allclose(transform(f, QUARTER).elements.matrices, QUARTER @ f.elements.matrices)
    assert torch.equal(transform(image(), MIRROR).elements.matrices[0], torch.eye(2))
    with pytest.raises(ValueError, match=r"-1\.0.*must be in the signal's group SE2"):
        transform(f, MIRROR)
    with pytest.raises(ValueError, match=r"0\.5.*symmetry of the pixel grid"):
        transform(f, 0.5 * torch.eye(2))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", few(["haar", "learned"], "learned"))
@pytest.mark.parametrize("name", few(SAMPLES, "T2", "Mirror", "E2", "D4"))
def test_layers_are_equivariant(name, kind, training):
    net = stack(name, kind).train(training)
    assert_equivariant(net, image(), group(name))
    lifted_again = nn.Sequential(net, GroupPool(), lifting(name, kind, into=3))
    assert_equivariant(lifted_again, image(), group(name))
    for mode in ("max", "mean"):
        assert_equivariant(nn.Sequential(net, GroupPool(mode)), image(), group(name))
        assert_equivariant(nn.Sequential(net, GlobalPool(mode)), image(), group(name))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", few(["SE2", "E2", "D4"], "E2"))
def test_every_kernel_is_equivariant(name, kernel):
    def build(dim, out, into):
        return KERNELS[kernel](dim, out, into, **taken(KERNELS[kernel], hidden=8))

    assert_equivariant(stack(name, "learned", build), image(), group(name))


@pytest.mark.parametrize("kind", few(["haar", "learned"], "learned"))
@pytest.mark.parametrize("name", few(SAMPLES, "T2", "SE2", "E2", "D4"))
def test_residual_block_is_equivariant(name, kind):
    net = perturbed(nn.Sequential(lifting(name, kind), ReLU(), block(name, kind)))
    assert_equivariant(net, image(), group(name))


def test_a_layer_onto_a_subgroup_is_equivariant_to_it():
    net = GroupConv(3, 3, domain=group("E2"), codomain=density("SE2", "learned"), kernel_size=3)
    assert_equivariant(net, random_signal("E2"), group("SE2"))
    with pytest.raises(ValueError, match="must be in the signal's group SE2"):
        assert_equivariant(net, random_signal("E2"), MIRROR)


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "T2"])
def test_the_projection_is_not(name):
    projection = GroupConv(3, 3, domain=group(name), codomain=dirac(group("T2")), kernel_size=3)
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(projection, random_signal(name), group(name))


@pytest.mark.parametrize("g", grid_symmetries()[1:])
def test_a_plain_convolution_is_not(g):
    weight = torch.randn(2, 2, 3, 3)
    for plain in (
        GroupConv(2, 3, domain=group("T2"), codomain=dirac(group("T2")), kernel_size=3),
        nn.Conv2d(2, 3, 3, padding=1),
    ):
        x = image() if isinstance(plain, GroupConv) else image().values[:, :, 0]
        assert_equivariant(plain, x, torch.eye(2))
        assert equivariance_error(plain, x, g) > 0.1
    per_element = Pointwise(lambda v: F.conv3d(v, weight[:, :, None], padding=(0, 1, 1)))
    f = random_signal("D4", channels=2)
    assert equivariance_error(per_element, f, g) > 0.1


def test_without_transport_the_identity_alone_is_not_equivariant():
    layer = GroupConv(2, 3, domain=group("T2"), codomain=dirac(group("SE2")), kernel_size=3)
    assert_equivariant(layer, image(), group("SE2"))
    with pytest.raises(AssertionError, match="do not go over into each other"):
        assert_equivariant(layer, image(), group("SE2"), transport=False)


def test_a_kernel_that_sees_absolute_elements_is_not(monkeypatch):
    layer = group_conv("SE2")
    honest = layer._coordinates
    monkeypatch.setattr(layer, "_coordinates", lambda out, into: honest(torch.eye(2).expand_as(out), into))
    assert equivariance_error(layer, random_signal("SE2"), QUARTER) > 0.1


@pytest.mark.parametrize("mode", ["max", "mean"])
@pytest.mark.parametrize("g", grid_symmetries()[1:])
def test_pools_are_equivariant_on_even_and_odd_maps(g, mode):
    for window, size in itertools.product((1, 2, 3, 4), (2, 5, 6, 7, 8)):
        assert_equivariant(SpatialPool(window, mode), random_signal("D4", size=size), g)
    cut = Pointwise(lambda v: F.max_pool2d(v.flatten(1, 2), 2).unflatten(1, v.shape[1:3]))  # drops a row and a column
    swaps_rows_and_columns = torch.equal(g, -torch.eye(2).flip(0))  # maps the cut row onto the cut column
    error = equivariance_error(cut, random_signal("D4", size=7), g)
    assert error < 1e-12 if swaps_rows_and_columns else error > 0.1


def test_the_checker_refuses_symmetric_inputs():
    with pytest.raises(ValueError, match="checks nothing"):
        assert_equivariant(lifting("SE2"), Signal.image(torch.ones(1, 2, 4, 4)), group("SE2"))


def resnet(name, partial, **options):
    settings = {"samples": SAMPLES[name], "width": 3, "hidden": 4, "kernel_size": 3, "num_classes": 5, **options}
    return perturbed(GResNet(name, partial=partial, **settings)).eval()


@pytest.mark.parametrize(("name", "partial"), few(list(product(SAMPLES, (False, True))), *KINDS))
def test_the_network_is_invariant_at_theta_one(name, partial):
    x = torch.randn(2, 1, 16, 16)
    assert_equivariant(resnet(name, partial), x, group(name), atol=1e-10, transport=False)


@pytest.mark.parametrize(("name", "g"), [("SE2", MIRROR), ("C4", MIRROR), ("Mirror", QUARTER), ("T2", QUARTER)])
def test_the_network_is_not_invariant_to_what_its_group_lacks(name, g):
    assert equivariance_error(resnet(name, False), torch.randn(2, 1, 16, 16), g, transport=False) > 1e-3


def test_the_network_is_not_invariant_off_a_multiple_of_four_or_below_theta_one():
    x = torch.randn(2, 1, 16, 16)
    assert equivariance_error(resnet("SE2", True, samples=6), x, QUARTER, transport=False) > 1e-4
    narrow = resnet("SE2", True)
    with torch.no_grad():
        narrow.last.codomain.algebra.raw.fill_(0.4)
    assert equivariance_error(narrow, x, QUARTER, transport=False) > 1e-4


@pytest.mark.parametrize("g", grid_symmetries(group("SE2")))
@pytest.mark.parametrize("theta", [0.5, 0.75])
def test_below_theta_one_the_pooled_error_is_at_most_what_leaves_the_subset(theta, g):
    """Dense quadrature, 48 elements: a quarter turn maps the grid onto its own continuation."""
    layer = group_conv("SE2")
    inside = density("SE2", "learned", theta=theta, samples=48).eval().sample()
    f = random_signal("SE2")
    with torch.no_grad():
        out, moved = layer(f, elements=inside), layer(transform(f, g), elements=inside)
        outside = layer(f, elements=inside.transport(g.T))
    distance = (inside.transport(g).matrices[:, None] - inside.matrices).abs().amax((2, 3))  # [h, g⁻¹h]
    nearest, index = distance.min(1)
    stays = nearest < 1e-9
    expected = transform(out, g).values[:, :, stays]
    torch.testing.assert_close(moved.values[:, :, index[stays]], expected, rtol=0, atol=1e-12)

    share = 1 - float(stays.double().mean())
    turn = abs(math.atan2(g[1, 0], g[0, 0]))
    assert share == pytest.approx(max(0.0, min(turn / (2 * math.pi * theta), (1 - theta) / theta)))
    pool = GroupPool("mean")
    error = float((pool(moved).values - transform(pool(out), g).values).abs().max())
    largest = float(torch.maximum(out.values.abs().max(), outside.values.abs().max()))
    if share == 0:
        assert error <= 1e-12
    else:
        assert 1e-3 < error <= 2 * largest * share


def test_the_whole_group_leaves_no_pooled_error():
    layer, every, f = group_conv("SE2"), haar(group("SE2"), 48).eval().sample(), random_signal("SE2")
    with torch.no_grad():
        out, moved = layer(f, elements=every), layer(transform(f, QUARTER), elements=every)
    pool = GroupPool("mean")
    torch.testing.assert_close(pool(moved).values, transform(pool(out), QUARTER).values, rtol=0, atol=1e-12)


def test_a_failure_in_float32_names_float64():
    conv = nn.Conv2d(2, 3, 3, padding=1)
    with pytest.raises(AssertionError, match=r"> 1e-12\.$"):
        assert_equivariant(conv, torch.randn(1, 2, 8, 8), group("C4"))
    with pytest.raises(AssertionError, match=r"rounding of float32: check in float64, with module\.double\(\)"):
        assert_equivariant(conv.float(), torch.randn(1, 2, 8, 8, dtype=torch.float32), group("C4"))
