"""Convolution, BatchNorm, pool and moments in `torch.channels_last`: the same numbers as in the usual layout."""

import copy
from itertools import pairwise

import pytest
import torch
from convolutions import arguments, naive
from helpers import few
from torch.nn.modules.module import register_module_forward_pre_hook

import partialsym as ps
from partialsym._utils.layout import flat, is_channels_last, to_channels_last
from partialsym.models import GCNN3
from partialsym.nn.fused import norm_and_pool
from partialsym.nn.pool import pool2d
from partialsym.nn.statistics import of_channels, slices_of
from partialsym.ops import fourier, operator, orders
from partialsym.ops.conv2d import Options
from partialsym.signal import Elements

SHAPE = (3, 4, 2, 6, 5)
CHECKS = ("test_faketensor", "test_schema", "test_autograd_registration")
SHARED = Elements(ps.group("C2"), ps.group("C2").grid(2))


def last(values):
    """A copy of values [b, c, n, h, w] in `torch.channels_last`."""
    return (
        to_channels_last(values.detach().flatten(1, 2).clone()).view(values.shape).requires_grad_(values.requires_grad)
    )


@pytest.fixture(params=[None, 2], ids=["one chunk", "chunks of two images and one"])
def in_chunks(request, monkeypatch):
    """Whether norms see the three images of SHAPE, in float64, at once."""
    if request.param:
        image = torch.empty(SHAPE, dtype=torch.float64)[0].nbytes
        monkeypatch.setitem(orders.CHUNK_BYTES, "cpu", 8 * image * request.param)


def uneven():
    """Values of which each image has another mean."""
    return 10 * torch.arange(3.0, dtype=torch.float64).view(3, 1, 1, 1, 1) + torch.randn(SHAPE, dtype=torch.float64)


def close(a, b, tolerance=1e-11):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("shape", [SHAPE, (1, *SHAPE[1:]), (2, 4, 1, 6, 5), (2, 1, 3, 6, 5), (2, 3, 2, 5, 1)])
def test_the_layout_is_recognised(shape):
    values = torch.randn(shape)
    assert not is_channels_last(values)
    assert is_channels_last(last(values))
    assert is_channels_last(flat(last(values)).relu().view(shape))
    assert not is_channels_last(last(values).transpose(3, 4)[..., ::2])


@pytest.mark.parametrize("shape", [(2, 1, 1, 6, 5), (2, 3, 2, 1, 1)])
def test_where_both_layouts_are_one_it_counts_as_the_usual_one(shape):
    assert not is_channels_last(torch.randn(shape))
    assert flat(torch.randn(shape)).is_contiguous()


def test_a_map_of_one_channel_has_strides_that_torch_recognises():
    maps = to_channels_last(torch.randn(2, 1, 6, 5))
    other = torch.nn.functional.conv2d(maps, torch.randn(4, 1, 3, 3))
    assert not other.is_contiguous()
    assert other.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("small", [False, True], ids=["", "small chunks"])
@pytest.mark.parametrize("order", ["dense", "spectral"])
@pytest.mark.parametrize("layout", ["usual", "last"])
@pytest.mark.parametrize("options", [Options(1), Options(2, 2), Options(0, 1, 2), Options(1, 2, 2, 2)])
def test_the_convolution_and_its_gradients_are_the_same(options, layout, order, small, monkeypatch):
    if small:
        monkeypatch.setitem(orders.CHUNK_BYTES, "cpu", 1)
        monkeypatch.setattr(fourier, "ROWS", 1)
    torch.manual_seed(0)
    (f, *rest), disc = arguments(3, groups=options.groups)
    f = last(f) if layout == "last" else f
    weight, bias, phi, mean, offset = rest
    named = options._asdict()
    expected = naive(f, weight, bias, phi * disc, mean, offset, disc, **named)
    found = torch.ops.partialsym.convolve(f, weight, bias, phi * disc, mean, disc, offset, *options, order, True)
    assert is_channels_last(found)
    close(found, expected)
    grad = torch.randn_like(expected)
    wanted = [f, *rest]
    for given in (grad, last(grad)):
        pairs = (torch.autograd.grad(out, wanted, given, retain_graph=True) for out in (found, expected))
        for a, b in zip(*pairs, strict=True):
            close(a, b)


@pytest.mark.parametrize("order", ["dense", "spectral"])
@pytest.mark.parametrize("given", ["usual", "last"])
@pytest.mark.parametrize("flag", [False, True])
def test_a_compiler_is_told_the_layout(given, flag, order):
    """The operators keep torch's rules, of which one is that their strides are those of their fakes."""
    torch.manual_seed(0)
    (f, weight, bias, phi, mean, offset), disc = arguments(3)
    f = last(f) if given == "last" else f
    parts = (weight, bias, phi, mean, disc)
    torch.library.opcheck(
        torch.ops.partialsym.convolve.default, (f, *parts, offset, 1, 1, 1, 1, order, flag), test_utils=CHECKS
    )
    grad = torch.randn(3, 5, 2, 7, 6, dtype=f.dtype)
    for g in (grad, last(grad)):
        args = (g, f, *parts, 1, 1, 1, 1, order, True, True)
        torch.library.opcheck(torch.ops.partialsym.convolve_backward.default, args, test_utils=CHECKS[:1])


def test_statistics_are_as_exact_as_in_the_usual_layout():
    torch.manual_seed(0)
    values = 10 + torch.randn(64, 2, 2, 48, 48)
    norm = ps.BatchNorm(2, affine=False)
    exact = norm(ps.Signal(values.double(), SHARED)).values
    far = [(norm(ps.Signal(v, SHARED)).values - exact).abs().max() for v in (values, last(values))]
    assert far[0] < 2e-5
    assert far[1] < 2e-5


def test_chunks_may_grow_again(monkeypatch):
    """Seven images in chunks of 2, 1, 2, 1 and 1."""
    values = last(torch.randn(7, 4, 2, 6, 5, dtype=torch.float64))
    monkeypatch.setitem(orders.CHUNK_BYTES, "cpu", 12 * values[0].nbytes)
    sizes = [part.stop - part.start for part in slices_of(flat(values))]
    assert any(a < b for a, b in pairwise(sizes))
    mean, var, _, _ = of_channels(values)
    var_of_all, mean_of_all = torch.var_mean(values, (0, 3, 4), correction=0, keepdim=True)
    close(mean, mean_of_all)
    close(var, var_of_all)


def test_it_is_chosen_where_it_pays():
    """In float32, eagerly; one tap keeps the layout, and a kernel larger than its output writes the usual one."""
    f = torch.randn(8, 3, 8, 8)
    lift = ps.GroupConv(3, 4, domain=ps.T2(), codomain=ps.haar(ps.SE2(), 4), kernel_size=3)
    mix = ps.GroupConv(4, 4, codomain=ps.haar(ps.SE2(), 4), kernel_size=1, path="dense")
    waves = ps.GroupConv(4, 4, codomain=ps.haar(ps.SE2(), 4), kernel_size=3, path="spectral")
    large = ps.GroupConv(4, 4, codomain=ps.haar(ps.SE2(), 4), kernel_size=3, padding="valid", path="dense")
    out = lift(f)
    assert is_channels_last(out.values)
    assert is_channels_last(mix(out).values)
    usual = ps.Signal(out.values.contiguous(), out.elements)
    assert not is_channels_last(mix(usual).values)
    assert is_channels_last(waves(usual).values)
    assert is_channels_last(large(out).values)
    small = ps.Signal(out.values[..., :3, :3], out.elements)
    assert not is_channels_last(large(small).values)
    assert not is_channels_last(lift.double()(f.double()).values)


def test_a_network_is_the_same_function(monkeypatch):
    torch.manual_seed(0)
    model, images = GCNN3("E2", partial=True, samples=8, width=4), torch.randn(4, 1, 16, 16)

    def results():
        torch.manual_seed(1)
        logits = model(images)
        return logits, torch.autograd.grad(logits.square().sum(), list(model.parameters()))

    (a, grads), seen = results(), []
    monkeypatch.setattr(operator, "pays_channels_last", lambda *_: bool(seen.append(None)))
    b, others = results()
    assert seen
    close(a, b, 1e-5)
    for x, y in zip(grads, others, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


def results(run, norm, values, weights):
    """A norm's output, its gradients, many of them at once, those of second order, and its statistics."""
    elements = Elements(ps.group("C2"), ps.group("C2").grid(2).double(), weights)
    out = run(norm, ps.Signal(values, elements)).values
    wanted = [values, *norm.parameters(), *([] if weights is None else [weights])]
    grad = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).cos().view(out.shape)
    first = torch.autograd.grad(out, wanted, grad, create_graph=True)
    quick = torch.autograd.grad(out, wanted, grad, retain_graph=True)
    many = torch.autograd.grad(out, wanted, torch.stack([grad, 2 * grad]), retain_graph=True, is_grads_batched=True)
    second = torch.autograd.grad(first[0].square().sum(), values)
    return [out, *first, *quick, *many, *second, norm.running_mean, norm.running_var, norm.num_batches]


def norm_of(affine, least):
    norm = ps.BatchNorm(4, affine=affine).double()
    if affine:
        torch.nn.init.uniform_(norm.weight, least, 1)
        torch.nn.init.uniform_(norm.bias)
    return norm


@pytest.mark.usefixtures("in_chunks")
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("weights", [None, [1.0, 0.5], [1.0, 0.0]])
def test_batch_norm_and_its_gradients_are_the_same(weights, affine):
    torch.manual_seed(0)
    weights = None if weights is None else torch.tensor(weights, dtype=torch.float64).requires_grad_()
    values, norm = uneven().requires_grad_(), norm_of(affine, -1)
    pairs = [(values, copy.deepcopy(norm)), (last(values), norm)]
    (a, *rest), (b, *others) = (results(lambda norm, f: norm(f), norm, v, weights) for v, norm in pairs)
    assert not is_channels_last(a)
    assert is_channels_last(b)
    for x, y in zip([a, *rest], [b, *others], strict=True):
        close(x, y)


@pytest.mark.usefixtures("in_chunks")
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("weights", [None, [1.0, 0.5], [1.0, 0.0]])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_norm_and_a_pool_together_are_both_after_each_other(size, weights, affine, monkeypatch):
    """On sides of 6 and 5 pixels, windows overlap at size 2."""
    torch.manual_seed(0)
    weights = None if weights is None else torch.tensor(weights, dtype=torch.float64).requires_grad_()
    values, norm = last(uneven()).requires_grad_(), norm_of(affine, 0.1)
    other, pool = copy.deepcopy(norm), ps.SpatialPool(size)
    found = results(lambda norm, f: norm_and_pool(norm, pool, f), norm, values, weights)
    monkeypatch.setattr("partialsym.nn.fused._Maxima", None)  # the reference does without it
    expected = results(lambda norm, f: pool(norm(f)), other, values, weights)
    for x, y in zip(found, expected, strict=True):
        close(x, y)
    close(
        norm_and_pool(norm.eval(), pool, ps.Signal.image(values[:, :, 0])).values,
        pool(norm(ps.Signal.image(values[:, :, 0]))).values,
    )


REASONS = ["a negative scale", "a mean", "the usual layout", "a hook", "a hook on all", "a forward", "another class"]


@pytest.mark.parametrize("reason", REASONS)
def test_they_follow_each_other_where_they_do_not_commute(reason, monkeypatch, request):
    monkeypatch.setattr("partialsym.nn.fused._Maxima", None)
    torch.manual_seed(0)
    norm, pool, values = norm_of(True, 0.1), ps.SpatialPool(2), last(torch.randn(SHAPE, dtype=torch.float64))
    seen = []
    if reason == "a negative scale":
        norm.weight.data[1] = -1
    elif reason == "a mean":
        pool = ps.SpatialPool(2, "mean")
    elif reason == "the usual layout":
        values = values.contiguous()
    elif reason == "a hook":
        pool.register_forward_pre_hook(lambda pool, f: seen.append(f[0].values))
    elif reason == "a hook on all":
        handle = register_module_forward_pre_hook(
            lambda module, f: seen.append(f[0].values) if module is pool else None
        )
        request.addfinalizer(handle.remove)
    elif reason == "a forward":
        real = pool.forward
        pool.forward = lambda f: seen.append(f.values) or real(f)
    else:
        norm = type("Norm", (ps.BatchNorm,), {"forward": lambda self, f: f.map(torch.negative)})(4)
    elements = Elements(ps.group("C2"), ps.group("C2").grid(2).double())
    f = ps.Signal(values, elements)
    close(norm_and_pool(norm, pool, f).values, pool(norm(f)).values)
    assert ("hook" in reason or "forward" in reason) == bool(seen)
    assert all(abs(x.mean((0, 2, 3, 4)) - norm.bias).max() < 1e-9 for x in seen)


@pytest.mark.parametrize("size", few((2, 4, 3), 4))
@pytest.mark.parametrize("mode", ["max", "mean"])
def test_pools_are_the_same(size, mode):
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    y = to_channels_last(x.detach()).requires_grad_()
    a, b = (pool2d(maps, size, mode) for maps in (x, y))
    grad = torch.randn_like(a)
    assert b.is_contiguous(memory_format=torch.channels_last)
    close(a, b)
    close(torch.autograd.grad(a, x, grad)[0], torch.autograd.grad(b, y, grad)[0])


@pytest.mark.parametrize("weights", [None, [1.0, 0.0]])
def test_the_mean_over_a_signal_has_a_gradient_in_its_layout(weights):
    """Where the layouts differ, torch's pointwise functions take ten times as long."""
    weights = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    elements = Elements(SHARED.group, SHARED.matrices, weights)
    x = torch.randn(SHAPE, dtype=torch.float64, requires_grad=True)
    y = last(x)
    a, b = (ps.GlobalPool("mean")(ps.Signal(values, elements)) for values in (x, y))
    grad = torch.randn_like(a)
    close(a, b)
    d_x, d_y = (torch.autograd.grad(out, values, grad)[0] for out, values in ((a, x), (b, y)))
    close(d_x, d_y)
    assert is_channels_last(d_y)
