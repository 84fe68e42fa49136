"""A kernel that is linear in the embedded element convolves moments of the input: the same values and gradients."""

from functools import partial

import pytest
import torch
from helpers import SAMPLES, few
from torch.utils.flop_counter import FlopCounterMode

import partialsym as ps
from partialsym._utils.layout import is_channels_last
from partialsym.nn import conv as module
from partialsym.signal import Elements
from partialsym.testing import assert_equivariant, assert_group_laws

pytestmark = pytest.mark.usefixtures("float64")
GROUPS = ["SE2", "E2", "Mirror", "C5", "D4"]


def layer(name, order=1, n=8, channels=2, **options):
    group, size = ps.group(name), options.pop("kernel_size", 3)
    kernel = partial(ps.Grid, kernel_size=size, order=order)
    density = ps.learned(group, n if group.dim else len(group.components))
    return ps.GroupConv(channels, 4, domain=group, codomain=density, kernel_size=size, kernel=kernel, **options)


def signal(conv):
    """On weighted elements, which all have gradients."""
    drawn = ps.haar(conv.domain, SAMPLES.get(conv.domain.name, len(conv.codomain.draw()))).draw()
    weights = torch.rand(len(drawn)).requires_grad_()
    elements = Elements(conv.domain, drawn.matrices.clone().requires_grad_(), weights)
    return ps.Signal(torch.randn(2, conv.in_channels, len(drawn), 7, 6, requires_grad=True), elements)


def results(conv, f, out, saved, monkeypatch):
    """Values and gradients with moments (saved 0) or without (saved ∞), and the operations counted by torch."""
    monkeypatch.setattr(module, "SAVED", saved)
    with FlopCounterMode(display=False) as counter:
        values = conv(f, out).values
    wanted = [f.values, f.elements.weights, f.elements.matrices, *conv.kernel.parameters(), *conv.codomain.parameters()]
    weight = torch.arange(values.numel()).view(values.shape).cos()
    gradients = torch.autograd.grad((values * weight).sum(), wanted, allow_unused=True, retain_graph=True)
    gradients = [torch.zeros_like(x) if g is None else g for x, g in zip(wanted, gradients, strict=True)]
    return [values, *gradients], counter.get_total_flops()


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("name", GROUPS)
def test_moments_give_the_values_and_gradients_of_the_elements(name, order, monkeypatch):
    conv = layer(name, order, groups=2, stride=2) if name == "E2" else layer(name, order)
    f, out = signal(conv), conv.codomain.draw()
    found, fewer = results(conv, f, out, 0, monkeypatch)
    expected, more = results(conv, f, out, float("inf"), monkeypatch)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    if len(f.elements) > 2 * (order * conv.domain.embed_dim + 1):
        assert fewer < more


@pytest.mark.parametrize("channels", [3, 6, 8])
def test_the_layout_of_the_input_does_not_matter(channels, monkeypatch):
    """In `torch.channels_last` the moments of up to four channels are one product."""
    conv = layer("E2", channels=channels)
    f, out = signal(conv), conv.codomain.draw()
    expected, _ = results(conv, f, out, 0, monkeypatch)
    pixels = f.values.detach().permute(0, 3, 4, 1, 2).contiguous().requires_grad_()
    f = ps.Signal(pixels.permute(0, 3, 4, 1, 2), f.elements)
    assert is_channels_last(f.values)
    found, _ = results(conv, f, out, 0, monkeypatch)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_channel_groups_stay_apart(monkeypatch):
    """Also where numbers are infinite, and in a batch without images."""
    monkeypatch.setattr(module, "SAVED", 0)
    conv = layer("E2", channels=4, groups=4)
    f, out = signal(conv), conv.codomain.draw()
    values = f.values.detach().permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2)
    values[:, 0] = torch.inf
    finite = conv(ps.Signal(values, f.elements), out).values.isfinite()
    assert finite[:, 1:].all()
    assert not finite[:, 0].any()
    assert conv(ps.Signal(f.values[:0], f.elements), out).values.shape == (0, 4, len(out), 7, 6)


def test_they_are_exact_on_the_grid_and_under_autocast_as_near(monkeypatch):
    monkeypatch.setattr(module, "SAVED", 0)
    conv = layer("E2").eval()
    f = signal(conv)
    f = ps.Signal(f.values.detach(), Elements(conv.domain, f.elements.matrices.detach(), f.elements.weights.detach()))
    assert_equivariant(conv, f, conv.domain)
    out, right = conv.codomain.sample(), conv(f).values
    conv, f = conv.float(), ps.Signal(f.values.float(), f.elements)
    with torch.autocast("cpu", torch.bfloat16):
        low = conv(f, out).values
        monkeypatch.setattr(module, "SAVED", float("inf"))
        plain = conv(f, out).values
    assert low.dtype == torch.bfloat16
    errors = [float((values.double() - right).detach().std() / right.detach().std()) for values in (low, plain)]
    assert errors[0] < 1.5 * errors[1] < 0.01


def test_what_is_not_linear_or_too_small_reads_the_elements():
    assert layer("E2", order=2)._moments_count(8, 8) is None
    assert layer("E2")._moments_count(8, 4) is None  # four moments of four elements
    assert layer("E2", kernel_size=1)._moments_count(8, 8) is None  # saves less than the pass costs
    assert layer("E2")._moments_count(8, 8) == 4

    class Unknown(ps.E2):
        name = "Unknown"

        def embedded_inverse(self, h):
            return None

    group = Unknown()
    conv = ps.GroupConv(2, 4, domain=group, codomain=ps.haar(group, 8), kernel_size=3, kernel=ps.Grid)
    assert conv._moments_count(8, 8) is None


@pytest.mark.parametrize("name", few(["SE2", "E2", "Mirror", "C5", "D4"], "E2"))
def test_an_embedded_inverse_that_does_not_fit_its_embedding_is_found(name, monkeypatch):
    group = ps.group(name)
    assert_group_laws(group)
    right = type(group).embedded_inverse
    monkeypatch.setattr(type(group), "embedded_inverse", lambda self, h: right(self, h).mT * -1)
    with pytest.raises(AssertionError, match="embedded_inverse"):
        assert_group_laws(group)


def test_subclasses_with_a_kernel_of_their_own_read_the_elements():
    """A layer or a kernel that computes something else must not be bypassed."""

    class Halved(ps.GroupConv):
        def factored_kernel(self, out, into):
            kernel = super().factored_kernel(out, into)
            return kernel._replace(phi=kernel.phi / 2)

    class Squared(ps.Grid):
        def features(self, z):
            return super().features(z).square()

    conv = layer("E2")
    f, out = signal(conv), conv.codomain.draw()
    whole = conv(f, out).values
    conv.__class__ = Halved
    torch.testing.assert_close(
        conv(f, out).values - conv.bias[:, None, None, None], (whole - conv.bias[:, None, None, None]) / 2
    )
    own = layer("E2")
    own.kernel.__class__ = Squared
    assert own._moments_count(8, 8) is None
