"""What a network computes for all its layers together is what each layer would compute for itself."""

import gc
import weakref

import pytest
import torch
from helpers import SAMPLES
from torch import nn
from torch.nn.utils import parametrize

from partialsym import E2, GCNN3, GCNN13, SE2, T2, GConvNeXt, GResNet, GStagedResNet, GUNet, Mirror, haar, learned
from partialsym.densities import one_theta, together
from partialsym.kernels import MLP
from partialsym.models import convnext, gcnn3, gcnn13, gresnet, staged, unet
from partialsym.nn.conv import GroupConv
from partialsym.nn.precompute import Link, chain, precompute
from partialsym.signal import Elements, Signal

pytestmark = pytest.mark.usefixtures("float64")
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
OF_NETWORKS = (convnext, gcnn3, gcnn13, gresnet, staged, unet)


def one_by_one(monkeypatch):
    for module in OF_NETWORKS:
        monkeypatch.setattr(module, "precompute", lambda network, f, links: f)


def images(batch=2, size=16):
    return torch.linspace(-1, 2, batch * size * size).sin().view(batch, 1, size, size)


def found(net, seed=1):
    """Output and gradients, with the elements of a seed."""
    net.zero_grad()
    torch.manual_seed(seed)
    out = net(images())
    (out * torch.arange(out.numel()).view(out.shape).cos()).sum().backward()
    return {"out": out.detach(), **{name: p.grad for name, p in net.named_parameters()}}


def assert_same(mine, theirs):
    assert mine.keys() == theirs.keys()
    for key, value in theirs.items():
        if value is None:
            assert mine[key] is None, key
        else:
            atol = 1e-10 * max(1, float(value.abs().max()))
            torch.testing.assert_close(mine[key], value, rtol=1e-9, atol=atol, msg=f"{key} differs")


def shaken(net):
    with torch.no_grad():
        for parameter in net.parameters():  # θ and P as well
            parameter += 0.05 * torch.randn_like(parameter) if parameter.ndim else -0.3
    return net


def counted(monkeypatch):
    """For each call of a GroupConv, whether it used what was precomputed."""
    calls, asked = [], GroupConv._precomputed

    def _precomputed(self, into, out):
        known = asked(self, into, out)
        calls.append(known is not None)
        return known

    monkeypatch.setattr(GroupConv, "_precomputed", _precomputed)
    return calls


@pytest.mark.parametrize("training", [True, False], ids=["drawn", "deterministic"])
@pytest.mark.parametrize("group", ["SE2", "E2", "T2", "Mirror"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_computes_the_same_with_and_without(name, group, training, monkeypatch):
    net = shaken(NETWORKS[name](group, samples=SAMPLES[group]).train(training))
    calls = counted(monkeypatch)
    mine = found(net)
    assert calls
    assert all(calls)
    one_by_one(monkeypatch)
    calls.clear()
    theirs = found(net)
    assert not any(calls)
    assert_same(mine, theirs)


@pytest.mark.parametrize("sampling", ["iid", "systematic"])
def test_with_layers_of_several_kinds_too(sampling, monkeypatch):
    net = shaken(GResNet("E2", **SMALL, samples=8, sampling=sampling))
    net.block1.conv2.codomain = haar(E2(), 4, sampling=sampling)
    net.block2.conv1.kernel = MLP(5, 4, 2)
    net.block2.conv1.codomain.eval()
    mine = found(net)
    one_by_one(monkeypatch)
    assert_same(mine, found(net))


def layers():
    lifting = GroupConv(1, 2, domain=T2(), codomain=haar(SE2(), 4), kernel_size=3)
    return [lifting, *(GroupConv(2, 2, codomain=learned(SE2(), 4), kernel_size=3) for _ in range(2))]


def made(given, links=None):
    """The images, with what layers in a chain need."""
    return precompute(nn.ModuleList(given), images(size=6), chain(*given) if links is None else links)


def test_a_layer_called_on_other_elements_computes_for_itself():
    one, two, three = layers()
    f = one(made([one, two, three]))
    assert two._precomputed(f.elements, None) is not None
    moved = f.elements.transport(SE2().exp(torch.tensor([0.3])))
    assert two._precomputed(moved, None) is None  # what it reads
    assert two._precomputed(f.elements, moved) is None  # where it maps to
    assert three._precomputed(f.elements, None) is None  # made for what `two` draws
    for into, out in [(moved, two.codomain.draw()), (f.elements, moved)]:
        expected = two(Signal(f.values, Elements(into.group, into.matrices)), elements=out)
        torch.testing.assert_close(two(Signal(f.values, into), elements=out).values, expected.values, rtol=0, atol=0)


def test_a_wrong_link_costs_time_and_changes_nothing():
    one, two, three = (layer.eval() for layer in layers())
    expected = three(two(one(images(size=6)))).values
    f = made([one, two, three], [*chain(one), Link(two, two, three), Link(three, one, two)])
    torch.testing.assert_close(three(two(one(f))).values, expected, rtol=1e-12, atol=1e-12)


def test_constants_of_each_layer_count():
    one, two, three = (layer.eval() for layer in layers())
    three.taps.mul_(0.9)
    f = made([one, two, three])
    expected = three(two(one(images(size=6)))).values
    torch.testing.assert_close(three(two(one(f))).values, expected, rtol=1e-12, atol=1e-12)


class Noisy(nn.Module):
    """A part of one's own that calls a block of ours with other parameters than it has."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, f):
        changed = {name: 1.5 * p for name, p in self.block.named_parameters()}
        return torch.func.functional_call(self.block, changed, (f,))


class Alone(Noisy):
    """A part of one's own that is not trained."""

    def forward(self, f):
        with torch.no_grad():
            return self.block.eval()(f)


def scaled(layer):
    parametrize.register_parametrization(layer.kernel.hidden[0], "weight", torch.nn.Identity())


def hook(*_):
    return None


CHANGES = {
    "a part that changes parameters": lambda net: setattr(net, "block1", Noisy(net.block1)),
    "a part without gradients": lambda net: setattr(net, "block1", Alone(net.block1)),
    "a hook of a block": lambda net: net.block1.register_forward_pre_hook(hook),
    "a hook of a layer": lambda net: net.last.register_forward_hook(hook),
    "a hook of a kernel": lambda net: net.last.kernel.linear.register_forward_hook(hook),
    "a hook of a density": lambda net: net.last.codomain.register_forward_hook(hook),
    "a hook of a norm": lambda net: net.norm0.register_full_backward_hook(hook),
    "a compiled layer": lambda net: setattr(net.last, "_compiled_call_impl", net.last.forward),
    "a class of one's own": lambda net: setattr(net.last, "__class__", type("Own", (GroupConv,), {})),
    "a layer's method": lambda net: setattr(net.last, "factored_kernel", net.last.factored_kernel),
    "a block's method": lambda net: setattr(net.block1, "forward", net.block1.forward),
    "a norm's method": lambda net: setattr(net.norm1, "forward", net.norm1.forward),
    "no density": lambda net: setattr(net.last, "codomain", None),
    "statistics of processes": lambda net: setattr(net.last.codomain.algebra, "all_reduce", hook),
    "another dtype": lambda net: net.last.float(),
    "another device": lambda net: net.last.to("meta"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_precomputed_where_something_could_see_or_change_a_layer(change):
    net = GResNet("SE2", **SMALL, samples=4)
    links = net._links()
    assert isinstance(precompute(net, images(), links), Signal)
    CHANGES[change](net)
    if change.startswith("a class"):
        net.last.__class__.__module__ = "mine"
    given = images()
    assert precompute(net, given, links) is given


def test_frozen_layers_need_no_gradients(monkeypatch):
    """A gradient that reaches them through what they share with trained ones would cost a whole backward pass."""
    net = GResNet("SE2", **SMALL, samples=4).requires_grad_(False)
    net.last.requires_grad_(True)
    seen = []
    known = precompute(net, images(), net._links()).elements.precomputed
    for layer, of in known.items():
        seen.append((layer is net.last, of.out.matrices.requires_grad, of.phi is not None and of.phi.requires_grad))
    assert [row for row in seen if any(row)] == [(True, True, False)]  # its features are its own
    mine = found(net)
    one_by_one(monkeypatch)
    assert_same(mine, found(net))


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("GResNet", lambda net: net.block1.__setitem__(3, net.block1[0])),
        ("GCNN13", lambda net: net.convs.__setitem__("8", net.convs["3"])),
        ("GConvNeXt", lambda net: net.stages["2"].__setitem__(1, net.stages["2"][0])),
    ],
)
def test_a_layer_used_twice_draws_twice(name, again, monkeypatch):
    net = NETWORKS[name]("SE2", samples=4)
    again(net)
    mine = found(net)
    one_by_one(monkeypatch)
    assert_same(mine, found(net))


def test_a_theta_of_another_dtype_changes_no_other():
    densities = [learned(SE2(), 4).float() for _ in range(2)]
    densities[0].algebra.double()
    assert [e.matrices.dtype for e in together.sample_together(densities)] == 2 * [torch.float32]


def test_parts_of_ones_own_work_as_before(monkeypatch):
    for change in ("a part that changes parameters", "a part without gradients"):
        net = shaken(GResNet("SE2", **SMALL, samples=4).eval())
        CHANGES[change](net)
        mine = found(net)
        one_by_one(monkeypatch)
        assert_same(mine, found(net))


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: setattr(layer, "kernel", MLP(4, 2, 2)),
        lambda layer: setattr(layer.kernel, "omega0", 5.0),
        lambda layer: setattr(layer.kernel, "features", lambda z: z),
        lambda layer: setattr(layer.kernel.hidden[0], "bias", None),
        lambda layer: setattr(layer.kernel.hidden, "1", nn.Linear(32, 16)),
        scaled,
    ],
    ids=["kernel", "ω₀", "features", "bias", "size", "parametrised"],
)
def test_a_kernel_of_another_kind_is_computed_by_its_layer(change):
    one, two, three = layers()
    known = made([one, two, three]).elements.precomputed
    assert [known[layer].phi is None for layer in (one, two, three)] == [True, False, False]
    change(two)
    f = made([one, two, three])
    assert not isinstance(f, Signal) or all(k.phi is None for k in f.elements.precomputed.values())


def test_a_parametrisation_is_evaluated_once(monkeypatch):
    """Also one that counts or changes something each time, such as spectral_norm."""
    calls = []

    class Counted(nn.Module):
        def forward(self, weight):
            calls.append(1)
            return weight

    net = GResNet("SE2", **SMALL, samples=4)
    parametrize.register_parametrization(net.last.kernel.hidden[0], "weight", Counted())
    calls.clear()
    net(images())
    mine = len(calls)
    one_by_one(monkeypatch)
    calls.clear()
    net(images())
    assert mine == len(calls) > 0


def test_features_too_large_to_be_held_are_left_to_the_layers(monkeypatch):
    one, two, three = layers()
    assert made([one, two, three]).elements.precomputed[two].phi is not None
    monkeypatch.setattr("partialsym.nn.precompute.HELD", 2 * 4 * 4 * 9 * 32 * 8 - 1)
    assert made([one, two, three]).elements.precomputed[two].phi is None
    monkeypatch.setattr("partialsym.nn.precompute.HELD", 2 * 4 * 4 * 9 * 32 * 8)
    assert made([one, two, three]).elements.precomputed[two].phi is not None


def test_densities_drawn_together_are_those_drawn_one_by_one():
    densities = [learned(E2(), 4, theta=theta) for theta in (0.2, 0.9, 1.0)] + [haar(SE2(), 6), haar(Mirror(), 2)]
    densities += [learned(E2(), 4, sampling="iid"), haar(SE2(), 6)]
    first = densities[0]
    densities[1].sample = lambda: first.draw()  # a density with a way of its own
    for training in (True, False):
        for density in densities:
            density.train(training)
        torch.manual_seed(1)
        drawn = together.sample_together(densities)
        torch.manual_seed(1)
        for mine, theirs in zip(drawn, [density.sample() for density in densities], strict=True):
            torch.testing.assert_close(mine.matrices, theirs.matrices, rtol=1e-14, atol=1e-14)
            torch.testing.assert_close(mine.weights, theirs.weights, rtol=0, atol=0)
            assert (mine.group, mine.tied) == (theirs.group, theirs.tied)
            assert mine.matrices.requires_grad == theirs.matrices.requires_grad
    for density in densities:
        density.proportional = True
    assert [len(elements) for elements in together.sample_together([densities[0], densities[2]])] == [2, 4]


def test_one_theta_is_used_as_well():
    net = GResNet("SE2", **SMALL, samples=4)
    with one_theta(net):
        net(images()).sum().backward()
    assert all(p.grad is not None for name, p in net.named_parameters() if name.endswith("raw"))


@pytest.mark.parametrize("name", NETWORKS)
def test_what_leaves_a_network_holds_nothing_of_it(name):
    net = NETWORKS[name]("SE2", samples=4)
    f = net.features(images())
    assert f.elements.precomputed is None
    gc.disable()
    try:
        held = weakref.ref(f.values)
        del f
        assert held() is None  # no cycle of references keeps the graph of a step until Python's collector runs
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["basic", "GUNet", "GConvNeXt"])
def test_networks_accept_signals_and_stems_of_ones_own(name):
    net = NETWORKS[name]("SE2", samples=4).eval()
    x = images()
    torch.testing.assert_close(net(Signal.image(x)), net(x), rtol=0, atol=0)
    net.lifting = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), net.lifting)
    net(x).sum().backward()
    with pytest.raises(TypeError, match="ndarray"):
        NETWORKS[name]("SE2", samples=4)(x.numpy())
