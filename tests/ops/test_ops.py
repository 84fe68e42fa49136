"""All orders of summation are the same function, in value and in every gradient."""

import numpy as np
import pytest
import torch
from convolutions import ORDERS, TRANSFORMS, M, arguments, by_path, gradients, naive

from partialsym import E2, SE2, GroupConv, Signal, haar, learned
from partialsym.ops import FactoredKernel, Options, convolve, fourier, orders, spectral as spectral_order


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(params=TRANSFORMS.values(), ids=TRANSFORMS)
def _transform(request, monkeypatch):
    monkeypatch.setattr(fourier, "SMALL", request.param)


@pytest.mark.usefixtures("_transform")
@pytest.mark.parametrize("chunk", [1, 2000, 2**24], ids=lambda b: f"{b} bytes")
@pytest.mark.parametrize("path", ORDERS)
@pytest.mark.parametrize(("k", "padding"), [(1, 0), (3, 1), (3, 0), (5, 2), (5, 0)])
def test_all_orders_follow_the_definition_in_value_and_every_gradient(k, padding, path, chunk, monkeypatch):
    monkeypatch.setitem(orders.CHUNK_BYTES, "cpu", chunk)
    leaves, disc = arguments(k)
    grad = torch.randn_like(naive(*leaves, disc, padding))
    expected, expected_grads = gradients(naive, leaves, disc, padding, grad)
    out, grads = gradients(by_path(path), leaves, disc, padding, grad)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)
    for got, right in zip(grads, expected_grads, strict=True):
        right = right * disc if right.ndim == 5 and right.shape[-1] == k and right.shape[0] == M else right
        torch.testing.assert_close(got, right, rtol=0, atol=1e-10)


@pytest.mark.usefixtures("_transform")
@pytest.mark.parametrize("path", ORDERS)
@pytest.mark.parametrize(
    ("size", "k", "padding"),
    [((1, 1), 3, 1), ((2, 1), 5, 2), ((3, 9), 3, 0), ((6, 4), 2, 0), ((5, 4), 4, 2), ((4, 8), 1, 0)],
)
def test_all_orders_follow_it_on_narrow_planes_with_even_kernels_and_one_element(size, k, padding, path):
    """One element, as in lifting; planes smaller than the kernel; a period that is odd, even, or one pixel."""
    leaves, disc = arguments(k, size=size)
    leaves[0], leaves[3], leaves[4] = (
        part.detach()[index].requires_grad_()
        for part, index in zip(
            (leaves[0], leaves[3], leaves[4]), (np.s_[:, :, :1], np.s_[:, :, :1], np.s_[:1]), strict=True
        )
    )
    disc = torch.ones_like(disc)
    grad = torch.randn_like(naive(*leaves, disc, padding))
    (out, grads), (expected, right) = (gradients(run, leaves, disc, padding, grad) for run in (by_path(path), naive))
    torch.testing.assert_close((out, grads), (expected, right), rtol=0, atol=1e-10)


def test_planes_are_transformed_in_one_where_that_is_few_multiplications_more():
    """By both numbers, and by the transforms that a convolution then calls for."""
    along, in_one = (fourier.multiplications((7, 7), (10, 10), in_one) for in_one in (False, True))
    assert (along, in_one) == (1778, 104 * 49)
    assert fourier.pays_in_one(1000, (7, 7), (10, 10))
    assert not fourier.pays_in_one(2000, (7, 7), (10, 10))
    assert fourier.pays_in_one(10**6, (4, 4), (5, 5))
    assert not fourier.pays_in_one(1, (9, 8), (10, 10))
    assert not fourier.pays_in_one(1, (4, 4), (4, 400))


@pytest.mark.parametrize(("small", "calls"), [(0, (1, 1)), (64, (0, 0))])
def test_the_transform_that_was_chosen_is_called(small, calls, monkeypatch):
    seen = []
    monkeypatch.setattr(fourier, "SMALL", small)
    for name in ("_analyse_by_lines", "_synthesise_by_lines"):
        real = getattr(fourier, name)
        monkeypatch.setattr(fourier, name, lambda *of, name=name, real=real: seen.append(name) or real(*of))
    leaves, disc = arguments(3)
    by_path("spectral")(*leaves, disc, 1)
    assert (seen.count("_analyse_by_lines"), seen.count("_synthesise_by_lines")) == calls


def test_a_wrong_order_would_be_seen(monkeypatch):
    """The comparison above fails where one order forgets the kernel's bias."""
    monkeypatch.setattr(orders, "_plane", lambda f, k: torch.zeros_like(f[:, :, 0]))
    leaves, disc = arguments(3)
    assert (by_path("factored")(*leaves, disc, 1) - naive(*leaves, disc, 1)).abs().max() > 0.1


@pytest.mark.parametrize("path", ORDERS)
def test_an_input_without_gradient_still_gives_the_kernels(path):
    leaves, disc = arguments(3)
    leaves[0] = leaves[0].detach()
    grad = torch.randn_like(naive(*leaves, disc, 1))
    grads = [torch.autograd.grad(run(*leaves, disc, 1), leaves[1:], grad) for run in (naive, by_path(path))]
    for right, got in zip(*grads, strict=True):
        torch.testing.assert_close(got * (disc if got.ndim == 5 else 1), right * (disc if right.ndim == 5 else 1))


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("group", [SE2(), E2()], ids=str)
def test_a_layer_is_the_same_on_all_paths(group, dropped):
    density = learned(group, 4)
    if dropped and group.name == "E2":
        torch.nn.init.constant_(density.component.logits, -1.0)
    layers = [GroupConv(3, 4, domain=group, codomain=density, kernel_size=3, path=path) for path in ORDERS]
    for layer in layers[1:]:
        layer.load_state_dict(layers[0].state_dict())
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
    for out, grad in zip(outs[1:], grads[1:], strict=True):
        torch.testing.assert_close(out, outs[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(grad, grads[0], rtol=1e-10, atol=1e-10)


def test_kernel_norm_is_the_norm_of_the_kernel_that_both_paths_convolve_with():
    layer = GroupConv(3, 4, domain=SE2(), codomain=haar(SE2(), 4), kernel_size=5, bias=False).eval()
    out = layer.codomain.sample()
    into = haar(SE2(), 16).eval().sample()
    filters = layer.filters(out, into) * len(into)  # the mean undone
    torch.testing.assert_close(layer.kernel_norm() ** 2, filters.square().sum() / (len(out) * len(into)))


@pytest.mark.parametrize("path", ORDERS)
def test_weights_left_out_are_equal_ones(path):
    """Equal weights are in the features if they are given, and in the operator if not."""
    (f, *parts, mean, offset), disc = arguments(3)
    f.requires_grad_(False)
    equal = torch.full_like(mean, 1 / len(mean))
    kernels = [FactoredKernel(*parts[:2], parts[2] / len(mean), equal, disc), FactoredKernel(*parts, None, disc)]
    outs = [convolve(f, kernel, offset, 1, path) for kernel in kernels]
    torch.testing.assert_close(outs[1], outs[0], rtol=0, atol=1e-12)
    grad = torch.randn_like(outs[0])
    expected, found = (torch.autograd.grad(out, [*parts, offset], grad) for out in outs)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("chunk", [1, 2**24], ids=lambda b: f"{b} bytes")
@pytest.mark.parametrize("path", ORDERS)
def test_reduced_precision_errs_like_a_plain_convolution(path, chunk, monkeypatch):
    """bf16 against float64, beside what rounding the whole kernel and the input alone costs."""
    monkeypatch.setitem(orders.CHUNK_BYTES, "cpu", chunk)
    leaves, disc = arguments(3)
    exact = naive(*leaves, disc, 1)
    half = [leaf.detach().to(torch.float32) for leaf in leaves]
    half[0] = half[0].bfloat16()
    out = by_path(path)(*half, disc.float(), 1)
    assert out.dtype == torch.bfloat16
    assert (out.double() - exact).norm() / exact.norm() < 0.01


@pytest.mark.parametrize("path", ORDERS)
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


@pytest.mark.parametrize("groups", [1, 8])
def test_the_maps_of_one_channel_are_bounded_too(groups, monkeypatch):
    """By elements of the output. The control: a chunk that holds them all."""
    torch.set_default_dtype(torch.float32)
    f, m, h, k = torch.randn(2, groups, 1, 12, 12), 8, 16, 3
    weight, bias = torch.randn(groups, 1, h), torch.randn(groups, 1)
    kernel = FactoredKernel(weight, bias, torch.randn(m, h, 1, k, k), None, torch.ones(k, k))
    of_element = h * f[0].nbytes
    largest = {}
    for chunk in (of_element, m * of_element):
        monkeypatch.setitem(orders.CHUNK_BYTES, "cpu", chunk)
        with torch.profiler.profile(profile_memory=True) as profile:
            out = orders.factored(f, kernel, None, Options(1, groups=groups))
            orders.factored_backward(out, f, kernel, Options(1, groups=groups), True)
        events = profile.profiler.kineto_results.events()
        largest[chunk] = max(e.nbytes() for e in events if e.name() == "[memory]")
    assert largest[of_element] <= 2 * of_element
    assert largest[m * of_element] >= m * of_element


@pytest.mark.parametrize("shorter", [0, 1])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("k", "padding"), [(5, 2), (3, 1), (5, 0), (4, 1)])
def test_a_period_is_as_long_as_it_must_be_and_no_longer(k, padding, axis, shorter, monkeypatch):
    """One pixel less, and what wraps around is seen. Kernels of even side too."""
    right = spectral_order.period_of

    def period(*arguments):
        found = list(right(*arguments))
        found[axis] -= shorter
        return tuple(found)

    monkeypatch.setattr(spectral_order, "period_of", period)
    leaves, _ = arguments(k)
    disc = torch.ones(k, k)
    error = (by_path("spectral")(*leaves, disc, padding) - naive(*leaves, disc, padding)).abs().max()
    assert error > 0.1 if shorter else error < 1e-10


@pytest.mark.parametrize("path", ORDERS)
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


def test_the_gradient_of_the_bias_does_not_overflow_in_float16():
    """In the factored order it is a sum over all pixels, and over the disc of each."""
    f, phi = torch.ones(1, 1, 1, 28, 28, dtype=torch.float16), torch.zeros(4, 1, 1, 7, 7)
    weight, bias = torch.zeros(1, 1, 1), torch.zeros(1, 1, requires_grad=True)
    out = convolve(f, FactoredKernel(weight, bias, phi, None, torch.ones(7, 7)), None, 3, "factored")
    out.float().sum().backward()
    places = (7 * 28 - 2 * (1 + 2 + 3)) ** 2  # pairs of a pixel and a tap that meet inside the image
    assert bias.grad.item() == 4 * places > torch.finfo(torch.float16).max
