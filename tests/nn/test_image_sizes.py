"""A full network is invariant to every symmetry of the pixel grid that its group has, at every size of the images."""

import itertools
import logging

import pytest
import torch
from helpers import SAMPLES, few, perturbed
from torch.nn import functional as F

from partialsym import GCNN13, GResNet, Signal, exact_symmetries, group, recalibrate
from partialsym.ask import caveats
from partialsym.ask.methods import METHODS, Shape, methods
from partialsym.config import ModelConfig
from partialsym.models.dense_twin import dense_twin
from partialsym.models.gresnet import PLACES
from partialsym.nn.pool import pool2d
from partialsym.testing import equivariance_error, grid_symmetries, transform
from partialsym.training.fit import build_model, inexact

GROUPS = [name for name in SAMPLES if name != "T2"]
POOLS = [places for n in range(4) for places in itertools.combinations(PLACES, n)]
FEW = [(14, 14), (15, 15), (17, 17), (33, 33), (9, 14)]
ALL = [(side, side) for side in (*range(3, 65), 75, 96, 100, 150, 224)] + [(9, 14), (15, 21), (28, 33), (50, 75)]
QUARTER = grid_symmetries()[1]


def small(cls, name, **options):
    """A full network off its start, with statistics of its own."""
    torch.manual_seed(0)
    settings = {"samples": SAMPLES[name], "width": 3, "hidden": 3, "kernel_size": 3, "num_classes": 4}
    net = perturbed(cls(name, partial=False, **settings | options))
    recalibrate(net, [torch.randn(4, net.in_channels, 24, 24)])
    return net.eval()


def smallest(net):
    """The least side of a square that the network takes."""
    for side in range(1, 65):
        try:
            net(torch.zeros(1, net.in_channels, side, side))
        except ValueError:
            continue
        return side
    raise AssertionError("it takes no size up to 64")


def assert_invariant(net, name, sizes):
    """Exactly invariant to what maps the grid to itself; not to a turn of another grid, and no constant."""
    least = smallest(net)
    assert any(min(size) >= least for size in sizes)
    for height, width in {(least, least), *(size for size in sizes if min(size) >= least)}:
        x = torch.randn(1, net.in_channels, height, width)
        tested = [g for g in grid_symmetries(group(name))[1:] if height == width or g[0, 1] == 0]
        with torch.no_grad():
            answers = net(torch.cat([x, *(transform(x, g) for g in tested), torch.randn_like(x)]))
        away = (answers - answers[0]).abs().amax(1) / answers[0].abs().max()
        assert away[:-1].max() < 1e-10, (height, width)
        assert away[-1] > 1e-6
        assert len(exact_symmetries(net, (height, width))) == len(tested)


def networks(name, pools):
    yield from (small(GResNet, name, pools=places) for places in pools)
    yield small(GCNN13, name, width=4)


def asked(size):
    """The full networks of `ask` for images of that size, each with its group."""
    found = {}
    for asked_about in METHODS:
        for title, config in methods(asked_about, Shape(size, 1, 3), 3).items():
            if not config.partial and config.group != "T2":
                found[title] = config
    for config in found.values():
        torch.manual_seed(0)
        yield perturbed(build_model(config, 1, 3)).eval(), config.group


@pytest.mark.usefixtures("float64")
class TestFullNetworks:
    @pytest.mark.parametrize("name", few(GROUPS, "Mirror", "SE2", "E2", "D4"))
    def test_are_invariant_at_odd_and_even_sizes(self, name):
        for net in networks(name, POOLS[4:5]):
            assert_invariant(net, name, FEW)

    @pytest.mark.long
    @pytest.mark.parametrize("name", GROUPS)
    def test_are_invariant_at_every_size(self, name):
        for net in networks(name, POOLS):
            assert_invariant(net, name, ALL)

    @pytest.mark.parametrize("size", [(9, 9), (15, 15), (26, 26)])
    def test_of_a_question_are_invariant(self, size):
        for net, name in asked(size):
            assert_invariant(net, name, [size])

    @pytest.mark.long
    @pytest.mark.parametrize("size", [size for size in ALL if min(size) > 4])
    def test_of_a_question_are_invariant_at_every_size(self, size):
        for net, name in asked(size):
            assert_invariant(net, name, [size])

    @pytest.mark.parametrize("side", [15, 30, 33, 50])
    def test_that_drop_a_row_are_not(self, side, monkeypatch):
        net, x = small(GResNet, "SE2"), torch.randn(1, 1, side, side)
        assert equivariance_error(net, x, QUARTER, transport=False) < 1e-10
        monkeypatch.setattr("partialsym.nn.pool.pool2d", lambda x, size, mode: F.max_pool2d(x, size))
        assert equivariance_error(net, x, QUARTER, transport=False) > 1e-3


@pytest.mark.parametrize("mode", ["max", "mean"])
def test_even_sizes_are_pooled_by_torchs_own_windows(mode):
    x = torch.randn(2, 3, 8, 12)
    expected = F.max_pool2d(x, 2) if mode == "max" else F.avg_pool2d(x, 2)
    assert torch.equal(pool2d(x, 2, mode), expected)


@pytest.mark.parametrize("size", [(15, 15), (17, 30)])
@pytest.mark.parametrize("cls", [GResNet, GCNN13])
def test_the_dense_twin_pools_alike(cls, size):
    net = small(cls, "SE2")
    shapes = []
    for model in (net, dense_twin(net)):
        conv = model.last if cls is GResNet else model.convs["8" if model is net else 8]
        conv.register_forward_hook(
            lambda _m, _a, out: shapes.append((out.values if isinstance(out, Signal) else out).shape[-2:])
        )
        model.eval()(torch.randn(1, 1, *size))
    assert shapes[0] == shapes[1]


def test_the_exact_symmetries_are_those_of_elements_head_and_image():
    def of(name, size=(15, 15), **options):
        return exact_symmetries(small(GResNet, name, **options), size)

    assert of("SE2") == ["90°", "180°", "270°"]
    assert of("SE2", (15, 20)) == ["180°"]
    assert of("SE2", samples=6) == ["180°"]
    assert of("SE2", samples=5) == []
    assert of("E2") == ["90°", "180°", "270°", "m", "90°·m", "180°·m", "270°·m"]
    assert of("E2", (15, 20)) == ["180°", "m", "180°·m"]
    assert of("D6") == ["180°", "m", "180°·m"]
    assert of("Mirror") == ["m"]
    for head in ("plane", "linear"):
        assert of("SE2", head=head) == []
    partial = GResNet("E2", width=2, hidden=2, kernel_size=3)
    assert len(exact_symmetries(partial, (15, 15))) == 7  # at the start it keeps everything
    with torch.no_grad():
        partial.last.codomain.component.logits.fill_(-1)
    assert exact_symmetries(partial, (15, 15)) == ["90°", "180°", "270°"]
    with torch.no_grad():
        partial.last.codomain.algebra.raw.fill_(0.5)
    assert exact_symmetries(partial, (15, 15)) == []


@pytest.mark.parametrize(
    ("settings", "size", "why"),
    [
        ({"group": "SE2"}, (15, 15), None),
        ({"group": "SE2"}, (15, 20), "invariant to 90°, 270°: images of 15×20 pixels are not square"),
        ({"group": "Mirror"}, (15, 20), None),
        ({"group": "E2", "samples": 12}, (15, 15), "the symmetry does not permute its 12 elements"),
        ({"group": "SE2", "head": "plane"}, (15, 15), "to 90°, 180°, 270°: the head 'plane' breaks the symmetry"),
        ({"group": "SE2", "partial": True}, (15, 20), None),
        ({"group": "T2"}, (15, 20), None),
        ({"group": "D4", "network": "CNN13"}, (16, 20), "images of 16×20 pixels are not square"),
    ],
)
def test_what_cannot_be_exact_is_said(settings, size, why):
    config = ModelConfig(**{"partial": False, "width": 2, "hidden": 2, "kernel_size": 3, **settings})
    said = inexact(config, build_model(config, 1, 2), size)
    assert said == "" if why is None else why in said


def test_a_question_on_images_that_are_not_square_says_so(caplog):
    caplog.set_level(logging.INFO)
    assert caveats("E2", Shape((16, 16), 1, 2)) == []
    assert [text.split(" is ")[0] for text in caveats("E2", Shape((16, 20), 1, 2))] == [
        "the full network of SE2",
        "the full network of E2",
    ]
