"""Which dtypes a network takes: its own, any of 32 bits or fewer under autocast, and a clear refusal of all others."""

from dataclasses import replace
from functools import partial
from itertools import product

import pytest
import torch
from helpers import SAMPLES, few, group_conv, random_signal, siren
from torch import nn

from partialsym import GCNN13, Augerino, GResNet, GroupConv, GroupPool, Signal, dirac, group, haar
from partialsym.warp import warp

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
CLOSE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 1e-1}
REFUSED = r"the input is torch\.\w+, but this layer is torch\.\w+: convert one of them"


def net(name, cls=GResNet, **rest):
    torch.manual_seed(0)
    settings = {"samples": SAMPLES[name], "width": 3, "hidden": 4, "kernel_size": 3, "num_classes": 3}
    return cls(name, **settings | rest).eval()


def augerino(name, **rest):
    torch.manual_seed(0)
    return Augerino(net("T2", **rest), name, copies=SAMPLES[name]).eval()


def images(channels=1):
    return torch.randn(2, channels, 10, 10)


def off(found, expected):
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@torch.no_grad()
@pytest.mark.parametrize("name", SAMPLES)
def test_a_network_takes_images_of_its_own_dtype_alone(name):
    x = images()
    expected = net(name).double()(x.double())
    for own in DTYPES:
        model = net(name).to(own)
        for given in DTYPES:
            if given == own:
                found = model(x.to(given))
                assert found.dtype == own
                assert off(found, expected) < CLOSE[own] + 1e-6
            else:
                with pytest.raises(ValueError, match=REFUSED):
                    model(x.to(given))


@pytest.mark.parametrize(
    ("name", "low"),
    few(
        list(product(SAMPLES, DTYPES[2:])),
        *((name, torch.bfloat16) for name in ("T2", "Mirror", "SE2", "E2", "D4")),
        ("E2", torch.float16),
    ),
)
def test_under_autocast_it_takes_images_of_any_dtype_up_to_its_own(name, low):
    x = images()
    expected = net(name)(x).detach()
    for given in DTYPES[1:]:
        model = net(name)
        with torch.autocast("cpu", low):
            found = model(x.to(given))
        assert off(found.detach(), expected) < CLOSE[low]
        found.float().square().mean().backward()
        assert all(p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None)
    with torch.autocast("cpu", low), pytest.raises(ValueError, match=REFUSED):
        net(name)(x.double())
    model = net(name).double()
    with torch.autocast("cpu", low), torch.no_grad():  # which leaves float64 alone, as torch's layers do
        assert off(model.features(x.double()).values, net(name).double().features(x.double()).values) < 1e-12


@pytest.mark.parametrize(("own", "low"), [DTYPES[2:], DTYPES[:1:-1]])
def test_a_layer_of_the_other_16_bits_than_autocast_is_refused(own, low):
    assert {own, low} == {torch.float16, torch.bfloat16}
    with torch.autocast("cpu", low), pytest.raises(ValueError, match=f"layer is {own}, under autocast to {low}"):
        net("E2").to(own)(images().to(own))


@torch.no_grad()
@pytest.mark.parametrize("make", [partial(net, cls=GCNN13), augerino], ids=["GCNN13", "Augerino"])
def test_the_other_networks_do_as_well(make):
    for name in ("SE2", "E2"):
        x = images()
        expected = make(name)(x)
        for low in (torch.float16, torch.bfloat16):
            assert off(make(name).to(low)(x.to(low)), expected) < CLOSE[low]
            with torch.autocast("cpu", low):
                assert off(make(name)(x.to(low)), expected) < CLOSE[low]
            with pytest.raises(ValueError, match=REFUSED):
                make(name)(x.to(low))


class Mixed(nn.Module):
    """Layers of torch before, between and after group convolutions."""

    def __init__(self, name):
        super().__init__()
        plane, h, n = group("T2"), group(name), SAMPLES[name]
        whole = {"codomain": haar(h, n), "kernel_size": 3, "kernel": siren(4)}
        self.stem, self.between = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(3, 2, 3, padding=1)
        self.lift, self.conv = GroupConv(4, 3, domain=plane, **whole), GroupConv(3, 3, domain=h, **whole)
        self.pool, self.again = GroupPool("max"), GroupConv(2, 2, domain=plane, **whole)
        self.project = GroupConv(2, 2, domain=h, codomain=dirac(plane), kernel_size=3, kernel=siren(4))

    def forward(self, x):
        f = self.pool(self.conv(self.lift(Signal.image(self.stem(x)))))
        return self.project(self.again(Signal.image(self.between(f.values[:, :, 0])))).values


@pytest.mark.parametrize("low", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", SAMPLES)
def test_layers_of_torch_may_stand_between_group_convolutions(name, low):
    torch.manual_seed(0)
    model, x = Mixed(name).eval(), images()
    expected = model(x)
    with torch.autocast("cpu", low):
        assert model.stem(x).dtype == low
        found = model(x)
    assert found.dtype == low
    assert off(found.detach(), expected.detach()) < CLOSE[low]
    found.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@torch.no_grad()
def test_elements_of_another_dtype_are_read_in_the_layers():
    conv, f = group_conv("SE2"), random_signal("SE2")
    expected = conv(f, elements=f.elements).values
    wide = replace(f.elements, matrices=f.elements.matrices.double())
    assert torch.equal(conv(Signal(f.values, wide), elements=wide).values, expected)


@torch.no_grad()
@pytest.mark.parametrize("low", [torch.float16, torch.bfloat16])
def test_a_large_image_of_16_bits_is_turned_as_one_of_32(low):
    """Positions in 16 bits would be off by pixels."""
    smooth = torch.linspace(-1, 1, 400).expand(1, 1, 400, 400)
    turn = torch.tensor([[[0.8, -0.6], [0.6, 0.8]]])
    found, expected = warp(smooth.to(low), turn.to(low)), warp(smooth.to(low).float(), turn.to(low).float())
    assert found.dtype == low
    assert float((found.float() - expected).abs().max()) <= torch.finfo(low).eps
