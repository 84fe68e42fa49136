"""What the orders of summation hold and move beside their signals."""

import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from partialsym.nn.conv import disc
from partialsym.ops import FactoredKernel, Options, convolve, convolve_plain, orders, shape_of, spectral_work

PLAIN = torch.ops.partialsym.convolve_plain


class Called(TorchDispatchMode):
    """The names of the operators called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function._schema.name)
        return function(*args, **(kwargs or {}))


def known(channels, k=7, **options):
    mask = disc(k)[1].to(options.get("dtype", torch.get_default_dtype()))
    return torch.randn(channels, channels, k, k, **options) * mask, torch.randn(channels, **options), mask


def allocated(call):
    """Bytes of every allocation of a call, and the peak of all."""
    call()  # what is cached
    with torch.profiler.profile(profile_memory=True) as profile:
        call()
    events = sorted(profile.profiler.kineto_results.events(), key=lambda e: e.start_ns())
    sizes = [e.nbytes() for e in events if e.name() == "[memory]"]
    return max(sizes), max(torch.tensor(sizes).cumsum(0).tolist())


def test_a_known_kernel_is_the_plain_convolution(float64):
    for options in (Options(0), Options(2), Options(2, 3, 2, 5)):
        f, (weight, bias, mask) = torch.randn(2, 5, 9, 8), known(5, 5)
        weight = weight[:, : 5 // options.groups]
        found, named = convolve_plain(f, weight, bias, mask, options), options._asdict()
        torch.testing.assert_close(found, F.conv2d(f, weight, bias, **named), rtol=0, atol=1e-10)
        torch.library.opcheck(
            PLAIN.default, (f, weight, bias, mask, *options), test_utils=("test_schema", "test_faketensor")
        )
    f, (weight, bias, mask) = torch.randn(2, 5, 9, 8), known(5, 5)
    with FlopCounterMode(display=False) as counter:
        convolve_plain(f, weight, bias, mask, Options(2))
    shape = shape_of((2, 5, 1, 9, 8), (5, 5, 24), (1, 24, 1, 5, 5), 2)
    assert counter.get_total_flops() == 2 * sum(spectral_work(shape))


def test_a_known_kernel_is_never_copied_as_a_whole():
    weight, bias, mask = known(128, dtype=torch.float32)
    f = torch.randn(1, 128, 7, 7)
    largest, peak = allocated(lambda: convolve_plain(f, weight, bias, mask, Options(0)))
    assert largest < weight.nbytes
    assert peak < 1.6 * weight.nbytes  # taps, and some of their spectra; a copy and its gradient were two more


def test_the_backward_pass_holds_the_kernel_and_its_gradient_and_no_third():
    mask = disc(7)[1].float()
    weight, bias = torch.randn(16, 16, 8, requires_grad=True), torch.randn(16, 16)
    phi, f = torch.randn(8, 8, 8, 7, 7) * mask, torch.randn(1, 16, 8, 7, 7, requires_grad=True)
    out = convolve(f, FactoredKernel(weight, bias, phi, torch.full((8,), 1 / 8), mask), None, 3, "spectral")
    ones, taps = torch.ones_like(out), 4 * int(mask.sum()) * (16 * 8) ** 2
    largest, peak = allocated(lambda: torch.autograd.grad(out, [f, weight], ones, retain_graph=True))
    assert largest == taps
    assert peak < 3.5 * taps  # two of them, a chunk of spectra, features: with a third it was above 4


def test_the_factored_order_does_not_rearrange_feature_maps_for_a_parameter():
    """`torch.matmul` does: the negative control."""
    weight = torch.nn.Parameter(torch.randn(6, 4, 3))
    phi, f = torch.randn(2, 3, 2, 3, 3), torch.randn(3, 4, 2, 5, 5)
    k = FactoredKernel(weight, torch.randn(6, 4), phi, torch.rand(2), torch.ones(3, 3))
    with torch.no_grad():
        with Called() as called:
            out = orders.factored(f, k, None, Options(1))
            orders.factored_backward(torch.ones_like(out), f, k, Options(1), True)
        with Called() as control:
            torch.matmul(weight.flatten(1), f.flatten(2).repeat(1, 3, 1)[:, :12])
    assert "aten::bmm" in called.names
    assert "aten::mm" not in called.names
    assert "aten::mm" in control.names


def test_the_factored_order_keeps_nothing_of_the_bias_beside_its_feature_maps():
    f, k = (
        torch.randn(64, 64, 1, 28, 28),
        FactoredKernel(torch.randn(64, 64, 8), torch.randn(64, 64), torch.randn(1, 8, 1, 3, 3), None, torch.ones(3, 3)),
    )
    grad, options = torch.randn(64, 64, 1, 28, 28), Options(1)
    _, peak = allocated(lambda: orders.factored(f, k, torch.randn(64), options))
    assert 2.9 < peak / f.nbytes < 3.1  # for the bias: the plane, its sums over the disc, its channels mixed
    _, peak = allocated(lambda: orders.factored_backward(grad, f, k, options, True))
    assert 5.9 < peak / f.nbytes < 6.1
