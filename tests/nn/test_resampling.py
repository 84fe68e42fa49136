"""Smaller and larger maps: exact under the grid's symmetries at every size, and where they are said to be."""

import pytest
import torch
from helpers import few, random_signal
from networks import assert_frozen, shaken
from torch import nn
from torch.nn import functional as F

import partialsym as ps
from partialsym import AdaptivePool, BlurPool, GroupConv, Signal, SpatialPool, Upsample, cat, group
from partialsym.testing import assert_equivariant, equivariance_error, grid_symmetries

pytestmark = pytest.mark.usefixtures("float64")
QUARTER, MIRROR = grid_symmetries()[1], grid_symmetries()[4]
SIDES = {"small": range(2, 20), "large": range(20, 41)}  # whole periods of every stride, scale and pair of sides


class Backwards(nn.Module):
    """Down and up to the size it had."""

    def __init__(self, down, up):
        super().__init__()
        self.down, self.up = down, up

    def forward(self, f):
        return self.up(self.down(f), size=f.values.shape[-2:])


def plane(values):
    """[h, w] as a Signal on T(2)."""
    return Signal.image(values[None, None])


def signal_of(height, width):
    f = random_signal("D4", batch=1, channels=2, size=1)
    return Signal(torch.randn(1, 2, 8, height, width), f.elements)


def centred(side, *, step=1.0):
    """Places of `side` pixels, `step` apart, about the centre."""
    return (torch.arange(side, dtype=torch.float64) - (side - 1) / 2) * step


LAYERS = [
    *(BlurPool(stride, size=size) for stride, size in ((1, 3), (2, 1), (2, 3), (2, 5), (3, 3), (4, 7))),
    *(Upsample(scale, mode) for scale in (1, 2, 3) for mode in ("nearest", "bilinear")),
    *(Backwards(SpatialPool(scale), Upsample(scale, mode)) for scale in (2, 3) for mode in ("nearest", "bilinear")),
    *(AdaptivePool(size, mode) for size in (1, 3, 4) for mode in ("max", "mean")),
]


@pytest.mark.parametrize("sides", few(SIDES, "small"))
@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_layers_are_exact_at_every_size(layer, sides):
    layer = layer.double()
    for side in SIDES[sides]:
        f = signal_of(side, side + side % 3)
        for g in (QUARTER, MIRROR):
            assert equivariance_error(layer, f, g) < 1e-12


class Torchs(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, f):
        return Signal(self.fn(f.values.flatten(1, 2)).unflatten(1, f.values.shape[1:3]), f.elements)


@pytest.mark.parametrize(
    ("fn", "size"),
    [
        (lambda x: x[..., ::2, ::2], 8),  # a subsampling that starts at the first pixel
        (lambda x: F.interpolate(x, size=(2 * x.shape[-1] - 1,) * 2, mode="nearest"), 8),
        (lambda x: F.pad(F.interpolate(x, scale_factor=2.0, mode="bilinear"), (0, -1, 0, -1)), 8),
    ],
)
def test_the_usual_ways_are_not(fn, size):
    assert equivariance_error(Torchs(fn), signal_of(size, size), QUARTER) > 0.1


@pytest.mark.parametrize("layer", LAYERS[:-6], ids=repr)
def test_a_constant_stays_what_it_is(layer):
    for size in ((5, 6), (9, 8)):
        out = layer.double()(plane(torch.ones(size)))
        torch.testing.assert_close(out.values, torch.ones_like(out.values))


@pytest.mark.parametrize("side", [6, 7, 9, 10])
@pytest.mark.parametrize("stride", [2, 3])
def test_a_ramp_stays_where_it_is(stride, side):
    """Linear functions are kept by every filter that is symmetric about its place: this pins the places down."""
    ramp = centred(12 * side)[:, None].expand(-1, 7)
    out = BlurPool(stride).double()(plane(ramp)).values[0, 0, 0, :, 0]
    expected = centred(len(out), step=stride)
    torch.testing.assert_close(out[2:-2], expected[2:-2])
    for size in range(stride * (side - 1) + 1, stride * side + 1):
        coarse = centred(side, step=stride)[:, None].expand(-1, 7)
        fine = Upsample(stride)(plane(coarse), size=(size, 7 * stride)).values[0, 0, 0, :, 0]
        inside = centred(size).abs() <= coarse.max()
        torch.testing.assert_close(fine[inside], centred(size)[inside])
        assert fine.max() == coarse.max()  # no farther than the pixels there are


def test_the_filters_are_binomial():
    impulse = torch.zeros(11, 11)
    impulse[5, 5] = 16
    line = torch.tensor([1.0, 2, 1])
    torch.testing.assert_close(BlurPool(1).double()(plane(impulse)).values[0, 0, 0, 4:7, 4:7], torch.outer(line, line))
    at = BlurPool(2).double()
    found = [at(plane(torch.eye(12)[i][:, None].expand(12, 12))).values[0, 0, 0, 2, 3] * 8 for i in range(12)]
    assert [round(float(tap)) for tap in found] == [0, 0, 0, 1, 3, 3, 1, 0, 0, 0, 0, 0]  # output 2 lies at pixel 4.5


def test_blurring_removes_what_a_coarser_grid_cannot_show():
    checks = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1
    assert BlurPool(2).double()(plane(checks)).values[..., 1:-1, 1:-1].abs().max() < 1e-12
    assert BlurPool(2).double()(plane(checks[:15, :15])).values[..., 1:-1, 1:-1].abs().max() < 1e-12
    assert checks[::2, ::2].abs().min() == 1


def test_whole_multiples_are_torchs_own():
    f = signal_of(7, 9)
    x = f.values.flatten(1, 2)
    nearest = F.interpolate(x, scale_factor=2, mode="nearest").unflatten(1, (2, 8))
    assert torch.equal(Upsample(2, "nearest")(f).values, nearest)
    bilinear = F.interpolate(x, scale_factor=3.0, mode="bilinear", align_corners=False).unflatten(1, (2, 8))
    torch.testing.assert_close(Upsample(3)(f).values, bilinear)
    odd = F.interpolate(x, size=(13, 17), mode="bilinear", align_corners=True).unflatten(1, (2, 8))
    torch.testing.assert_close(Upsample(2)(f, size=(13, 17)).values, odd)  # every second pixel is one of f's


def test_adaptive_pools_are_torchs_own():
    f = signal_of(7, 10)
    expected = F.adaptive_avg_pool2d(f.values.flatten(1, 2), 3).unflatten(1, (2, 8))
    assert torch.equal(AdaptivePool(3)(f).values, expected)
    whole = AdaptivePool(1, "max")(f)
    assert torch.equal(whole.values.flatten(2), f.values.amax((-2, -1)))


class UNet(nn.Module):
    """Two levels; the decoder lies on the encoder's draw, level by level."""

    def __init__(self, name="E2", partial=True):
        super().__init__()
        h = group(name)
        density = ps.learned if partial else ps.haar
        samples = 8 if name == "E2" else 4
        self.down1 = GroupConv(2, 4, domain=ps.T2(), codomain=ps.haar(h, samples), kernel_size=3)
        self.down2 = GroupConv(4, 4, codomain=density(h, samples), kernel_size=3, stride=2)
        self.deep = GroupConv(4, 6, codomain=density(h, samples), kernel_size=3, stride=2)
        self.up2 = GroupConv(6, 4, codomain=h, kernel_size=3)
        self.up1 = GroupConv(8, 4, codomain=h, kernel_size=3)
        self.act, self.up, self.head = ps.ReLU(), Upsample(2), nn.Conv2d(8, 3, 1)

    def forward(self, images):
        first = self.act(self.down1(images))
        second = self.act(self.down2(first))
        deep = self.act(self.deep(second))
        f = self.up2(self.up(deep, size=second.values.shape[-2:]), elements=second.elements)
        f = self.up1(self.up(cat([second, self.act(f)]), size=first.values.shape[-2:]), elements=first.elements)
        return self.head(ps.project(cat([first, self.act(f)])))


@pytest.mark.parametrize(
    "size",
    [(17, 17), (18, 18), (19, 22), *(pytest.param(size, marks=pytest.mark.long) for size in ((16, 16), (33, 33)))],
)
@pytest.mark.parametrize("partial", [True, False])
def test_a_u_net_is_exact_at_sizes_that_do_not_divide(partial, size):
    net = shaken(UNet(partial=partial))
    assert net(torch.randn(1, 2, *size)).shape == (1, 3, *size)
    assert_equivariant(net, torch.randn(1, 2, *size), group("E2"))
    if not partial and size[0] == size[1]:  # and by itself, on its own elements
        whole = shaken(UNet("C4", partial=False))
        assert_equivariant(whole, torch.randn(1, 2, *size), group("C4"), transport=False)


def test_a_u_net_is_converted():
    net, x = shaken(UNet()), torch.randn(2, 2, 18, 21)
    assert_frozen(net, x, example=torch.randn(1, 2, 16, 17))


def test_gradients_flow_through():
    net = nn.Sequential(BlurPool(2), Upsample(2), AdaptivePool(3), Upsample(3, "nearest")).double()
    images = torch.randn(1, 1, 7, 6, requires_grad=True)
    torch.autograd.gradcheck(lambda x: net(Signal.image(x)).values, images)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BlurPool(0), "stride is 0: must be at least 1"),
        (lambda: BlurPool(size=4), "size is 4: must be odd and positive"),
        (lambda: Upsample(0), "scale is 0: must be at least 1"),
        (lambda: Upsample(2, "cubic"), "mode is 'cubic': must be 'bilinear' or 'nearest'"),
        (lambda: AdaptivePool(0), "size is 0: must be at least 1"),
        (lambda: AdaptivePool(2, "sum"), "mode is 'sum': must be 'max' or 'mean'"),
        (
            lambda: Upsample(2)(signal_of(7, 7), size=(13, 15)),
            "side of 15 pixels for an input side of 7: must be from 13",
        ),
        (
            lambda: Upsample(3)(signal_of(7, 7), size=(18, 19)),
            "side of 18 pixels for an input side of 7: must be from 19",
        ),
    ],
)
def test_what_does_not_fit_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by dynamo itself
def test_a_u_net_is_compiled_as_one_graph(training):
    net, x = shaken(UNet("SE2")).train(training), torch.randn(2, 2, 11, 10)
    torch.manual_seed(0)
    expected = net(x)
    torch.manual_seed(0)
    found = torch.compile(net, backend="eager", fullgraph=True)(x)
    torch.testing.assert_close(found, expected)
