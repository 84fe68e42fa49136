"""Draws from a seed touch the generators of the devices that take part, and leave those as they were."""

import pytest
import torch
from helpers import density
from torch import nn

from partialsym import GResNet, monte_carlo, recalibrate
from partialsym._utils.seeding import devices_of, forked, seeded
from partialsym.testing import assert_density


class Gpus:
    """torch.cuda on a machine with eight of them, as far as generators go."""

    def __init__(self):
        self.states, self.touched = {i: f"before {i}" for i in range(8)}, set()

    def is_available(self):
        return True

    def device_count(self):
        return 8

    def get_rng_state(self, device):
        self.touched.add(device.index)
        return self.states[device.index]

    def set_rng_state(self, state, device):
        self.touched.add(device.index)
        self.states[device.index] = state


class Generator:
    def manual_seed(self, seed):
        self.seed = seed
        return self

    def get_state(self):
        return f"seed {self.seed}"


@pytest.fixture
def gpus(monkeypatch):
    found, module, generator = Gpus(), torch.get_device_module, torch.Generator
    monkeypatch.setattr(torch, "get_device_module", lambda d=None: found if "cuda" in str(d) else module(d))
    monkeypatch.setattr(torch, "Generator", lambda d="cpu": Generator() if "cuda" in str(d) else generator(d))
    return found


def test_only_the_devices_named_are_seeded_and_put_back(gpus):
    devices = [torch.device("cuda:5"), torch.device("cpu"), torch.device("cuda:2"), torch.device("cuda:5")]
    before = torch.get_rng_state()
    with seeded(3, devices):
        assert gpus.states == {i: "seed 3" if i in (2, 5) else f"before {i}" for i in range(8)}
        drawn = torch.rand(4)
    assert (gpus.states, gpus.touched) == (Gpus().states, {2, 5})
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(4), drawn)
    with forked([torch.device("cuda:1")]):
        gpus.states[1] = "drawn"
    assert gpus.states[1] == "before 1"


CALLS = {
    "monte_carlo": lambda net, x: monte_carlo(net, x, 2),
    "monte_carlo on own statistics": lambda net, x: monte_carlo(net, x, 2, batches=[x]),
    "recalibrate": lambda net, x: recalibrate(net, [x], seed=0),
    "assert_density": lambda net, x: assert_density(density("Mirror"), draws=50),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_model_on_the_processor_touches_no_gpu(call, gpus):
    """And with eight of them torch does not warn that it looks at all: warnings are errors."""
    CALLS[call](GResNet("SE2", width=2, hidden=4, kernel_size=3, samples=2), torch.randn(2, 1, 12, 12))
    assert not gpus.touched


def test_devices_are_those_of_the_model_and_its_inputs():
    model = nn.Sequential(nn.Linear(2, 2, device="meta"), nn.BatchNorm1d(2, affine=False))
    assert devices_of(model) == {torch.device("meta"), torch.device("cpu")}
    with seeded(0, devices_of(model, torch.ones(1, device="meta"))):  # a fake device has no generator
        pass
