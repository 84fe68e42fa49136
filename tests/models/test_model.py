"""The ResNet: shapes, randomness, sizes, errors, precision and gradients, for every group."""

from itertools import combinations, product

import pytest
import torch
from helpers import KINDS, SAMPLES, few, perturbed, taken
from torch import nn

from partialsym import BatchNorm, GlobalPool, GResNet, GroupConv, InstanceNorm, Signal, SpatialPool
from partialsym.models.gresnet import PLACES
from partialsym.registry import KERNELS

NETS = few([(name, partial) for name in SAMPLES for partial in (False, True)], *KINDS)
DRAWING = {net for net in product(SAMPLES, (False, True)) if net[0] in ("SE2", "E2") or (net[1] and net[0] != "T2")}


def resnet(name="SE2", **options):
    settings = {"samples": SAMPLES[name], "width": 3, "hidden": 4, "kernel_size": 3, "num_classes": 5, **options}
    return GResNet(name, **settings)


def images(height=16, width=16, batch=2, channels=1):
    return torch.randn(batch, channels, height, width)


@pytest.mark.parametrize(("name", "partial"), NETS)
def test_it_runs_on_every_group(name, partial):
    net = resnet(name, partial=partial, in_channels=2)
    x = images(15, 18, batch=3, channels=2)
    assert net(x).shape == (3, 5)
    f = net.features(x)
    assert f.values.shape == (3, 6, SAMPLES[name], 2, 3)
    assert f.group.name == name
    first, second = net(x), net(x)
    assert torch.equal(first, second) == ((name, partial) not in DRAWING)
    net.eval()
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize(("name", "partial"), NETS)
def test_gradients_are_finite_everywhere(name, partial):
    net = resnet(name, partial=partial)
    net(images()).square().sum().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        sees_the_origin_alone = name == "T2" and key.endswith("shortcut.kernel.hidden.0.weight")
        if ("kernel" in key or "classifier" in key) and not sees_the_origin_alone:
            assert parameter.grad.any(), key


@pytest.mark.parametrize(("name", "partial"), NETS)
def test_the_state_dict_is_the_same_in_train_and_eval_mode_and_before_and_after_a_pass(name, partial):
    net = resnet(name, partial=partial)
    keys = list(net.state_dict())
    net(images())
    assert list(net.state_dict()) == keys
    net.eval()(images())
    assert list(net.state_dict()) == keys
    twin = resnet(name, partial=partial)
    twin.load_state_dict(net.state_dict())
    x = images()
    assert torch.equal(twin.eval()(x), net(x))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("name", "partial"), NETS)
def test_forward_leaves_nothing_behind(name, partial, training):
    net = resnet(name, partial=partial, dropout=0.1).train(training)

    def state():
        return {name: {k: id(v) for k, v in vars(module).items()} for name, module in net.named_modules()}

    def buffers():
        return {name: set(module._buffers) for name, module in net.named_modules()}

    before, tensors, held = state(), {k: v.clone() for k, v in net.state_dict().items()}, buffers()
    net(images())
    assert state() == before
    assert buffers() == held
    changed = {k.split(".")[-1] for k, v in net.state_dict().items() if not torch.equal(v, tensors[k])}
    assert changed == ({"running_mean", "running_var", "num_batches"} if training else set())


def test_on_the_plane_partial_is_plain():
    torch.manual_seed(1)
    partial = resnet("T2", partial=True)
    torch.manual_seed(1)
    plain = resnet("T2", partial=False)
    assert [k for k, _ in partial.named_parameters()] == [k for k, _ in plain.named_parameters()]
    assert not [k for k, _ in partial.named_parameters() if "codomain" in k]
    x = images()
    assert torch.equal(partial(x), plain(x))


def test_the_size_is_the_papers_but_for_what_is_known():
    """The authors' counts come out exactly, if an angle is one number to their kernels (ours see cosine and sine), a
    shortcut sees no position, and T(2) is SE(2) with one element and no convolution on the shortcut of block 1."""

    def size(net):
        return sum(p.numel() for p in net.parameters())

    def full(name, samples):
        return GResNet(name, partial=False, samples=samples)

    convolutions, shortcuts, hidden, half = 5, 2, 32, 16
    known = convolutions * hidden + shortcuts * half * 3
    rotations = full("SE2", 8)
    assert size(rotations) - known == 467_786
    assert size(rotations) - known - (size(rotations.block1.shortcut) - half * 3) == 450_074
    assert size(GResNet("E2", samples=8)) - known == pytest.approx(467_991, abs=5)
    angle = convolutions * hidden - half  # as if the kernels saw one, and block 2's shortcut it alone
    plane = full("T2", 1)
    assert size(plane) - size(plane.block1.shortcut) + angle == 450_074


def test_partial_learns_every_density_but_those_of_lifting_and_shortcuts():
    learned = {k.rsplit(".codomain", 1)[0] for k, _ in resnet("E2").named_parameters() if "codomain" in k}
    assert learned == {"block1.conv1", "block1.conv2", "block2.conv1", "block2.conv2", "last"}
    assert not [k for k, _ in resnet("E2", partial=False).named_parameters() if "codomain" in k]


@pytest.mark.parametrize("pools", [places for n in range(4) for places in combinations(PLACES, n)])
def test_pools_are_taken_where_named(pools):
    net = resnet(pools=pools).eval()
    side = 24 // 2 ** len(pools) - 2
    assert net.features(images(24, 24)).values.shape[-2:] == (side, side)


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_can_be_named(kernel):
    net = resnet(kernel=kernel, kernel_options=taken(KERNELS[kernel], layers=2))
    assert all(type(m.kernel) is KERNELS[kernel] for m in net.modules() if isinstance(m, GroupConv))
    assert net(images()).isfinite().all()


def test_dropout_is_active_in_train_mode_alone():
    x = images()
    quiet, dropping = resnet("T2"), resnet("T2", dropout=0.5)
    assert torch.equal(quiet(x), quiet(x))
    assert not torch.equal(dropping(x), dropping(x))
    assert torch.equal(dropping.eval()(x), dropping(x))


@pytest.mark.parametrize("proportional", [False, True])
def test_proportional_takes_fewer_elements_in_eval_mode(proportional):
    net = resnet(samples=8, proportional=proportional)
    net.last.codomain.algebra.raw.data.fill_(0.5)
    assert net.features(images()).values.shape[2] == 8
    assert net.eval().features(images()).values.shape[2] == (4 if proportional else 8)


ERRORS = [
    ({"name": "SE3"}, "'SE3'"),
    ({"in_channels": 0}, "in_channels is 0"),
    ({"num_classes": -1}, "num_classes is -1"),
    ({"width": -1}, "width is -1"),
    ({"hidden": 0}, "hidden is 0"),
    ({"kernel": "CNN"}, "kernel is 'CNN'.*SIREN"),
    ({"kernel_size": 4}, "kernel_size is 4"),
    ({"pools": ("lifting", "last")}, "pools contains 'last'"),
    ({"dropout": 1.0}, r"dropout is 1\.0"),
    ({"dropout": -0.1}, r"dropout is -0\.1"),
    ({"sampling": "halton"}, "sampling is 'halton'"),
    ({"samples": 0}, "got 0"),
    ({"name": "E2", "samples": 5}, "multiple of 2, got 5"),
    ({"name": "D4", "samples": 4}, "must be 8, got 4"),
    ({"kernel_options": {"omega0": 0.0}}, r"omega0 is 0\.0"),
]


@pytest.mark.parametrize(("options", "quoted"), ERRORS)
def test_errors_quote_the_value(options, quoted):
    name = options.get("name", "SE2")
    settings = {"samples": SAMPLES.get(name, 4), **{k: v for k, v in options.items() if k != "name"}}
    with pytest.raises(ValueError, match=quoted):
        GResNet(name, **settings)


def test_wrong_images_are_refused():
    with pytest.raises(ValueError, match="has 3 channels, but this layer expects 1"):
        resnet()(images(channels=3))
    with pytest.raises(ValueError, match="smaller than the 3×3 kernel"):
        resnet()(images(8, 8))


@pytest.mark.parametrize("name", ["T2", "Mirror", "SE2", "E2", "D4"])
def test_bfloat16_autocast_agrees_layer_by_layer(name):
    """Each layer under autocast, given the float32 run's input: its own error, relative L2 at most 2e-2.

    End to end is not asked for: a BatchNorm of channels whose mean is many deviations passes on what the rounded
    convolution before it left.
    """
    net = perturbed(resnet(name, width=16, hidden=16, kernel_size=5)).eval()
    layers = [
        m for m in net.modules() if isinstance(m, GroupConv | BatchNorm | InstanceNorm | SpatialPool | GlobalPool)
    ]
    calls = []

    def record(layer, args, kwargs, out):
        calls.append((layer, args, kwargs, out))

    handles = [layer.register_forward_hook(record, with_kwargs=True) for layer in [*layers, net.classifier]]
    with torch.no_grad():
        net(images(24, 24, batch=4))
        for handle in handles:
            handle.remove()
        assert len(calls) == len(layers) + 1
        for layer, args, kwargs, exact in calls:
            with torch.autocast("cpu", torch.bfloat16):
                out = layer(*args, **kwargs)
            exact, out = (f.values if isinstance(f, Signal) else f for f in (exact, out))
            assert exact.dtype == torch.float32
            if isinstance(layer, GroupConv | nn.Linear):
                assert out.dtype == torch.bfloat16
            assert float((out.float() - exact).norm() / exact.norm()) <= 2e-2, type(layer).__name__


@pytest.mark.long
@pytest.mark.parametrize("training", [False, True])
def test_gradcheck_of_a_whole_network(training, float64):
    """Towards every parameter, θ included, at one draw of the elements."""
    net = perturbed(resnet(width=1, hidden=2, samples=2, num_classes=2, pools=("lifting",))).train(training)
    for key, parameter in net.named_parameters():
        if key.endswith("raw"):
            parameter.data.fill_(0.6)
    x = images(8, 8)
    keys = [key for key, _ in net.named_parameters()]

    def run(*parameters):
        torch.manual_seed(0)
        return torch.func.functional_call(net, dict(zip(keys, parameters, strict=True)), x)

    assert torch.autograd.gradcheck(run, tuple(net.parameters()))


@pytest.mark.parametrize("name", ["T2", "SE2"])
def test_images_smaller_than_the_kernel_are_refused(name):
    net = GResNet(name, width=2, hidden=4)
    with pytest.raises(ValueError, match="the images of 6×28 pixels are smaller than the 7×7 kernel"):
        net(torch.zeros(1, 1, 6, 28))
