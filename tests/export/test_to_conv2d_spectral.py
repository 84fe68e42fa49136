"""A frozen convolution of a large batch by frequencies: the same numbers, where no more is asked for."""

import pytest
import torch

from partialsym import GResNet, to_conv2d
from partialsym.nn import frozen as plain
from partialsym.ops import choice

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def frozen(monkeypatch):
    """A frozen network whose convolutions would all be computed in the frequency domain, and how many were."""
    net = to_conv2d(GResNet("E2", samples=4, width=2, hidden=4, kernel_size=3).eval())
    count, right = [], plain.convolve_plain
    monkeypatch.setattr(plain, "spectral_time", lambda *_: 0.0)
    monkeypatch.setattr(plain, "convolve_plain", lambda *args: count.append(1) or right(*args))
    return net, count


def plainly(net, x, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(plain, "_is_free", lambda *_: False)
        return net(x)


def test_it_is_the_plain_convolution(frozen, monkeypatch):
    net, count = frozen
    x = torch.randn(3, 1, 12, 12)
    torch.testing.assert_close(net(x), plainly(net, x, monkeypatch), rtol=0, atol=1e-10)
    assert len(count) == 8  # every convolution of the network
    assert net(x[:0]).shape == (0, 10)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.*:DeprecationWarning")
def test_whatever_needs_more_than_numbers_gets_the_plain_convolution(frozen):
    """Gradients, forward-mode ones too, tracing, export, autocast and hooks."""
    net, count = frozen
    x = torch.randn(1, 1, 12, 12)
    torch.func.grad(lambda x: net(x)[0, 0])(x)
    torch.func.jvp(net, (x,), (x,))
    net(x.clone().requires_grad_()).sum().backward()
    torch.vmap(net)(x[None])
    torch.jit.trace(net, x, check_trace=False)  # which would ask for numbers
    torch.export.export(net, (x,))
    with torch.autocast("cpu", torch.bfloat16):
        net.float()(x.float())
    net.double()
    calls = []
    for module in net.modules():
        if type(module) is torch.nn.Conv2d:
            module.register_forward_hook(lambda *_: calls.append(1))
    net(x)
    assert len(calls) == 8
    assert count == []


def test_in_float32_it_is_the_plain_network_too(frozen, monkeypatch):
    """There images give maps in `torch.channels_last`; an empty batch gives no classes."""
    net = frozen[0].float()
    monkeypatch.setattr(plain, "spectral_time", lambda *_: 2.0)
    x = torch.randn(3, 1, 12, 12, dtype=torch.float32)
    torch.testing.assert_close(net(x), plainly(net, x, monkeypatch), rtol=0, atol=1e-5)
    assert net(x[:0]).shape == (0, 10)


def test_hooks_on_all_modules_and_another_forward_are_seen(frozen):
    net, x, seen = frozen[0], torch.randn(1, 1, 12, 12), []
    handle = torch.nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(type(module)))
    try:
        net(x)
    finally:
        handle.remove()
    assert seen.count(torch.nn.Conv2d) == 8
    for module in net.modules():
        if type(module) is torch.nn.Conv2d:
            module.forward = lambda x, module=module: seen.append("own") or type(module).forward(module, x)
    net(x)
    assert seen.count("own") == 8


def test_small_batches_and_kernels_stay_plain(monkeypatch):
    monkeypatch.setattr(choice, "processor", lambda: "AVX2")

    def is_spectral(conv, images):
        return plain._is_spectral(conv, images, plain._options(conv))

    wide, small = torch.nn.Conv2d(256, 256, 7, padding=3), torch.nn.Conv2d(256, 256, 1)
    for conv in (wide, small):
        conv.requires_grad_(False).float()
    images = torch.zeros(64, 256, 14, 14, dtype=torch.float32)
    assert is_spectral(wide, images)
    assert not is_spectral(wide, images[:1])
    assert not is_spectral(small, images)
    assert plain._is_free(wide, images)
    assert not plain._is_free(wide, images.bfloat16())
