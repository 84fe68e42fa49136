"""Both orders of summation are the same function, in value and in every gradient; the operator and the choice."""

import pytest
import torch
from helpers import few
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from partialsym import E2, SE2, GroupConv, Signal, haar, learned
from partialsym.ops import FactoredKernel, Shape, convolve, dense_work, factored_work, orders, resolved, shape_of

B, IN, OUT, N, M, H = 3, 4, 5, 3, 2, 6


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def arguments(k, *, size=(7, 6), dtype=torch.float64, groups=1):
    disc = (torch.rand(k, k) > 0.3).to(dtype)
    disc[k // 2, k // 2] = 1
    phi = torch.randn(M, H, N, k, k, dtype=dtype) * disc
    out, into = (OUT, IN) if groups == 1 else (6, IN // groups)
    parts = [torch.randn(out, into, H, dtype=dtype), torch.randn(out, into, dtype=dtype), phi]
    leaves = [torch.randn(B, IN, N, *size, dtype=dtype), *parts, torch.rand(N, dtype=dtype)]
    leaves.append(torch.randn(out, dtype=dtype))
    for leaf in leaves:
        leaf.requires_grad_()
    return leaves, disc


def naive(f, weight, bias, phi, mean, offset, disc, padding, **options):
    kernel = torch.einsum("oih,mhnyx->ominyx", weight, phi)
    kernel = kernel + torch.einsum("oi,n,yx->oinyx", bias, mean, disc)[:, None]
    out = F.conv2d(f.flatten(1, 2), kernel.flatten(2, 3).flatten(0, 1), padding=padding, **options)
    return out.unflatten(1, (len(weight), M)) + offset[:, None, None, None]


def by_path(path):
    def run(f, weight, bias, phi, mean, offset, disc, padding, **options):
        return convolve(f, FactoredKernel(weight, bias, phi * disc, mean, disc), offset, padding, path, **options)

    return run


def gradients(run, leaves, disc, padding, grad, **options):
    out = run(*leaves, disc, padding, **options)
    return out, torch.autograd.grad(out, leaves, grad)


@pytest.mark.parametrize("chunk", [1, 2000, 2**24], ids=lambda b: f"{b} bytes")
@pytest.mark.parametrize("path", ["dense", "factored"])
@pytest.mark.parametrize(("k", "padding"), [(1, 0), (3, 1), (3, 0), (5, 2), (5, 0)])
def test_both_orders_follow_the_definition_in_value_and_every_gradient(k, padding, path, chunk, monkeypatch):
    monkeypatch.setitem(orders.CHUNK_BYTES, "cpu", chunk)
    leaves, disc = arguments(k)
    grad = torch.randn_like(naive(*leaves, disc, padding))
    expected, expected_grads = gradients(naive, leaves, disc, padding, grad)
    out, grads = gradients(by_path(path), leaves, disc, padding, grad)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)
    for got, right in zip(grads, expected_grads, strict=True):
        right = right * disc if right.ndim == 5 and right.shape[-1] == k and right.shape[0] == M else right
        torch.testing.assert_close(got, right, rtol=0, atol=1e-10)


OPTIONS = [{"stride": 2}, {"stride": 3, "dilation": 2}, {"dilation": 2}, {"groups": 2}, {"groups": 2, "stride": 2}]


@pytest.mark.parametrize("chunk", [1, 2**24], ids=lambda b: f"{b} bytes")
@pytest.mark.parametrize("path", ["dense", "factored"])
@pytest.mark.parametrize(("k", "padding"), [(1, 0), (3, 1), (3, 0)])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_both_orders_follow_torchs_strides_dilations_and_groups(options, k, padding, path, chunk, monkeypatch):
    monkeypatch.setitem(orders.CHUNK_BYTES, "cpu", chunk)
    leaves, disc = arguments(k, groups=options.get("groups", 1))
    grad = torch.randn_like(naive(*leaves, disc, padding, **options))
    expected, expected_grads = gradients(naive, leaves, disc, padding, grad, **options)
    out, grads = gradients(by_path(path), leaves, disc, padding, grad, **options)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)
    for got, right in zip(grads, expected_grads, strict=True):
        right = right * disc if right.ndim == 5 and right.shape[-1] == k and right.shape[0] == M else right
        torch.testing.assert_close(got, right, rtol=0, atol=1e-10)


def test_a_wrong_order_would_be_seen(monkeypatch):
    """The comparison above fails where one order forgets the kernel's bias."""
    monkeypatch.setattr(orders, "_plane", lambda f, k: torch.zeros_like(f[:, :, 0]))
    leaves, disc = arguments(3)
    assert (by_path("factored")(*leaves, disc, 1) - naive(*leaves, disc, 1)).abs().max() > 0.1


@pytest.mark.parametrize("options", [(1, 1, 1), (3, 2, 2)])
@pytest.mark.parametrize("path", few(["dense", "factored"], "factored"))
def test_the_operator_keeps_torchs_rules(path, options):
    """Schema, fake tensors, autograd registration and dynamic shapes, by torch's own checker."""
    leaves, disc = arguments(3, groups=options[2])
    f, weight, bias, phi, mean, offset = leaves
    args = (f, weight, bias, phi, mean, disc, offset, 1, *options, path)
    torch.library.opcheck(torch.ops.partialsym.convolve.default, args)
    torch.library.opcheck(torch.ops.partialsym.convolve.default, (*args[:6], None, *args[7:]))


@pytest.mark.parametrize("path", ["dense", "factored"])
def test_an_input_without_gradient_still_gives_the_kernels(path):
    leaves, disc = arguments(3)
    leaves[0] = leaves[0].detach()
    grad = torch.randn_like(naive(*leaves, disc, 1))
    grads = [torch.autograd.grad(run(*leaves, disc, 1), leaves[1:], grad) for run in (naive, by_path(path))]
    for right, got in zip(*grads, strict=True):
        torch.testing.assert_close(got * (disc if got.ndim == 5 else 1), right * (disc if right.ndim == 5 else 1))


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("group", [SE2(), E2()], ids=str)
def test_a_layer_is_the_same_on_both_paths(group, dropped):
    density = learned(group, 4)
    if dropped and group.name == "E2":
        torch.nn.init.constant_(density.component.logits, -1.0)
    layers = [
        GroupConv(3, 4, domain=group, codomain=density, kernel_size=3, path=path) for path in ("dense", "factored")
    ]
    layers[1].load_state_dict(layers[0].state_dict())
    density.eval()
    values = torch.randn(2, 3, 4, 6, 6)
    outs, grads = [], []
    for layer in layers:
        f = values.clone().requires_grad_()
        out = layer.eval()(Signal(f, density.sample())).values
        loss = out.square().sum() + layer.kernel_norm()
        own = [p for name, p in layer.named_parameters() if not name.startswith("codomain")]
        grads.append(torch.autograd.grad(loss, [f, *own, density.algebra.raw]))
        outs.append(out)
    torch.testing.assert_close(*outs, rtol=0, atol=1e-10)
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_kernel_norm_is_the_norm_of_the_kernel_that_both_paths_convolve_with():
    layer = GroupConv(3, 4, domain=SE2(), codomain=haar(SE2(), 4), kernel_size=5, bias=False).eval()
    out = layer.codomain.sample()
    into = haar(SE2(), 16).eval().sample()
    filters = layer.filters(out, into) * len(into)  # the mean undone
    torch.testing.assert_close(layer.kernel_norm() ** 2, filters.square().sum() / (len(out) * len(into)))


@pytest.mark.parametrize("path", ["dense", "factored"])
def test_reduced_precision_errs_like_a_plain_convolution(path):
    """bf16 against float64, beside what rounding the whole kernel and the input alone costs."""
    leaves, disc = arguments(3)
    exact = naive(*leaves, disc, 1)
    half = [leaf.detach().to(torch.float32) for leaf in leaves]
    half[0] = half[0].bfloat16()
    out = by_path(path)(*half, disc.float(), 1)
    assert out.dtype == torch.bfloat16
    assert (out.double() - exact).norm() / exact.norm() < 0.01


@pytest.mark.parametrize("path", ["dense", "factored"])
def test_chunks_bound_what_is_held_at_once(path, monkeypatch):
    """Not one tensor larger than what goes in and out, plus a chunk."""
    torch.set_default_dtype(torch.float32)  # in float64 torch's own convolution unfolds its input
    f, k = torch.randn(4, 8, 4, 12, 12), 3
    kernel = FactoredKernel(
        torch.randn(8, 8, 16), torch.randn(8, 8), torch.randn(4, 16, 4, k, k), torch.rand(4), torch.ones(k, k)
    )
    largest = {}
    for chunk in (2**15, 2**26):
        monkeypatch.setitem(orders.CHUNK_BYTES, "cpu", chunk)
        with torch.profiler.profile(profile_memory=True) as profile:
            convolve(f, kernel, None, 1, path)
        events = profile.profiler.kineto_results.events()
        largest[chunk] = max(e.nbytes() for e in events if e.name() == "[memory]")
    assert largest[2**15] <= f.numel() * 4 + 2**15
    assert path == "dense" or largest[2**26] > 4 * largest[2**15]  # without chunks it is the feature maps


@pytest.mark.parametrize("options", [orders.Options(1), orders.Options(1, 2, 1, 2), orders.Options(1, 1, 2)], ids=str)
def test_the_cost_model_counts_what_the_orders_multiply(options):
    """By torch's own counter of operations, two a multiplication."""
    leaves, disc = arguments(3, groups=options.groups)
    f, kernel = leaves[0].detach(), FactoredKernel(*(leaf.detach() for leaf in leaves[1:5]), disc)
    s = shape_of(f.shape, kernel.weight.shape, kernel.phi.shape, *options)
    for order, work in ((orders.dense, dense_work(s)), (orders.factored, factored_work(s))):
        with FlopCounterMode(display=False) as counter:
            order(f, kernel, None, options)
        mean = 2 * f.numel() if order is orders.factored else 0  # over the elements
        assert counter.get_total_flops() == 2 * sum(work) + mean
    leaves, _ = arguments(3)
    assert shape_of(leaves[0].shape, leaves[1].shape, leaves[3].shape, 0) == Shape(B, IN, OUT, N, M, H, 3, 5 * 4)


@pytest.mark.parametrize("options", [{}, *OPTIONS[:3]], ids=str)  # torch counts groups of gradients too high
@pytest.mark.parametrize("path", ["dense", "factored"])
def test_the_formulas_of_the_operator_count_what_it_runs(path, options):
    """Forward and backward, by torch's counter on the plain functions that it calls."""
    leaves, disc = arguments(3)
    kernel = FactoredKernel(*leaves[1:5], disc)
    with FlopCounterMode(display=False) as counter:
        out = convolve(leaves[0], kernel, leaves[5], 1, path, **options)
        torch.autograd.grad(out, leaves, torch.ones_like(out))
    known = orders.Options(1, **options)
    forward, backward = {
        "dense": (orders.dense, orders.dense_backward),
        "factored": (orders.factored, orders.factored_backward),
    }[path]
    f, plain = leaves[0].detach(), FactoredKernel(*(part.detach() for part in kernel))
    with FlopCounterMode(display=False) as run:
        backward(torch.ones_like(forward(f, plain, None, known)), f, plain, known, True)
    assert counter.get_total_flops() == pytest.approx(run.get_total_flops(), rel=0.1)  # and the means over elements


@pytest.mark.parametrize(
    ("shape", "path"),
    [
        (Shape(4, 128, 128, 8, 8, 8, 3, 1024), "factored"),  # the 13-layer CNN
        (Shape(4, 256, 256, 8, 8, 8, 3, 64), "factored"),
        (Shape(16, 32, 64, 4, 4, 8, 3, 784), "dense"),  # where it is narrow, with few elements
        (Shape(64, 64, 64, 4, 4, 8, 3, 49), "dense"),
        (Shape(64, 32, 32, 8, 8, 32, 7, 196), "dense"),  # the ResNet's first block
        (Shape(64, 32, 32, 1, 1, 32, 7, 196), "dense"),  # T(2)
        (Shape(64, 1, 32, 1, 8, 32, 7, 784), "dense"),  # lifting
        (Shape(64, 32, 64, 8, 8, 16, 1, 49), "dense"),  # a shortcut
    ],
)
def test_the_choice_where_measurements_leave_no_doubt(shape, path):
    assert resolved("auto", shape) == path


def test_an_unknown_path_is_refused():
    with pytest.raises(ValueError, match="path is 'quick': must be one of auto, dense, factored"):
        GroupConv(1, 1, domain=SE2(), codomain=haar(SE2(), 4), kernel_size=3, path="quick")


def test_another_precision_than_the_layers_is_refused():
    layer = GroupConv(1, 1, domain=SE2(), codomain=haar(SE2(), 4), kernel_size=3).eval()
    f = Signal(torch.zeros(1, 1, 4, 5, 5), haar(SE2(), 4).float().eval().sample())
    with pytest.raises(ValueError, match=r"input is torch\.float64, but this layer is torch\.float32"):
        layer.float()(f)
    assert layer(Signal(f.values.float(), f.elements)).values.dtype == torch.float32


@pytest.mark.parametrize("path", ["auto", "dense", "factored"])
def test_one_channel_and_no_image(path):
    """Gradients of one channel are views into each other unless they are copied; an empty batch is a batch."""
    layer = GroupConv(1, 1, domain=SE2(), codomain=haar(SE2(), 2), kernel_size=3, path=path)
    elements = haar(SE2(), 2).sample()
    layer(Signal(torch.randn(2, 1, 2, 4, 4), elements)).values.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    assert layer(Signal(torch.randn(0, 1, 2, 4, 4), elements)).values.shape == (0, 1, 2, 4, 4)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_derivatives_that_are_not_there_are_errors_not_zeros():
    leaves, disc = arguments(3)
    run = by_path("auto")
    with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
        torch.func.jvp(lambda f: run(f, *leaves[1:], disc, 1), (leaves[0],), (leaves[0],))
    first = torch.autograd.grad(run(*leaves, disc, 1).sum(), leaves[0], create_graph=True)[0]
    with pytest.raises(NotImplementedError, match=r"convolution has no second derivative.*partialsym\.to_conv2d"):
        torch.autograd.grad(first.square().sum(), leaves[1])


@pytest.mark.parametrize("path", ["dense", "factored"])
def test_chunks_cost_no_precision(path, monkeypatch):
    """Sums over chunks are kept in float32 where the rest is bf16."""
    f, k = torch.randn(2, 8, 4, 6, 6), 3
    parts = torch.randn(8, 8, 4), torch.randn(8, 8), torch.randn(16, 4, 4, k, k), torch.rand(4), torch.ones(k, k)
    kernel = FactoredKernel(*(part.float() for part in parts))
    errors = []
    for chunk in (1, 2**24):
        monkeypatch.setitem(orders.CHUNK_BYTES, "cpu", chunk)
        grads = []
        for dtype, cast in ((torch.float64, torch.Tensor.double), (torch.bfloat16, torch.Tensor.float)):
            x = f.to(torch.bfloat16).to(dtype).requires_grad_()
            out = convolve(x, FactoredKernel(*map(cast, kernel)), None, 1, path)
            grads.append(torch.autograd.grad(out, x, torch.ones_like(out))[0].double())
        errors.append(float((grads[1] - grads[0]).norm() / grads[0].norm()))
    assert errors[0] < 1.3 * errors[1]
