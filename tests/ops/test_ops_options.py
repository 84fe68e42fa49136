"""Stride, dilation and groups of channels, in every order of summation."""

import pytest
import torch
from convolutions import TRANSFORMS, M, arguments, by_path, gradients, multiplied, naive
from torch.utils.flop_counter import FlopCounterMode

from partialsym.ops import (
    FactoredKernel,
    Options,
    convolve,
    dense_work,
    factored_work,
    fourier,
    orders,
    resolved,
    shape_of,
    spectral,
    spectral_work,
)

OPTIONS = [{"stride": 2}, {"stride": 3, "dilation": 2}, {"dilation": 2}, {"groups": 2}, {"groups": 2, "stride": 2}]


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)


@pytest.mark.parametrize("chunk", [1, 2**24], ids=lambda b: f"{b} bytes")
@pytest.mark.parametrize("path", ["dense", "factored", "spectral"])
@pytest.mark.parametrize(("k", "padding"), [(1, 0), (3, 1), (3, 0)])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_all_orders_follow_torchs_strides_dilations_and_groups(options, k, padding, path, chunk, monkeypatch):
    monkeypatch.setitem(orders.CHUNK_BYTES, "cpu", chunk)
    leaves, disc = arguments(k, groups=options.get("groups", 1))
    grad = torch.randn_like(naive(*leaves, disc, padding, **options))
    expected, expected_grads = gradients(naive, leaves, disc, padding, grad, **options)
    out, grads = gradients(by_path(path), leaves, disc, padding, grad, **options)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)
    for got, right in zip(grads, expected_grads, strict=True):
        right = right * disc if right.ndim == 5 and right.shape[-1] == k and right.shape[0] == M else right
        torch.testing.assert_close(got, right, rtol=0, atol=1e-10)


@pytest.mark.parametrize("options", [(3, 2, 2)])
@pytest.mark.parametrize("path", ["dense", "factored", "spectral"])
def test_the_operator_keeps_torchs_rules_with_options(path, options):
    """Schema, fake tensors, autograd registration and dynamic shapes, by torch's own checker."""
    leaves, disc = arguments(3, groups=options[2])
    f, weight, bias, phi, mean, offset = leaves
    args = (f, weight, bias, phi, mean, disc, offset, 1, *options, path, False)
    torch.library.opcheck(torch.ops.partialsym.convolve.default, args)
    torch.library.opcheck(torch.ops.partialsym.convolve.default, (*args[:6], None, *args[7:]))


@pytest.mark.parametrize("small", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("options", [Options(1), Options(1, 2, 1, 2), Options(1, 1, 2)], ids=str)
def test_the_cost_model_counts_what_options_change(options, small, monkeypatch):
    """By torch's own counter of operations, two a multiplication."""
    monkeypatch.setattr(fourier, "SMALL", small)
    leaves, disc = arguments(3, groups=options.groups)
    f, kernel = leaves[0].detach(), FactoredKernel(*(leaf.detach() for leaf in leaves[1:5]), torch.ones_like(disc))
    s = shape_of(f.shape, kernel.weight.shape, kernel.phi.shape, *options)
    found = ((orders.dense, dense_work(s)), (orders.factored, factored_work(s)), (spectral.spectral, spectral_work(s)))
    for order, work in found:
        mean = 2 * f.numel() if order is orders.factored else 0  # over the elements
        assert multiplied(lambda order=order: order(f, kernel, None, options)) == 2 * sum(work) + mean


@pytest.mark.parametrize("path", ["dense", "factored", "spectral"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("images", [1, 2])
def test_signal_and_gradient_may_lie_in_channels_last(images, options, path):
    """Also in float64, where torch's own gradient of a weight is wrong for one such image in groups."""
    leaves, disc = arguments(3, groups=options.get("groups", 1))
    leaves[0] = leaves[0].detach()[:images].requires_grad_()
    grad = torch.randn_like(naive(*leaves, disc, 1, **options)).contiguous()
    _, expected = gradients(naive, leaves, disc, 1, grad, **options)
    by_pixel = [part.detach().permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2) for part in (leaves[0], grad)]
    given = [by_pixel[0].requires_grad_(), *leaves[1:]]
    _, found = gradients(by_path(path), given, disc, 1, by_pixel[1], **options)
    for got, right in zip(found, expected, strict=True):
        right = right * disc if right.ndim == 5 and right.shape[-2:] == disc.shape and len(right) == M else right
        torch.testing.assert_close(got, right, rtol=0, atol=1e-10)


@pytest.mark.parametrize("options", [{}, *OPTIONS[:3]], ids=str)  # torch counts groups of gradients too high
@pytest.mark.parametrize("path", ["dense", "factored", "spectral"])
def test_the_formulas_of_the_operator_count_options(path, options):
    """Forward and backward, by torch's counter on the plain functions that it calls."""
    leaves = arguments(3)[0]
    kernel = FactoredKernel(*leaves[1:5], torch.ones(3, 3))
    with FlopCounterMode(display=False) as counter:
        out = convolve(leaves[0], kernel, leaves[5], 1, path, **options)
        torch.autograd.grad(out, leaves, torch.ones_like(out))
    known = Options(1, **options)
    forward, backward = {
        "dense": (orders.dense, orders.dense_backward),
        "factored": (orders.factored, orders.factored_backward),
        "spectral": (spectral.spectral, spectral.spectral_backward),
    }[path]
    f, plain = leaves[0].detach(), FactoredKernel(*(part.detach() for part in kernel))
    run = multiplied(lambda: backward(torch.ones_like(forward(f, plain, None, known)), f, plain, known, True))
    assert counter.get_total_flops() == pytest.approx(run, rel=0.1)  # and the means over elements


@pytest.mark.parametrize(
    ("changed", "order"),
    [({}, "spectral"), ({"dilation": 2}, "spectral"), ({"groups": 2}, "spectral"), ({"stride": 4}, "dense")],
    ids=str,
)
def test_the_choice_counts_what_options_change(changed, order):
    """Of a stride, the spectral order saves only the way back."""
    shape = shape_of((64, 32, 8, 14, 14), (32, 32, 32), (8, 32, 8, 7, 7), 3)
    assert resolved("auto", shape._replace(**changed), torch.float32, "cpu") == order
