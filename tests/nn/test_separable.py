"""The separable group convolution is a group convolution whose kernel is a product."""

import pytest
import torch
from helpers import SAMPLES, density, few, random_signal, siren
from networks import assert_frozen, of, shaken
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import partialsym as ps
from partialsym import GroupConv, SeparableGroupConv, Signal, group
from partialsym.kernels import Kernel
from partialsym.nn.frozen import FrozenSpatialConv
from partialsym.regularization import kernel_norm
from partialsym.testing import assert_equivariant

OPTIONS = [{}, {"stride": 2}, {"stride": 2, "padding_mode": "reflect"}, {"dilation": 2}, {"padding": "valid"}]


def separable(name="E2", kind="learned", *, into=3, channels=4, **options):
    options = {"kernel_size": 5, "kernel": siren(), **options}
    return SeparableGroupConv(into, channels, codomain=density(name, kind), **options).eval()


class Product(Kernel):
    """s_c(x)·k_ci(0, h), of the two kernels of a separable layer."""

    def __init__(self, layer):
        super().__init__(2, 4, 3, hidden=1)
        self.layer = layer

    def features(self, z):
        position = self.layer.spatial.kernel(z[..., :2])  # [*, out, 1]
        inner = torch.cat([torch.zeros_like(z[..., :2]), z[..., 2:]], -1)
        return (position * self.layer.pointwise.kernel(inner)).flatten(-2)

    def last(self, phi):
        return torch.eye(12), torch.zeros(12)

    def rescale(self, factor):
        pass


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_is_a_group_convolution_with_a_kernel_that_is_a_product(options, float64):
    layer, f = shaken(separable(**options)), random_signal("E2", size=9)
    whole = GroupConv(
        3, 4, codomain=density("E2", "learned"), kernel_size=5, kernel=lambda *_: Product(layer), **options
    )
    whole.bias = layer.spatial.bias
    out = layer(f)
    torch.testing.assert_close(whole(f, elements=out.elements).values, out.values)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", OPTIONS[:2], ids=str)
@pytest.mark.parametrize("name", few(SAMPLES, "T2", "E2", "D4"))
def test_it_is_equivariant(name, options, training, float64):
    lift = SeparableGroupConv(
        2, 3, domain=group("T2"), codomain=density(name), kernel_size=3, kernel=siren(), padding_mode="reflect"
    )
    net = shaken(nn.Sequential(lift, ps.ReLU(), separable(name, **options))).train(training)
    for size in ((9, 9), (10, 11)):
        assert_equivariant(net, torch.randn(1, 2, *size), group(name))


def test_a_kernel_that_does_not_turn_with_its_element_is_not(monkeypatch, float64):
    layer = separable("E2")
    monkeypatch.setattr(layer.spatial, "_coordinates", lambda h: layer.spatial.taps.expand(len(h), -1, -1))
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_equivariant(layer, random_signal("E2"), group("E2"))


def test_lifting_sees_directions(float64):
    """Pointwise first: the other way round the plane's kernel would be the same for every element."""
    layer = SeparableGroupConv(1, 2, domain=group("T2"), codomain=density("C4"), kernel_size=3).eval()
    values = layer(torch.randn(1, 1, 5, 5)).values
    assert not torch.allclose(values[:, :, 0], values[:, :, 1])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_converted_it_is_two_plain_convolutions(options, float64):
    net = nn.Sequential(separable(**options), ps.BatchNorm(4), ps.ReLU(), ps.GlobalPool("mean"))
    f = random_signal("E2", size=10)

    class OnImages(nn.Module):
        def __init__(self):
            super().__init__()
            self.lift = SeparableGroupConv(1, 3, domain=group("T2"), codomain=density("E2"), kernel_size=3)
            self.net = net

        def forward(self, images):
            return self.net(self.lift(images))

    frozen = assert_frozen(shaken(OnImages()), torch.randn(2, 1, 11, 12), example=torch.randn(1, 1, 12, 12))
    assert len(of(FrozenSpatialConv, frozen)) == 2
    assert not of(Kernel, frozen)
    assert not of(ps.BatchNorm, frozen)  # it is folded into the depthwise one
    alone = ps.to_conv2d(separable(**options), f)
    with pytest.raises(ValueError, match="on 1 elements, but this layer was frozen for 4"):
        alone.spatial(Signal(torch.zeros(1, 4, 1, 9, 9), ps.Elements(f.group, f.elements.matrices[:1])))


def test_shared_draws_and_gradients(float64):
    layer, f = separable(), random_signal("E2", channels=4)
    other = SeparableGroupConv(4, 4, codomain=group("E2"), kernel_size=3, kernel=siren())
    first = separable(into=4)
    out = first(f)
    total = out + other(f, elements=out.elements)
    (total.values.square().sum() + kernel_norm(nn.ModuleList([first, other]))).backward()
    for module in (first, other):
        assert all(p.grad is not None for name, p in module.named_parameters() if "codomain" not in name)
    assert layer.spatial.bias is not None
    assert first.pointwise.bias is None


@pytest.mark.parametrize("name", ["D4", "T2"])
def test_it_starts_at_the_scale_of_a_group_convolution(name, float64):
    layer = separable(name, "haar", channels=16, bias=False)
    assert float(layer.spatial.kernel_norm().detach()) == pytest.approx(4)
    assert float(layer.pointwise.kernel_norm().detach()) == pytest.approx(4)


def test_it_is_the_cheap_one():
    f = random_signal("E2", channels=8, size=16)
    counts = []
    for cls in (GroupConv, SeparableGroupConv):
        layer = cls(8, 8, codomain=density("E2"), kernel_size=5, kernel=siren()).eval()
        with FlopCounterMode(display=False) as counter:
            layer(f)
        counts.append(counter.get_total_flops())
    assert counts[1] < 0.25 * counts[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_it_computes_in_the_dtype_of_its_input(dtype):
    layer, f = separable(), random_signal("E2")
    if dtype == torch.bfloat16:
        with torch.autocast("cpu", dtype=dtype):
            out = layer(f).values
        torch.testing.assert_close(out.float(), layer(f).values, rtol=0.1, atol=0.1)
    else:
        out = layer.double()(Signal(f.values.double(), f.elements)).values
    assert out.dtype == dtype


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, "kernel_size is 4: must be odd"),
        ({"stride": 0}, "stride is 0: must be at least 1"),
        ({"padding_mode": "mirror"}, "padding_mode is 'mirror'"),
        ({"padding": "full"}, "padding is 'full'"),
    ],
)
def test_what_is_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        separable(**options)


def test_images_smaller_than_a_valid_kernel_are_refused():
    f = Signal(torch.zeros(1, 3, 8, 3, 9), random_signal("E2").elements)
    with pytest.raises(ValueError, match="3×9 pixels is smaller than the 5×5 kernel"):
        separable(padding="valid")(f)
