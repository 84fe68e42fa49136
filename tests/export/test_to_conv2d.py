"""Freezing: the same answers from plain convolutions, without the elements that were dropped."""

import copy
from itertools import product

import pytest
import torch
from helpers import KINDS, SAMPLES, density, few, group_conv, lifting, random_signal
from networks import CLOSE, Own, assert_frozen, network, of, shaken
from torch import nn
from torch.nn import functional as F

from partialsym import (
    GCNN13,
    BatchNorm,
    Elements,
    GlobalPool,
    GResNet,
    Signal,
    group,
    recalibrate,
    set_proportional,
    to_conv2d,
)
from partialsym.export.conversion import kept


@pytest.mark.parametrize("dtype", few([torch.float32, torch.float64], torch.float64))
@pytest.mark.parametrize(("name", "partial"), few(list(product(SAMPLES, (False, True))), *KINDS))
@pytest.mark.parametrize("cls", [GResNet, GCNN13])
def test_it_changes_nothing(cls, name, partial, dtype):
    torch.set_default_dtype(dtype)
    net = network(cls, name, partial=partial, in_channels=2)
    frozen = assert_frozen(net, torch.randn(3, 2, 15, 18))
    # In the ResNet two norms follow a sum.
    assert len(of(BatchNorm, frozen)) == (2 if cls is GResNet else 0)
    assert len(of(BatchNorm, net)) == (4 if cls is GResNet else 9)


def test_excluded_elements_are_gone(float64):
    net = network(GResNet, "E2", partial=True)
    frozen = assert_frozen(net, torch.randn(2, 1, 16, 20), example=torch.randn(1, 1, 16, 16))
    halved = ("block1.conv1", "block1.conv2", "block2.conv1", "block2.conv2", "last")
    assert kept(net) == {"lifting": (8, 8), **dict.fromkeys(halved, (4, 8))}
    shapes = {name: list(module.weight.shape) for name, module in frozen.named_modules() if name.endswith("plain")}
    assert shapes == {
        "lifting.plain": [3 * 8, 1, 3, 3],
        "block1.conv1.plain": [3 * 4, 3 * 8, 3, 3],
        "block1.conv2.plain": [3 * 4, 3 * 4, 3, 3],
        "block1.shortcut.plain": [3 * 4, 3 * 8, 1, 1],
        "block2.conv1.plain": [6 * 4, 3 * 4, 3, 3],
        "block2.conv2.plain": [6 * 4, 6 * 4, 3, 3],
        "block2.shortcut.plain": [6 * 4, 3 * 4, 1, 1],
        "last.plain": [6 * 4, 6 * 4, 3, 3],
    }
    f = frozen.features(torch.randn(2, 1, 16, 16))
    assert (len(f.elements), f.elements.weights, f.group.name) == (4, None, "E2")


def test_the_number_of_elements_is_set_on_the_densities(float64):
    net, x = network(GResNet, "SE2", partial=True, samples=7, width=2), torch.randn(2, 1, 16, 16)
    before = net(x)
    set_proportional(net, True)
    assert not torch.equal(net(x), before)
    recalibrate(net, [torch.randn(8, 1, 16, 16)])
    assert kept(net)["lifting"] == (7, 7)
    assert kept(net)["last"] == (4, 7)  # ⌈7/2⌉
    frozen = assert_frozen(net, x)
    assert list(frozen.last.plain.weight.shape) == [4 * 4, 4 * 4, 3, 3]
    assert list(frozen.block1.conv1.plain.weight.shape) == [2 * 4, 2 * 7, 3, 3]
    set_proportional(net, False)
    assert kept(net)["last"] == (7, 7)


def test_signals_go_in_and_come_out(float64):
    """A layer by itself; what it gives is what the model gives on the elements that count."""
    conv, f = shaken(group_conv("E2", "learned")), random_signal("E2")
    given, whole = to_conv2d(conv, f)(f), conv(f)
    assert whole.elements.weights.tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    torch.testing.assert_close(given.values, whole.values[:, :, :4])
    torch.testing.assert_close(given.elements.matrices, whole.elements.matrices[:4])
    net, x = shaken(Own(last=False)), torch.randn(1, 1, 9, 9)
    assert to_conv2d(net, x)(x).values.shape == (1, 3, 4, 5, 5)


def test_weights_that_differ_are_kept(float64):
    f = random_signal("E2", weights=torch.tensor([1.0, 1, 0.5, 1, 2, 1, 1, 1]))
    conv = shaken(group_conv("E2"))
    at = Elements(group("E2"), f.elements.matrices, torch.tensor([1.0, 0, 0.5, 1, 2, 1, 1, 0]))

    class Given(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv

        def forward(self, f):
            return GlobalPool("mean")(self.conv(f, elements=at))

    torch.testing.assert_close(to_conv2d(Given(), f)(f), Given()(f), rtol=1e-10, atol=1e-10)


def test_a_frozen_layer_refuses_other_elements():
    f = random_signal("E2")
    frozen = to_conv2d(group_conv("E2"), f)
    fewer = Signal(f.values[:, :, :4], Elements(f.group, f.elements.matrices[:4]))
    with pytest.raises(ValueError, match="on 4 elements of E2, but this layer was frozen for 8 of E2"):
        frozen(fewer)
    with pytest.raises(ValueError, match="on 8 elements of C8, but this layer was frozen for 8 of E2"):
        frozen(random_signal("C8"))


def test_a_copy_and_another_dtype_hold_their_elements():
    frozen = to_conv2d(network(GResNet, "E2", partial=True))
    x = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(copy.deepcopy(frozen).double()(x.double()).float(), frozen(x), **CLOSE[torch.float32])
    assert "lifting.matrices" not in frozen.state_dict()


class Drawing(nn.Module):
    """Elements that change: from call to call, between passes, or with the images."""

    def __init__(self, how):
        super().__init__()
        self.lift, self.conv, self.how = lifting("SE2", into=1), group_conv("SE2"), how

    def forward(self, images):
        f = self.lift(Signal.image(images))
        if self.how == "twice":
            self.conv(f, elements=f.elements.transport(-torch.eye(2)))
        at = self.conv.codomain.draw() if self.how == "drawn" else None
        if self.how == "seen" and images.any():
            at = f.elements.transport(-torch.eye(2))
        return GlobalPool()(self.conv(f, elements=at) if self.how != "never" else f)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("twice", "conv is called twice on different elements"),
        ("drawn", "the elements of conv differ between passes"),
        ("seen", "the elements of conv differ between passes"),
        ("never", "conv is not called in every pass"),
    ],
)
def test_elements_that_change_cannot_be_converted(how, message):
    with pytest.raises(ValueError, match=message):
        to_conv2d(Drawing(how), torch.randn(1, 1, 9, 9))


def test_a_layer_that_reads_more_than_the_signal_shows():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = group_conv("E2", "learned")

        def forward(self, f):
            f = self.conv(f)
            return GlobalPool()(f.map(lambda v: v * len(f.elements)))

    with pytest.raises(ValueError, match="the output of the converted model differs by"):
        to_conv2d(Counts(), random_signal("E2"))


def test_what_there_is_to_convert():
    with pytest.raises(ValueError, match="holds no GroupConv"):
        to_conv2d(nn.Conv2d(1, 1, 3), torch.randn(1, 1, 9, 9))
    with pytest.raises(ValueError, match="converting a Own needs an example of its input"):
        to_conv2d(Own())
    frozen = to_conv2d(network(GResNet, "SE2"))
    with pytest.raises(ValueError, match="holds no GroupConv"):
        to_conv2d(frozen)
    big = network(GResNet, "C4", kernel_size=11, pools=("lifting", "block1", "block2"))  # 32 pixels are too few
    assert_frozen(big, torch.randn(1, 1, 96, 88))


def test_the_comparison_sees_a_weight_that_is_off():
    """The negative control of `assert_frozen`."""
    net, x = network(GResNet, "SE2"), torch.randn(2, 1, 16, 16)
    frozen = to_conv2d(net)
    with torch.no_grad():
        frozen.last.plain.weight *= 1.001
    with pytest.raises(AssertionError):
        torch.testing.assert_close(frozen(x), net(x), **CLOSE[torch.float32])
    assert density("E2", "learned").deterministic().weights.sum() == 4  # the helper does drop elements
    assert F.relu(frozen(x)).shape == (2, 5)
