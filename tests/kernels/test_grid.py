"""The kernel of pixels: exact at the taps, under quarter turns and mirrorings; and what other turns cost."""

from functools import partial

import pytest
import torch
from convolutions import ORDERS
from torch.nn import functional as F

import partialsym as ps
from benchmarks.turned_filters import BANDS, DOCUMENT, table, turn_error
from partialsym.signal import Elements

pytestmark = pytest.mark.usefixtures("float64")


def layer(k, group="SE2", order=1, **options):
    """A lifting layer whose kernel is a random filter, and that filter."""
    h = ps.group(group)
    kernel = partial(ps.Grid, kernel_size=k, order=order)
    conv = ps.GroupConv(2, 3, domain=ps.T2(), codomain=h, kernel_size=k, kernel=kernel, bias=False, **options)
    weight = torch.randn(3, 2, k, k) * conv.disc
    conv.kernel.set_filter(weight)
    return conv, weight


@pytest.mark.parametrize("path", ORDERS)
@pytest.mark.parametrize("k", [1, 3, 5])
def test_at_the_identity_a_layer_is_the_plain_convolution_in_every_order_of_summation(k, path):
    conv, weight = layer(k, path=path)
    x = torch.randn(2, 2, 9, 8)
    found = conv(x, elements=ps.dirac(ps.SE2()).sample()).values[:, :, 0]
    torch.testing.assert_close(found, F.conv2d(x, weight, padding=k // 2), rtol=0, atol=1e-12)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_at_the_symmetries_of_the_square_it_is_the_filter_moved_pixel_by_pixel(k):
    kernel, weight = ps.Grid(2, 3, 2, kernel_size=k), torch.randn(3, 2, k, k)
    kernel.set_filter(weight)
    line = (torch.arange(k) - (k - 1) / 2) / (k / 2)
    taps = torch.stack(torch.meshgrid(line, -line, indexing="xy"), -1)
    square = ps.Dihedral(4)
    for i, h in enumerate(square.components):
        found = kernel(square.act(h.T, taps)).permute(2, 3, 0, 1)
        before = weight if i < 4 else weight.flip(3)
        torch.testing.assert_close(found, before.rot90(i % 4, (2, 3)), rtol=0, atol=1e-12)


def test_it_is_alike_on_the_group_until_it_learns_more():
    kernel = ps.Grid(5, 2, 2)
    kernel.set_filter(torch.randn(2, 2, 3, 3))
    z = torch.rand(4, 5)
    elsewhere = torch.cat([z[:, :2], torch.rand(4, 3)], 1)
    torch.testing.assert_close(kernel(z), kernel(elsewhere), rtol=0, atol=1e-13)
    with torch.no_grad():
        kernel.linear.weight[:, 9:].normal_()
    assert (kernel(z) - kernel(elsewhere)).abs().max() > 0.1


@pytest.mark.parametrize(("order", "count"), [(0, 1), (1, 4), (2, 10)])
def test_on_the_group_it_has_the_monomials_up_to_its_order(order, count):
    z = torch.tensor([0.0, 0.0, 2.0, 3.0, 5.0])
    phi = ps.Grid(5, 1, 1, kernel_size=1, order=order).features(z)
    expected = [1, 2, 3, 5, 4, 6, 10, 9, 15, 25]
    torch.testing.assert_close(phi, torch.tensor(expected[:count]).double(), rtol=0, atol=1e-12)


def test_a_filter_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"weight has shape \(2, 2, 5, 5\): must be \[2, 2, 3, 3\]"):
        ps.Grid(2, 2, 2).set_filter(torch.zeros(2, 2, 5, 5))
    with pytest.raises(ValueError, match="dim is 1: must be at least 2"):
        ps.Grid(1, 2, 2)


def test_frozen_it_gives_the_same():
    conv, _ = layer(3, "E2")
    net = torch.nn.Sequential(
        ps.GroupConv(2, 3, domain=ps.T2(), codomain=ps.haar(ps.E2(), 4), kernel_size=3, kernel=ps.Grid),
        ps.GroupConv(3, 2, codomain=ps.learned(ps.E2(), 4), kernel_size=3, kernel=ps.Grid),
        ps.GlobalPool("mean"),
    ).eval()
    x = torch.randn(2, 2, 9, 9)
    torch.testing.assert_close(ps.to_conv2d(net, x)(x), net(x), rtol=1e-9, atol=1e-12)
    assert conv.kernel_norm() > 0


def test_quarter_turns_cost_nothing_and_others_what_lies_over_the_window():
    assert turn_error(3, BANDS["π"], degrees=90) < 1e-12
    cut, whole = turn_error(3, BANDS["π/2"]), turn_error(3, BANDS["π/2"], margin=1)
    assert 0.2 < cut < 0.35
    assert 0.02 < whole < 0.06
    assert turn_error(3, BANDS["π/2"], smooth=True, margin=1) < whole / 2


def test_nearest_pixels_instead_of_splines_would_be_seen(monkeypatch):
    right = turn_error(5, BANDS["π/2"], smooth=True, margin=1)
    monkeypatch.setattr("partialsym.kernels.grid.cardinal_spline", lambda x: (x.abs() < 0.5).to(x.dtype))
    assert turn_error(5, BANDS["π/2"], smooth=True, margin=1) > 5 * right


def test_theta_learns_through_the_filter():
    conv, _ = layer(3)
    angle = torch.tensor([0.3], requires_grad=True)
    x = torch.randn(1, 2, 7, 7)

    def out(angle):
        return conv(x, elements=Elements(ps.SE2(), ps.SE2().exp(angle[:, None]))).values.square().sum()

    (found,) = torch.autograd.grad(out(angle), angle)
    step = 1e-6
    torch.testing.assert_close(
        found, (out(angle + step) - out(angle - step)).detach()[None] / (2 * step), rtol=1e-6, atol=1e-6
    )


def test_the_document_says_what_a_turn_costs():
    assert table() in DOCUMENT.read_text(encoding="utf-8")
