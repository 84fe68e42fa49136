"""Strides, dilations, groups of channels and what lies over the border: exact at every size, and as defined."""

import copy
import itertools

import pytest
import torch
from helpers import density, few, group_conv, random_signal, siren
from networks import assert_frozen, shaken
from torch import nn
from torch.nn import functional as F

import partialsym as ps
from partialsym import Elements, GroupConv, Signal, SpatialPool, group
from partialsym.nn.grid import first_place
from partialsym.testing import assert_equivariant, equivariance_error, grid_symmetries, transform

pytestmark = pytest.mark.usefixtures("float64")
MODES = ["zeros", "reflect", "replicate", "circular"]
OPTIONS = [
    {"stride": 2},
    {"stride": 3},
    {"stride": 4, "size": 1},
    {"dilation": 2},
    {"groups": 3},
    {"groups": 3, "stride": 2, "dilation": 2, "size": 5, "padding_mode": "reflect"},
    {"stride": 2, "padding": "valid"},
    {"stride": 3, "dilation": 2, "padding": "valid"},
    *({"padding_mode": mode} for mode in MODES[1:]),
    *({"padding_mode": mode, "stride": 3, "size": 5} for mode in MODES),
]
SIDES = {"small": range(2, 20), "large": range(20, 41)}  # whole periods of every stride


def layer(name="E2", kind="learned", **options):
    return group_conv(name, kind, **{"channels": 6, **options}).eval()


def signal_of(height, width, name="E2", channels=3):
    f = random_signal(name, batch=1, channels=channels, size=1)
    return Signal(torch.randn(1, channels, len(f.elements), height, width), f.elements)


def assert_exact(module, f):
    """Under every symmetry of the grid; quarter turns swap the sides."""
    assert_equivariant(module, f, f.group)


@pytest.mark.parametrize("path", few(["dense", "factored", "spectral"], "factored"))
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_layers_with_options_are_equivariant_at_odd_and_even_sizes(options, path):
    module = layer(path=path, **options)
    for height, width in ((9, 9), (10, 10), (9, 10), (11, 14)):
        assert_exact(module, signal_of(height, width))


@pytest.mark.parametrize(
    ("path", "sides"), few(list(itertools.product(["dense", "factored", "spectral"], SIDES)), ("dense", "small"))
)
@pytest.mark.parametrize(("stride", "size"), [(2, 1), (2, 3), (3, 3), (4, 5)])
def test_strides_are_exact_at_every_size(stride, size, path, sides):
    """On D4, whose elements are all the symmetries of the grid: one pass and all its turns."""
    conv = GroupConv(
        1, 1, codomain=ps.haar(group("D4"), 8), kernel_size=size, stride=stride, kernel=siren(3), path=path
    )
    conv.eval()
    for side in SIDES[sides]:
        f = signal_of(side, side + side % 3, "D4", 1)
        for g in (grid_symmetries()[1], grid_symmetries()[4]):
            assert equivariance_error(conv, f, g) < 1e-12
        assert conv(f).values.shape[-2:] == SpatialPool(stride)(f).values.shape[-2:]


def test_torchs_stride_is_not_exact_at_an_even_side():
    """The negative control: it starts at the first pixel. At an odd side it is symmetric."""
    conv = nn.Conv2d(1, 1, 3, stride=2, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[1.0, 2, 1], [2, 5, 2], [1, 2, 1]]))  # as symmetric as the grid
    for g in grid_symmetries()[1:]:
        assert equivariance_error(conv, torch.randn(1, 1, 9, 9), g) < 1e-12
    assert max(equivariance_error(conv, torch.randn(1, 1, 8, 8), g) for g in grid_symmetries()) > 0.1


def test_a_layer_that_strides_as_torch_does_is_not_exact(monkeypatch):
    conv, f = layer(stride=2), signal_of(8, 8)
    assert_exact(conv, f)
    monkeypatch.setattr("partialsym.nn.conv.sampled", lambda x, reach, *_: (x, reach))
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_exact(conv, f)


def test_places_are_symmetric_and_those_of_the_pool():
    for side, stride in itertools.product(range(1, 60), range(1, 7)):
        first, between = first_place(side, stride)
        count = -(-side // stride)
        places = [first + between / 2 + stride * i for i in range(count)]
        assert [side - 1 - place for place in reversed(places)] == places
        assert places[0] >= 0
        ramp = torch.arange(side, dtype=torch.float64)[None, None, :, None].expand(1, 1, side, stride)
        middle = ps.nn.pool.pool2d(ramp, stride, "mean")[0, 0, :, 0].tolist()
        inner = slice(1, -1)  # windows at the border are cut
        assert middle[inner] == pytest.approx(places[inner])


def filters_of(conv, f):
    """The plain filters, and the conv's output elements."""
    out = conv.codomain.sample()
    return conv.filters(out, f.elements), out


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_stride_keeps_the_outputs_at_its_places(size, side):
    """Independently: convolve everywhere, between pixels on the mean of neighbours, and take what is at the places."""
    conv, f = layer(stride=2, size=size), signal_of(side, side)
    filters, out = filters_of(conv, f)
    x, reach = F.pad(f.values.flatten(1, 2), [size // 2] * 4), size // 2
    if side % 2 == 0:
        x = (x[..., 1:, 1:] + x[..., :-1, 1:] + x[..., 1:, :-1] + x[..., :-1, :-1]) / 4
    expected = F.conv2d(x, filters)[..., ::2, ::2]
    assert expected.shape[-1] == (side + 1) // 2
    assert reach == conv.reach
    expected = expected.unflatten(1, (6, len(out))) + conv.bias[:, None, None, None]
    torch.testing.assert_close(conv(f).values, expected)


def test_at_odd_sizes_a_stride_of_two_is_torchs():
    conv, f = layer(stride=2), signal_of(9, 11)
    filters, out = filters_of(conv, f)
    expected = F.conv2d(f.values.flatten(1, 2), filters, stride=2, padding=1)
    torch.testing.assert_close(conv(f).values, expected.unflatten(1, (6, len(out))))  # the bias starts at 0


@pytest.mark.parametrize("mode", MODES[1:])
def test_what_lies_over_the_border_is_torchs(mode):
    conv, f = layer(size=5, padding_mode=mode), signal_of(7, 9)
    filters, out = filters_of(conv, f)
    plain = nn.Conv2d(3 * 8, 6 * len(out), 5, padding=2, padding_mode=mode, bias=False)
    plain.weight = nn.Parameter(filters)
    torch.testing.assert_close(conv(f).values, plain(f.values.flatten(1, 2)).unflatten(1, (6, len(out))))


def test_dilated_taps_lie_farther_apart():
    conv, f = layer(dilation=3), signal_of(12, 13)
    filters, out = filters_of(conv, f)
    expected = F.conv2d(f.values.flatten(1, 2), filters, padding=3, dilation=3)
    torch.testing.assert_close(conv(f).values, expected.unflatten(1, (6, len(out))))
    dense = copy.deepcopy(conv)
    dense.dilation = 1
    assert torch.equal(filters_of(dense, f)[0], filters)  # the kernel itself is the same
    valid = layer(dilation=3, padding="valid")
    assert valid(f).values.shape[-2:] == (6, 7)


@pytest.mark.parametrize("path", ["dense", "factored", "spectral"])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_groups_of_channels_do_not_see_each_other(groups, path):
    conv = GroupConv(4, 8, codomain=density("E2"), kernel_size=3, groups=groups, kernel=siren(), path=path).eval()
    f = signal_of(6, 7, channels=4)
    assert sum(p.numel() for p in conv.kernel.linear.parameters()) == 32 // groups * 9  # 8 features and a bias
    parts = []
    for i in range(groups):
        part = GroupConv(4 // groups, 8 // groups, codomain=density("E2"), kernel_size=3, kernel=siren()).eval()
        each = slice(i * 32 // groups**2, (i + 1) * 32 // groups**2)
        part.load_state_dict(
            {
                name: value[each]
                if "kernel.linear" in name
                else value[i * 8 // groups : (i + 1) * 8 // groups]
                if name == "bias"
                else value
                for name, value in conv.state_dict().items()
            }
        )
        x = Signal(f.values[:, i * 4 // groups : (i + 1) * 4 // groups], f.elements)
        parts.append(part(x).values)
    torch.testing.assert_close(conv(f).values, torch.cat(parts, 1))


@pytest.mark.parametrize("groups", [1, 3])
def test_the_kernel_starts_at_1_per_output_channel_whatever_the_groups(groups):
    conv = group_conv("D4", channels=6, groups=groups, bias=False)
    assert float(conv.kernel_norm().detach()) == pytest.approx(6**0.5)


@pytest.mark.parametrize("path", ["dense", "factored", "spectral"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients_are_those_of_the_plain_convolution(options, path):
    """The conv's own backward pass, against torch's through the filters."""
    conv, f = layer(path=path, **options), signal_of(11, 8)
    wanted = [f.values.requires_grad_(), *conv.kernel.parameters()]
    out = conv(f)
    weight = torch.randn_like(out.values)
    got = torch.autograd.grad((out.values * weight).sum(), wanted)
    x, padding = conv.read(f.values.flatten(1, 2))
    filters, _ = filters_of(conv, f)
    plain = F.conv2d(x, filters, None, conv.stride, padding, conv.dilation, conv.groups)
    expected = torch.autograd.grad((plain.unflatten(1, (6, -1)) * weight).sum(), wanted)
    torch.testing.assert_close(plain.view_as(out.values), out.values)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


class Strided(nn.Module):
    """A network with every option, on images."""

    def __init__(self, options):
        super().__init__()
        lift = {**options, "groups": 1}
        size = lift.pop("size", 3)
        self.lift = GroupConv(1, 3, domain=group("T2"), codomain=density("E2", "learned"), kernel_size=size, **lift)
        self.norm, self.conv, self.pool = ps.BatchNorm(6), layer(**options), ps.GlobalPool()

    def forward(self, images):
        return self.pool(self.norm(self.conv(self.lift(images).map(F.relu))).map(F.relu))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_converted_layers_give_the_same_at_every_size(options):
    net = shaken(Strided(options))
    x = torch.randn(2, 1, 17, 18)
    frozen = assert_frozen(net, x, example=torch.randn(1, 1, 17, 17))
    for size in ((18, 18), (20, 17), (21, 23)):
        x = torch.randn(1, 1, *size)
        torch.testing.assert_close(frozen(x), net(x))


@pytest.mark.parametrize("options", few(OPTIONS[:1] + OPTIONS[5:6], OPTIONS[5]), ids=str)
def test_converted_layers_are_exported(options):
    net = ps.to_conv2d(shaken(Strided(options)), torch.randn(1, 1, 18, 18))
    x = torch.randn(3, 1, 18, 18)
    program = torch.export.export(net, (x[:2],), dynamic_shapes={"images": {0: torch.export.Dim("batch")}})
    torch.testing.assert_close(program.module()(x), net(x))


def test_images_of_the_plain_twin_are_plain():
    """On T(2) a layer is torch's own, but for where a stride looks."""
    t2 = group("T2")
    conv = GroupConv(4, 6, codomain=ps.dirac(t2), kernel_size=3, stride=2, groups=2, padding_mode="replicate")
    out = conv(torch.randn(2, 4, 9, 9))
    assert out.values.shape == (2, 6, 1, 5, 5)
    assert out.group == t2


def test_a_layer_maps_over_images_with_options():
    conv, f = layer(stride=2, groups=3), signal_of(8, 9)
    values = torch.randn(3, *f.values.shape)
    mapped = torch.func.vmap(lambda v: conv(Signal(v, f.elements)).values)(values)
    torch.testing.assert_close(mapped[1], conv(Signal(values[1], f.elements)).values)


def test_transported_elements_are_what_makes_it_exact():
    """The control of these checks: on other elements than the transported ones a strided layer is not equivariant."""
    conv, f, g = layer("SE2", stride=2), signal_of(8, 8, "SE2"), grid_symmetries()[1]
    at = Elements(f.group, group("SE2").exp(torch.tensor([[0.3], [1.0]])))
    moved = conv(transform(f, g), elements=at.transport(g)).values
    torch.testing.assert_close(moved, transform(conv(f, elements=at).values, g))
    assert not torch.allclose(conv(transform(f, g), elements=at).values, transform(conv(f, elements=at).values, g))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 0}, "stride is 0: must be at least 1"),
        ({"dilation": 0}, "dilation is 0: must be at least 1"),
        ({"groups": 0}, "groups is 0: must be at least 1"),
        ({"groups": 2}, "groups is 2: must be a divisor of in_channels, which is 3"),
        ({"groups": 3, "channels": 4}, "groups is 3: must be a divisor of out_channels, which is 4"),
        ({"padding_mode": "mirror"}, "padding_mode is 'mirror': must be one of zeros, reflect, replicate, circular"),
        ({"padding_mode": "reflect", "padding": "valid"}, "padding is 'valid', which pads nothing"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        layer(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": "valid", "dilation": 3}, "5×9 pixels is smaller than the 7×7 kernel"),
        ({"padding_mode": "reflect", "dilation": 5}, "too small for 'reflect' padding of 5: must be at least 6×6"),
        ({"padding_mode": "circular", "dilation": 6}, "too small for 'circular' padding of 6: must be at least 6×6"),
    ],
)
def test_images_that_are_too_small_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        layer(**options)(signal_of(5, 9))


def test_the_options_are_shown():
    shown = repr(layer(stride=2, groups=3, padding_mode="reflect")).splitlines()[1].strip()
    assert shown == "3, 6, E2 → E2, kernel_size=3, stride=2, groups=3, padding_mode=reflect"
