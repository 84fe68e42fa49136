"""The networks for images of any size: their laws, what they share with plain networks, and that they come back."""

from contextlib import nullcontext

import pytest
import torch
from helpers import SAMPLES, few, perturbed
from networks import assert_frozen, of, shaken, shapes
from torch import nn
from torch.nn import functional as F

import partialsym as ps
from partialsym import config as c
from partialsym.ask.methods import Shape, methods
from partialsym.measure import learned_subsets
from partialsym.models.convnext import ChannelLinear
from partialsym.models.dense_twin import OnChannels, dense_twin
from partialsym.models.staged import StagedBlock
from partialsym.profiling import Step, operations, peak_memory
from partialsym.registry import DENSE_NETWORKS, NETWORKS, PRESETS, network_defaults
from partialsym.testing import assert_equivariant, equivariance_error, grid_symmetries
from partialsym.training.fit import build_model

TINY = {"width": 2, "hidden": 2, "in_channels": 2, "num_classes": 3}
KINDS = {  # every class and every kind of block and stem, at few blocks
    "basic": ("gresnet18", {"blocks": (2, 1)}),
    "bottleneck": ("gresnet50_cifar", {"blocks": (2, 1)}),
    "wide": ("gwrn16_4", {"blocks": (2, 1), "stem_width": 3}),
    "separable": ("gconvnext", {"blocks": (1, 1), "stem_stride": 2}),
    "unet": ("gunet", {"levels": 3, "width": 3}),
}
SIZES = [(8, 8), (7, 7), (6, 9)]
QUARTER, MIRROR = grid_symmetries()[1], grid_symmetries()[4]


def made(kind, name="SE2", **options):
    """A small network of a kind, off its start, with statistics of its own, so that no layer is dead."""
    preset, settings = KINDS[kind]
    given = {"samples": SAMPLES[name], **TINY, **settings, **options}
    net = shaken(ps.models.create(preset, group=name, **given))
    ps.recalibrate(net, [torch.randn(4, given["in_channels"], 8, 8)])
    return net


def images(*size, batch=2):
    return torch.randn(batch, 2, *size)


def alive(net, x):
    """The images, after asserting that the answers to two of them differ."""
    with torch.no_grad():
        answers = net(x)
    assert (answers[0] - answers[1]).abs().max() > 1e-3 * answers.abs().max()
    return x


@pytest.mark.parametrize("training", few([True, False], True))
@pytest.mark.parametrize(
    ("kind", "name"), few([(k, n) for k in KINDS for n in SAMPLES], *((k, "E2") for k in ("basic", "unet")))
)
def test_networks_are_equivariant_with_their_elements(kind, name, training, float64):
    net = made(kind, name).train(training)
    for size in SIZES:
        assert_equivariant(net, alive(net, images(*size)), ps.group(name), atol=1e-10)


@pytest.mark.parametrize(("kind", "name"), few([(k, n) for k in KINDS for n in SAMPLES], *((k, "D4") for k in KINDS)))
def test_full_networks_are_equivariant_as_they_are(kind, name, float64):
    net = made(kind, name, partial=False)
    for size in SIZES:
        inside = [g for g in grid_symmetries(ps.group(name)) if size[0] == size[1] or g[0, 1] == 0]
        assert_equivariant(net, alive(net, images(*size)), torch.stack(inside), atol=1e-10, transport=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "g"), [("SE2", MIRROR), ("T2", QUARTER)])
def test_they_are_not_equivariant_to_what_their_group_lacks(kind, name, g, float64):
    assert equivariance_error(made(kind, name, partial=False), images(8, 8), g, transport=False) > 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_partial_networks_are_not_equivariant_below_theta_one(kind, float64):
    net = made(kind, "SE2", samples=4)
    assert ps.exact_symmetries(net, (8, 8)) == []
    assert equivariance_error(net, images(8, 8), QUARTER, transport=False) > 1e-5


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("separable", "unet")])
def test_strides_that_start_at_the_first_pixel_break_it(kind, float64, monkeypatch):
    net, x = made(kind, "SE2", partial=False), images(8, 8)
    assert equivariance_error(net, x, QUARTER, transport=False) < 1e-10
    monkeypatch.setattr("partialsym.nn.conv.sampled", lambda x, reach, *_: (x, reach))  # as torch's own
    assert equivariance_error(net, x, QUARTER, transport=False) > 1e-5


class Repeat(nn.Module):
    def forward(self, f, size):
        return ps.Signal(F.interpolate(f.values.flatten(1, 2), size).unflatten(1, f.values.shape[1:3]), f.elements)


def test_pixels_repeated_from_the_corner_break_it(float64):
    """As torch's nearest interpolation repeats them, where a side is odd."""
    net, x = made("unet", "SE2", partial=False), images(7, 7)
    assert equivariance_error(net, x, QUARTER, transport=False) < 1e-10
    net.up = Repeat()
    assert equivariance_error(net, x, QUARTER, transport=False) > 1e-5


def test_in_float32_a_u_net_goes_along_to_rounding():
    """Sizes that no power of two divides, four levels, all symmetries of the square."""
    torch.manual_seed(0)
    net = ps.models.create("gunet", group="E2", samples=8, partial=False, width=3, hidden=4, in_channels=2).eval()
    for side in (13, 18):
        x = alive(net, images(side, side))
        assert_equivariant(net, x, grid_symmetries()[[1, 4, 7]], atol=1e-5, transport=False)


@pytest.mark.parametrize("kind", KINDS)
def test_on_the_plane_they_are_plain_networks(kind, float64):
    """Frozen, the network on T(2) holds convolutions and nothing of a group; every image is its own."""
    net = made(kind, "T2")
    frozen = assert_frozen(net, images(7, 8), example=images(7, 8))
    assert all(len(m.matrices) == 1 for m in frozen.modules() if hasattr(m, "matrices"))
    x = images(7, 8, batch=3)
    torch.testing.assert_close(net(x)[1:2], net(x[1:2]))


@pytest.mark.parametrize("kind", KINDS)
def test_partial_networks_are_frozen_and_exported(kind, float64):
    assert_frozen(made(kind, "E2"), images(7, 8), example=images(7, 8))


@pytest.mark.parametrize("kind", KINDS)
def test_they_come_back_from_disk(kind, tmp_path):
    net, x = made(kind, "E2"), images(9, 12)
    net.train()(x)
    ps.save_model(net, tmp_path)
    again, record = ps.load_model(tmp_path)
    assert record["model"] == type(net).__name__
    assert again.settings == net.settings
    assert torch.equal(again(x), net.eval()(x))


@pytest.mark.parametrize("kind", KINDS)
def test_every_density_and_parameter_learns(kind):
    net = made(kind, "E2").train()
    net(images(8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    learned = [name for name, m in net.named_modules() if isinstance(m, ps.Density) and list(m.parameters())]
    assert learned
    rows = {row["layer"]: row for row in learned_subsets(net)}
    assert {name.removesuffix(".codomain") for name in learned} <= rows.keys()
    assert rows["lifting"]["theta_deg"] == 180


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_elements_alone_are_learned_where_asked(kind):
    net = made(kind, "SE2", learned_layers="last")
    (name,) = [name for name, m in net.named_modules() if isinstance(m, ps.Density) and list(m.parameters())]
    f = net.features(images(8, 8))
    layer = net.get_submodule(name.removesuffix(".codomain"))
    torch.testing.assert_close(f.elements.matrices, layer.codomain.deterministic().matrices)
    assert not made(kind, "SE2", partial=False).train()(images(9, 9)).isnan().any()


@pytest.mark.parametrize("kind", KINDS)
def test_as_backbones_they_give_features(kind):
    net = made(kind, num_classes=0)
    f, out = net.features(images(8, 7)), net(images(8, 7))
    assert f.values.shape[:3] == (2, net.num_features, 4)
    assert out.shape == ((2, net.num_features, 8, 7) if kind == "unet" else (2, net.num_features))
    net.classifier = nn.Linear(net.num_features, 7)
    assert net(images(8, 7)).shape[1] == 7


def test_the_papers_networks_are_backbones_too():
    for name in ("ResNet", "CNN13"):
        net = ps.models.create(name, width=2, hidden=2, kernel_size=3, num_classes=0, samples=4)
        assert net(torch.randn(2, 1, 16, 16)).shape == (2, net.num_features)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [1, 2])
def test_images_may_be_as_small_as_a_pixel(kind, side):
    assert made(kind)(images(side, side)).isfinite().all()


# Memory


@pytest.mark.parametrize("kind", KINDS)
def test_computing_again_gives_the_same_gradients_statistics_and_random_numbers(kind, float64):
    """Bit for bit, with dropout and drawn elements."""
    found, x = [], images(7, 8)
    for checkpoint in (False, True):
        torch.manual_seed(1)
        net = made(kind, "E2", checkpoint=checkpoint, dropout=0.3).train()
        torch.manual_seed(2)
        out = net(x)
        out.square().sum().backward()
        assert {int(norm.num_batches) for norm in of(ps.BatchNorm, net)} == {2}  # one of `made`
        found.append([out, *(p.grad for p in net.parameters()), *net.buffers(), torch.get_rng_state()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_without_the_care_for_statistics_they_would_count_twice(monkeypatch):
    monkeypatch.setattr("partialsym.models.backbone._statistics_left_alone", lambda block: nullcontext())
    net = made("basic", checkpoint=True).train()
    net(images(8, 8)).square().sum().backward()
    assert {int(norm.num_batches) for norm in of(ps.BatchNorm, net)} == {2, 3}


@pytest.mark.long
def test_computing_again_takes_less_memory_and_more_operations():
    found = []
    for checkpoint in (False, True):
        net = ps.models.create("gresnet18_cifar", samples=4, checkpoint=checkpoint, **TINY).train()
        step = Step(net, images(16, 16, batch=4), torch.tensor([0, 1, 2, 0]))
        found.append((peak_memory(step), operations(step)))
    (memory, work), (less, more) = found
    assert less < 0.7 * memory
    assert 1.2 * work < more < 1.5 * work


# Names


def test_presets_are_made_by_name():
    names = ps.models.list_models()
    assert {"ResNet", "CNN13", "gunet", *PRESETS} <= set(names)
    with torch.device("meta"):
        nets = {name: ps.models.create(name, group="SE2", samples=4) for name in (*PRESETS, "gunet")}
    count = {name: len(of(StagedBlock, net)) for name, net in nets.items()}
    assert [count[name] for name in ("gresnet18", "gresnet34", "gresnet50", "gresnet18_cifar")] == [8, 16, 16, 8]
    for name, net in nets.items():
        assert net.settings["group"] == "SE2"
        known = {key: net.settings[key] for key in ("width", "kernel_size", "hidden", "dropout")}
        assert name in DENSE_NETWORKS or network_defaults(name) == known


@pytest.mark.parametrize(
    ("name", "parameters"), [("gresnet18", 11.7), ("gresnet34", 21.8), ("gwrn16_4", 2.7), ("gwrn28_10", 36.5)]
)
def test_a_preset_has_about_the_parameters_of_the_plain_network_it_is_named_after(name, parameters):
    """Millions, as published for 1,000 classes on ImageNet, and 10 on CIFAR."""
    with torch.device("meta"):
        net = ps.models.create(name, samples=4, num_classes=1000 if "resnet" in name else 10)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(parameters, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_dense_twin_has_the_same_convolutions(kind):
    net = made(kind)
    twin = dense_twin(net)
    assert not of(ps.GroupConv, twin)
    assert not of(ps.BatchNorm, twin)
    assert not of(ChannelLinear, twin)
    x = images(8, 8)
    assert twin(x).shape == net(x).shape
    ours, theirs = shapes(net, ps.GroupConv, x), shapes(twin, OnChannels, x)
    assert all(shape in theirs for shape in ours)
    twin(x).sum().backward()
    assert all(p.grad is not None for p in twin.parameters())


def test_a_deeper_network_of_the_paper():
    shallow, deep = (ps.GResNet("SE2", samples=4, width=2, hidden=2, kernel_size=3, depth=d) for d in (1, 2))
    assert not hasattr(shallow.block1, "0")
    assert len(of(ps.GroupConv, deep)) == len(of(ps.GroupConv, shallow)) + 6
    x = torch.randn(2, 1, 16, 16)
    assert dense_twin(deep)(x).shape == deep(x).shape
    assert sorted(shapes(deep, ps.GroupConv, x)) == sorted(shapes(dense_twin(deep), nn.Conv2d, x))
    model = c.ModelConfig("SE2", samples=4, width=2, hidden=2, kernel_size=3, options={"depth": 2})
    assert len(of(ps.GroupConv, build_model(model, 1, 2))) == len(of(ps.GroupConv, deep))


def test_a_deeper_network_of_the_paper_is_invariant(float64):
    net = perturbed(ps.GResNet("E2", samples=8, partial=False, width=2, hidden=2, kernel_size=3, depth=2)).eval()
    assert_equivariant(net, torch.randn(2, 1, 13, 13), ps.E2(), atol=1e-10, transport=False)


def test_configs_and_questions_take_presets():
    model = c.ModelConfig("SE2", network="gresnet18_cifar", samples=4, width=2, options={"blocks": [1, 1]})
    net = build_model(model, 3, 5)
    assert net.settings["stem"] == "cifar"
    assert net.settings["num_classes"] == 5
    assert c.ModelConfig(network="gwrn28_10").complete().width == 160
    asked = methods("SE2", Shape((32, 32), 3, 4), 8, "gconvnext_cifar")
    assert {m.kernel_size for m in asked.values()} == {None}
    assert {m.width for m in asked.values()} == {8}
    assert {m.kernel_size for m in methods("SE2", Shape((32, 32), 3, 4), 8, "ResNet").values()} == {5}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ps.models.create("gresnet19"), r"name is 'gresnet19': must be one of .*Did you mean 'gresnet18'\?"),
        (
            lambda: ps.models.create("gresnet18", sample=4),
            r"gresnet18 has no setting 'sample'.*Did you mean 'samples'\?",
        ),
        (lambda: ps.models.create("gresnet18", samples=4, num_classes=-1), "num_classes is -1: must be at least 0"),
        (lambda: ps.models.create("gresnet18", width=0), "width is 0: must be at least 1"),
        (lambda: ps.models.create("gresnet18", blocks=2), r"blocks is 2: must be one number of blocks per stage"),
        (lambda: ps.models.create("gresnet18", blocks=(2, 0)), "blocks is 0: must be at least 1"),
        (lambda: ps.models.create("gresnet18", block="wide"), "block is 'wide': must be one of basic, bottleneck"),
        (lambda: ps.models.create("gresnet18", stem="stl"), "stem is 'stl': must be one of imagenet, cifar"),
        (lambda: ps.models.create("gresnet18", dropout=1.0), r"dropout is 1\.0: must be in \[0, 1\)"),
        (lambda: ps.models.create("gresnet18", kernel_size=4), "kernel_size is 4: must be odd"),
        (lambda: ps.models.create("gconvnext", stem_stride=0), "stem_stride is 0: must be at least 1"),
        (lambda: ps.models.create("gunet", levels=0), "levels is 0: must be at least 1"),
        (lambda: ps.models.create("gunet", mode="sum"), "mode is 'sum': must be 'max' or 'mean'"),
        (lambda: ps.GResNet(depth=0), "depth is 0: must be at least 1"),
        (
            lambda: c.ModelConfig(network="gunet"),
            "model.network is 'gunet': must be a network with one answer per image",
        ),
        (lambda: c.ModelConfig(network="gresnet18", head="plane"), "model.head is 'plane': must be left out"),
        (lambda: made("basic")(torch.randn(1, 3, 8, 8)), "the input has 3 channels, but this layer expects 2"),
        (lambda: made("unet")(torch.randn(2, 8, 8)), r"images has shape \(2, 8, 8\): must be \[batch"),
    ],
)
def test_what_is_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_registered_network_is_made_by_name_too(monkeypatch):
    monkeypatch.setattr(NETWORKS, "_held", dict(NETWORKS._held))

    @ps.register_network("Pixels")
    class Pixels(nn.Module):
        def __init__(self, *, scale=1.0):
            super().__init__()
            self.scale = scale

    assert ps.models.create("Pixels", scale=2.0).scale == 2
    with pytest.raises(ValueError, match="Pixels has no setting 'group': must be one of scale"):
        ps.models.create("Pixels", group="SE2")
