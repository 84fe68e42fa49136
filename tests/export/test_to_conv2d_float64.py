"""Freezing compares in float64, where a difference is no rounding, on the elements that the model takes."""

import copy

import pytest
import torch
from networks import network, shaken
from torch import nn
from torch.nn import functional as F

import partialsym as ps
from partialsym.export import conversion


def images():
    return torch.randn(2, 1, 16, 16)


def tf32(t):
    """Rounded to 10 bits of mantissa."""
    if t.dtype != torch.float32:
        return t
    return ((t.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


@pytest.fixture
def rounded(monkeypatch):
    """A device that convolves float32 in TF32, whatever it is told."""
    plain = F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda x, w, *rest, **named: plain(tf32(x), tf32(w), *rest, **named))


def test_to_conv2d_does_not_take_rounding_for_another_function(rounded):
    """The comparison in float32, that it does not make, would."""
    far = 0
    for seed in range(3):
        torch.manual_seed(seed)
        net, x = network(ps.GResNet, "E2", width=4, partial=False), torch.randn(4, 1, 16, 16)
        ps.recalibrate(net, [torch.randn(16, 1, 16, 16)])
        frozen = ps.to_conv2d(net, x)
        assert sum(isinstance(module, ps.BatchNorm) for module in frozen.modules()) == 2  # the others are folded
        exact = copy.deepcopy(net).double()(x.double())
        torch.testing.assert_close(copy.deepcopy(frozen).double()(x.double()), exact, rtol=1e-5, atol=1e-5)
        try:
            conversion._check_same(net(x).detach(), frozen(x))
        except ValueError:
            far += 1
    assert far


class Constant(nn.Module):
    """A model with a constant in float32, which float64 does not go with; `more` reads how many elements there are."""

    def __init__(self, more=0.0):
        super().__init__()
        self.net, self.more = network(ps.GResNet, "E2", num_classes=3), more

    def forward(self, x):
        elements = len(self.net.features(x).elements)  # of which half are dropped
        return F.linear(self.net(x), torch.eye(3)) * (1 + self.more * elements)


def test_a_model_that_does_not_run_in_float64_is_compared_in_its_own_dtype():
    x, net = images(), Constant()
    with pytest.raises(RuntimeError, match="dtype"):
        copy.deepcopy(net).double()(x.double())
    torch.testing.assert_close(ps.to_conv2d(net, x)(x), net(x), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="depends on more than"):
        ps.to_conv2d(Constant(more=0.1), x)


def test_the_elements_that_the_model_takes_are_those_compared():
    """θ is one where float32 and float64 do not agree on ⌈rθ⌉."""
    net, x = shaken(ps.GResNet("SE2", samples=5, width=2, hidden=4, kernel_size=3), theta=0.4000002145767212), images()
    ps.set_proportional(net, True)
    frozen = ps.to_conv2d(net, x)
    assert (conversion.kept(net)["last"], conversion.kept(copy.deepcopy(net).double())["last"]) == ((2, 5), (3, 5))
    torch.testing.assert_close(frozen(x), net(x), rtol=1e-4, atol=1e-4)


def test_a_difference_that_float32_would_hide_is_seen():
    x = images()
    ps.to_conv2d(Constant(more=0.0).net, x)

    class Little(Constant):
        def forward(self, x):
            return self.net(x) * (1 + 1e-5 * len(self.net.features(x).elements))

    with pytest.raises(ValueError, match="depends on more than"):
        ps.to_conv2d(Little(), x)
