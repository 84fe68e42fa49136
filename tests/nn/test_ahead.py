"""What is computed ahead for all layers of a network together is what each layer would compute for itself."""

import gc
import weakref

import pytest
import torch
from helpers import SAMPLES

from partialsym import GCNN3, GCNN13, SE2, GConvNeXt, GResNet, GStagedResNet, GUNet, haar, learned
from partialsym.densities import one_theta, together
from partialsym.kernels import MLP
from partialsym.models import convnext, gcnn3, gcnn13, gresnet, staged, unet
from partialsym.nn.ahead import Link, ahead, chain
from partialsym.nn.conv import GroupConv
from partialsym.signal import Elements, Signal

SMALL = {"width": 2, "hidden": 3, "kernel_size": 3, "num_classes": 3}
NETWORKS = {
    "GResNet": lambda group, **rest: GResNet(group, **SMALL, depth=2, **rest),
    "GResNet, plane": lambda group, **rest: GResNet(group, **SMALL, head="plane", **rest),
    "GCNN3": lambda group, **rest: GCNN3(group, **SMALL, **rest),
    "GCNN13": lambda group, **rest: GCNN13(group, **SMALL, dropout=0, **rest),
    "basic": lambda group, **rest: GStagedResNet(group, in_channels=1, blocks=(1, 2), **SMALL, **rest),
    "bottleneck": lambda group, **rest: GStagedResNet(
        group, in_channels=1, blocks=(2, 1), block="bottleneck", **SMALL, **rest
    ),
    "preactivated": lambda group, **rest: GStagedResNet(
        group, in_channels=1, blocks=(1, 2), block="preactivated", stem="cifar", **SMALL, **rest
    ),
    "checkpointed": lambda group, **rest: GStagedResNet(
        group, in_channels=1, blocks=(1, 2), checkpoint=True, **SMALL, **rest
    ),
    "GUNet": lambda group, **rest: GUNet(group, in_channels=1, levels=3, **SMALL, **rest),
    "GConvNeXt": lambda group, **rest: GConvNeXt(group, in_channels=1, blocks=(1, 2), **SMALL, **rest),
}
pytestmark = pytest.mark.usefixtures("float64")

OF_NETWORKS = (convnext, gcnn3, gcnn13, gresnet, staged, unet)


def one_by_one(monkeypatch):
    for module in OF_NETWORKS:
        monkeypatch.setattr(module, "ahead", lambda f, links: f)


def found(net):
    """Output and gradients, with the elements of seed 1."""
    net.zero_grad()
    torch.manual_seed(1)
    out = net(torch.linspace(-1, 2, 2 * 16 * 16).sin().view(2, 1, 16, 16))
    (out * torch.arange(out.numel()).view(out.shape).cos()).sum().backward()
    return {"out": out.detach(), **{name: p.grad for name, p in net.named_parameters() if p.grad is not None}}


@pytest.mark.parametrize("training", [True, False], ids=["drawn", "deterministic"])
@pytest.mark.parametrize("group", ["SE2", "E2", "T2", "Mirror"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_computes_the_same_with_and_without(name, group, training, monkeypatch):
    torch.manual_seed(0)
    net = NETWORKS[name](group, samples=SAMPLES[group]).train(training)
    for parameter in net.parameters():  # θ and P as well
        parameter.data += 0.05 * torch.randn_like(parameter) if parameter.ndim else -0.3
    if group == "E2" and training:  # the order of its draws is another: all angles, then the components
        monkeypatch.setattr(together.Density, "_drawn", lambda self, *n: self._midpoints(self.rotations) + 0.1)
    calls = counted(monkeypatch)
    mine = found(net)
    assert calls
    assert all(calls)
    one_by_one(monkeypatch)
    calls.clear()
    theirs = found(net)
    assert not any(calls)
    assert mine.keys() == theirs.keys()
    for key, value in theirs.items():
        atol = 1e-10 * max(1, float(value.abs().max()))
        torch.testing.assert_close(mine[key], value, rtol=1e-9, atol=atol, msg=f"{key} differs")


def counted(monkeypatch):
    """For each call of a GroupConv, whether it used what was computed ahead."""
    calls, asked = [], GroupConv._ahead

    def _ahead(self, into, out):
        known = asked(self, into, out)
        calls.append(known is not None)
        return known

    monkeypatch.setattr(GroupConv, "_ahead", _ahead)
    return calls


def layers():
    torch.manual_seed(0)
    lifting = GroupConv(1, 2, domain=gresnet.T2(), codomain=haar(SE2(), 4), kernel_size=3)
    return [lifting, *(GroupConv(2, 2, codomain=learned(SE2(), 4), kernel_size=3) for _ in range(2))]


def images():
    return Signal.image(torch.linspace(0, 9, 72).cos().view(2, 1, 6, 6))


def test_a_layer_called_on_other_elements_computes_for_itself():
    one, two, three = layers()
    f = one(ahead(images(), chain(one, two, three)))
    assert two._ahead(f.elements, None) is not None
    moved = f.elements.transport(SE2().exp(torch.tensor([0.3])))
    assert two._ahead(moved, None) is None  # what it reads
    assert two._ahead(f.elements, moved) is None  # where it maps to
    assert three._ahead(f.elements, None) is None  # made for what `two` draws
    for into, out in [(moved, two.codomain.draw()), (f.elements, moved)]:
        expected = two(Signal(f.values, Elements(into.group, into.matrices)), elements=out)
        torch.testing.assert_close(two(Signal(f.values, into), elements=out).values, expected.values, rtol=0, atol=0)


def test_a_wrong_link_costs_time_and_changes_nothing():
    one, two, three = (layer.eval() for layer in layers())
    expected = three(two(one(images()))).values
    f = ahead(images(), [*chain(one), Link(two, two, three), Link(three, one, two)])
    torch.testing.assert_close(three(two(one(f))).values, expected, rtol=1e-12, atol=1e-12)


def test_constants_of_each_layer_count():
    one, two, three = (layer.eval() for layer in layers())
    three.taps.mul_(0.9)
    with torch.no_grad():
        f = ahead(images(), chain(one, two, three))
        torch.testing.assert_close(three(two(one(f))).values, three(two(one(images()))).values, rtol=1e-12, atol=1e-12)


def spoiled(change):
    one, two, three = layers()
    change(two)
    return ahead(images(), chain(one, two, three)).elements.ahead


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.kernel.linear.register_forward_hook(lambda *_: None),
        lambda layer: layer.codomain.register_forward_hook(lambda *_: None),
        lambda layer: layer.register_forward_pre_hook(lambda *_: None),
        lambda layer: setattr(layer, "__class__", type("Own", (GroupConv,), {})),
        lambda layer: setattr(layer, "codomain", None),
    ],
    ids=["hook of the kernel", "hook of the density", "hook of the layer", "a class of its own", "no density"],
)
def test_nothing_is_computed_ahead_where_something_looks_at_a_layer(change):
    assert spoiled(lambda layer: None) is not None
    assert spoiled(change) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: setattr(layer, "kernel", MLP(4, 2, 2)),
        lambda layer: setattr(layer.kernel, "omega0", 5.0),
        lambda layer: setattr(layer.kernel, "features", lambda z: z),
        lambda layer: setattr(layer.kernel.hidden[0], "bias", None),
        lambda layer: setattr(layer.kernel.hidden, "1", torch.nn.Linear(32, 16)),
    ],
    ids=["kernel", "ω₀", "features", "bias", "size"],
)
def test_a_kernel_of_another_kind_is_computed_by_its_layer(change):
    made = spoiled(lambda layer: None)
    assert [known.phi is None for known in made.values()] == [True, False, False]
    assert all(known.phi is None for known in spoiled(change).values())


def test_densities_drawn_together_are_those_drawn_one_by_one():
    torch.manual_seed(0)
    densities = [learned(SE2(), 4, theta=theta) for theta in (0.2, 0.9, 1.0)] + [haar(SE2(), 6)]
    densities[1].sample = lambda: densities[0].draw()  # a density with a way of its own
    torch.manual_seed(1)
    drawn = together.sample_together(densities)
    torch.manual_seed(1)
    expected = [densities[i].draw() for i in (0, 2)]
    for mine, theirs in zip((drawn[0], drawn[2]), expected, strict=True):
        torch.testing.assert_close(mine.matrices, theirs.matrices, rtol=1e-14, atol=1e-14)
        assert mine.group == theirs.group
    assert [len(elements) for elements in drawn] == [4, 4, 4, 6]
    assert not drawn[3].matrices.requires_grad
    for density in densities:
        density.eval().proportional = True
    assert [len(elements) for elements in together.sample_together([densities[0], densities[2]])] == [1, 4]


def test_one_theta_is_used_ahead_as_well():
    net = GResNet("SE2", **SMALL, samples=4)
    with one_theta(net):
        net(torch.randn(2, 1, 12, 12)).sum().backward()
        assert all(d.shared is not None for d in net.modules() if hasattr(d, "shared"))
    assert all(p.grad is not None for name, p in net.named_parameters() if name.endswith("raw"))


def test_nothing_outlives_the_signals():
    """No cycle of references holds the graph of a step until Python's collector runs."""
    net = GResNet("SE2", **SMALL, samples=4)
    gc.disable()
    try:
        f = net.features(torch.randn(2, 1, 12, 12))
        held = [weakref.ref(f.values), weakref.ref(f.elements), weakref.ref(next(iter(f.elements.ahead.values())).into)]
        assert all(reference() is not None for reference in held)
        del f
        assert all(reference() is None for reference in held)
    finally:
        gc.enable()


class Halves(torch.nn.Module):
    """A part of one's own, without convolutions."""

    def forward(self, f):
        return f.map(lambda values: values / 2)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *(("GResNet", "block1"), ("GCNN13", "convs.1"), ("basic", "stages.1.0"), ("preactivated", "stages.1.0")),
        *(("GUNet", "down.1"), ("GConvNeXt", "stages.1.0"), ("GConvNeXt", "stages.1.0.conv")),
    ],
)
def test_a_network_with_a_part_of_ones_own_computes_the_same(name, part, monkeypatch):
    torch.manual_seed(0)
    net = NETWORKS[name]("SE2", samples=4).eval()
    *path, last = part.split(".")
    part = Halves()
    part.shortcut = part.convs = None
    if last == "conv":
        part.forward = lambda f, elements: f.map(lambda values: values / 2)
    setattr(net.get_submodule(".".join(path)), last, part)
    mine = found(net)
    one_by_one(monkeypatch)
    torch.testing.assert_close(mine, found(net), rtol=1e-9, atol=1e-9)
