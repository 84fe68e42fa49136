"""The convolution as an operator of torch: its rules, transforms, memory, and what it refuses; in all orders."""

import pytest
import torch
from convolutions import ORDERS, TRANSFORMS, arguments, by_path, gradients, naive
from helpers import few

from partialsym import SE2, GroupConv, Signal, haar
from partialsym.ops import PATHS, fourier, orders


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("path", few(ORDERS, "spectral"))
def test_the_operator_keeps_torchs_rules(path):
    """Schema, fake tensors, autograd registration and dynamic shapes, by torch's own checker."""
    leaves, disc = arguments(3)
    f, weight, bias, phi, mean, offset = leaves
    args = (f, weight, bias, phi, mean, disc, offset, 1, 1, 1, 1, path, path == "dense")
    torch.library.opcheck(torch.ops.partialsym.convolve.default, args)
    torch.library.opcheck(torch.ops.partialsym.convolve.default, (*args[:4], None, disc, None, *args[7:]))


@pytest.mark.parametrize("path", ORDERS)
def test_the_transforms_of_torch_func_take_all_orders(path):
    leaves, disc = arguments(3)
    leaves = [leaf.detach() for leaf in leaves]

    def loss(f, weight):
        return by_path(path)(f[None], weight, *leaves[2:], disc, 1).square().sum()

    found = torch.vmap(torch.func.grad(loss, (0, 1)), (0, None))(*leaves[:2])
    one = torch.func.grad(loss, (0, 1))
    torch.testing.assert_close(
        found, tuple(map(torch.stack, zip(*(one(f, leaves[1]) for f in leaves[0]), strict=True)))
    )
    right = [naive(f[None], *leaves[1:], disc, 1).square().sum() for f in leaves[0]]
    torch.testing.assert_close(torch.vmap(loss, (0, None))(*leaves[:2]), torch.stack(right))


@pytest.mark.parametrize("path", ORDERS)
def test_what_is_in_fresh_memory_is_never_read(path):
    """Torch fills it with NaN on request."""
    leaves, disc = arguments(5)
    torch.use_deterministic_algorithms(True)
    try:
        grad = torch.ones_like(naive(*leaves, disc, 2))
        out, grads = gradients(by_path(path), leaves, disc, 2, grad)
        assert torch.empty(3).isnan().all()
    finally:
        torch.use_deterministic_algorithms(False)
    assert not any(part.isnan().any() for part in (out, *grads))


@pytest.mark.parametrize("small", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("chunk", [2**24, 1], ids=["one chunk", "many"])
@pytest.mark.parametrize("groups", [1, 2])
def test_no_step_reads_what_another_left_in_a_shared_buffer(groups, chunk, small, monkeypatch):
    """Every request for a buffer fills it with NaN, so one that is still read would spoil the result."""
    real = fourier.Spaces.__call__
    monkeypatch.setattr(fourier.Spaces, "__call__", lambda self, *of: real(self, *of).fill_(torch.nan))
    monkeypatch.setitem(orders.CHUNK_BYTES, "cpu", chunk)
    monkeypatch.setattr(fourier, "ROWS", chunk)
    monkeypatch.setattr(fourier, "SMALL", small)
    leaves, disc = arguments(5, groups=groups)
    grad = torch.randn_like(naive(*leaves, disc, 2, groups=groups))
    for f in (leaves[0], leaves[0].detach().permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2)):
        given = [f.requires_grad_(), *leaves[1:]]
        pairs = (gradients(by_path(p), given, disc, 2, grad, groups=groups) for p in ("spectral", "dense"))
        for found, expected in zip(*((out, *grads) for out, grads in pairs), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_an_unknown_path_is_refused():
    with pytest.raises(ValueError, match="path is 'quick': must be one of auto, dense, factored, spectral"):
        GroupConv(1, 1, domain=SE2(), codomain=haar(SE2(), 4), kernel_size=3, path="quick")


def test_another_precision_than_the_layers_is_refused():
    layer = GroupConv(1, 1, domain=SE2(), codomain=haar(SE2(), 4), kernel_size=3).eval()
    f = Signal(torch.zeros(1, 1, 4, 5, 5), haar(SE2(), 4).float().eval().sample())
    with pytest.raises(ValueError, match=r"input is torch\.float64, but this layer is torch\.float32"):
        layer.float()(f)
    assert layer(Signal(f.values.float(), f.elements)).values.dtype == torch.float32


@pytest.mark.parametrize("path", PATHS)
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
