"""The group convolution that is local on H: exact at every element, in all orders of summation, and its gradients."""

import pytest
import torch
from helpers import SAMPLES, density, few
from torch import nn
from torch.nn import functional as F

import partialsym as ps
from partialsym.nn.local import LocalConv, nearest, nearness
from partialsym.ops import PATHS
from partialsym.signal import Elements
from partialsym.testing import assert_equivariant

pytestmark = pytest.mark.usefixtures("float64")
LAYERS = [
    {"kernel_size": 3, "padding": (1, 1)},
    {"kernel_size": 3, "padding": (1, 1), "stride": 2, "groups": 2},
    {"kernel_size": 2, "stride": 2},
    {"kernel_size": 4, "padding": (1, 2), "dilation": 2},
    {"kernel_size": 1, "stride": 3},
]


def conv(name, domain=None, *, kind="haar", into=2, out=4, **options):
    h = ps.group(name)
    domain = h if domain is None else ps.group(domain)
    kappa = nearness(h, SAMPLES[name])
    layer = LocalConv(into, out, domain=domain, codomain=density(name, kind), nearness=kappa, **options)
    with torch.no_grad():
        layer.bias.normal_()
    return layer


@pytest.mark.parametrize("options", LAYERS)
@pytest.mark.parametrize("name", few(["SE2", "E2", "D4", "Mirror"], "E2"))
def test_it_is_equivariant_whatever_is_drawn(name, options):
    options = {**options, "padding": (1, 1)} if options.get("padding") == (1, 2) else options
    for size in (8, 9):
        net = nn.Sequential(
            conv(name, "T2", **options), ps.ReLU(), conv(name, kind="learned", into=4, kernel_size=3, groups=2)
        ).train()
        assert_equivariant(net, ps.Signal.image(torch.randn(2, 2, size + 4, size + 4)), ps.group(name))


def test_where_torch_has_its_windows_it_is_not():
    layer = conv("D4", "T2", kernel_size=3, padding=(1, 1), stride=2, symmetric=False)
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(layer, ps.Signal.image(torch.randn(2, 2, 8, 8)), ps.group("D4"))


@pytest.mark.parametrize("options", LAYERS)
@pytest.mark.parametrize("domain", ["T2", "E2"])
def test_every_order_of_summation_gives_the_same(options, domain):
    layer = conv("E2", domain, kind="learned", **options)
    f = ps.Signal.image(torch.randn(2, 2, 11, 10))
    if domain == "E2":
        elements = ps.haar(ps.E2(), 6).draw()
        weights = torch.tensor([1.0, 1, 1, 0, 0, 0])
        f = ps.Signal(torch.randn(2, 2, 6, 11, 10), Elements(ps.E2(), elements.matrices, weights, 3))
    out = layer.codomain.draw()
    expected = layer(f, elements=out).values
    for path in PATHS[1:]:
        layer.path = path
        torch.testing.assert_close(layer(f, elements=out).values, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("options", LAYERS)
def test_on_the_identity_it_is_the_plain_convolution(options):
    layer = conv("SE2", "T2", symmetric=False, **options)
    weight = torch.randn(4, 2 // layer.groups, layer.kernel_size, layer.kernel_size)
    layer.kernel.set_filter(weight)
    x = torch.randn(2, 2, 12, 11)
    padded = F.pad(x, [*options.get("padding", (0, 0))] * 2)
    expected = F.conv2d(padded, weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups)
    found = layer(x, elements=ps.dirac(ps.SE2()).sample()).values[:, :, 0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_an_element_takes_what_is_nearest_to_it():
    layer = conv("SE2", kernel_size=1)
    four = ps.haar(ps.SE2(), 4).deterministic()
    shares = layer.shares(Elements(ps.SE2(), four.matrices.roll(1, 0)), four)
    torch.testing.assert_close(shares, torch.eye(4).roll(1, 0), rtol=0, atol=1e-6)
    between = ps.SE2().exp(torch.tensor([[0.0]]))  # midway between −45° and 45°
    torch.testing.assert_close(layer.shares(Elements(ps.SE2(), between), four)[0, 1:3], torch.full((2,), 0.5))
    assert layer.shares(four, four) is None
    dropped = Elements(ps.SE2(), four.matrices, torch.tensor([1.0, 0, 0, 0]))
    assert torch.equal(layer.shares(Elements(ps.SE2(), between), dropped), torch.eye(4)[:1])


def test_towards_a_weight_the_gradient_is_the_difference_that_the_draw_makes():
    logits = -8 * torch.rand(3, 6).requires_grad_()
    given = torch.randn(3, 6)
    for drawn in ([1.0, 0.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]):
        one = torch.tensor(drawn, requires_grad=True)
        (found,) = torch.autograd.grad((nearest(logits, one.repeat_interleave(2), 2) * given).sum(), one)
        for j in (1, 2):
            values = []
            for value in (0.0, 1.0):
                changed = torch.tensor(drawn)
                changed[j] = value
                values.append((nearest(logits, changed.repeat_interleave(2), 2) * given).sum())
            torch.testing.assert_close(found[j], values[1] - values[0])


def test_its_norm_is_that_of_the_filter():
    layer = conv("D4", kernel_size=3)
    weight = torch.randn(4, 2, 3, 3)
    layer.kernel.set_filter(weight)
    torch.testing.assert_close(layer.kernel_norm(), weight.norm() + layer.bias.norm())


@pytest.mark.parametrize("norm", [True, False])
def test_it_is_frozen(norm):
    rest = [ps.BatchNorm(4)] if norm else []
    net = nn.Sequential(
        conv("E2", "T2", kernel_size=3, stride=2), *rest, ps.ReLU(), conv("E2", kind="learned", into=4, kernel_size=3)
    ).eval()
    x = torch.randn(2, 2, 12, 12)
    if norm:
        nn.init.normal_(net[1].running_mean)
    frozen = ps.to_conv2d(net, x)
    torch.testing.assert_close(frozen(x).values, net(x).values[:, :, net(x).elements.weights > 0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 0}, "kernel_size is 0: must be at least 1"),
        ({"kernel_size": 3, "stride": 0}, "stride is 0: must be at least 1"),
        ({"kernel_size": 3, "padding": (0, -1)}, "padding is .0, -1.: must be at least 0"),
        ({"kernel_size": 3, "groups": 3}, "groups is 3: must be a divisor of 2 and 4"),
        ({"kernel_size": 3, "nearness": -1.0}, "nearness is -1.0: must be at least 0"),
    ],
)
def test_arguments_out_of_range_are_quoted(options, message):
    with pytest.raises(ValueError, match=message):
        LocalConv(2, 4, domain=ps.SE2(), codomain=ps.haar(ps.SE2(), 4), **options)
