"""What several tests build: densities, signals and small stacks of layers on every group."""

import inspect
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from partialsym import GroupConv, Signal, group, haar, learned
from partialsym.kernels import SIREN
from partialsym.signal import Elements

SAMPLES = {"T2": 1, "Mirror": 2, "SE2": 4, "E2": 8, "C4": 4, "C8": 8, "D4": 8, "D6": 12}

KINDS = [("T2", False), ("Mirror", True), ("SE2", True), ("E2", False), ("E2", True), ("D4", True)]  # one of each


def few(values, *fast):
    """Parameters, of which `make test` takes those in `fast`, and `make test-slow` the others."""
    values = list(values)
    parameters = [value if isinstance(value, tuple) else (value,) for value in values]
    return [
        pytest.param(*parameter, marks=() if value in fast else pytest.mark.long)
        for value, parameter in zip(values, parameters, strict=True)
    ]


def few_angles(monkeypatch):
    """How networks behave is measured at few angles, which takes less time and makes the same kinds of numbers."""
    monkeypatch.setattr("partialsym.training.behaviour.ANGLES", (0, 90, 180, 270))
    monkeypatch.setattr("partialsym.training.behaviour.TURNS", (0.0, 90.0, 180.0))


def density(name, kind="haar", *, theta=0.4, samples=None):
    """`haar`, or `learned` with θ = `theta` and every second logit below 0."""
    h = group(name)
    if kind == "haar":
        return haar(h, samples or SAMPLES[name])
    p = learned(h, samples or SAMPLES[name])
    with torch.no_grad():
        for key, parameter in p.named_parameters():
            if key == "algebra.raw":
                parameter.fill_(theta)
            else:
                parameter[::2] = -1
    return p


def taken(make, **options):
    """Those of the options that a kernel has: the features of a Grid follow from its taps."""
    return {key: value for key, value in options.items() if key in inspect.signature(make).parameters}


def siren(hidden=8):
    return partial(SIREN, hidden=hidden)


def lifting(name, kind="haar", *, channels=3, into=2, size=3, kernel=None):
    t2 = group("T2")
    codomain = density(name, kind)
    return GroupConv(into, channels, domain=t2, codomain=codomain, kernel_size=size, kernel=kernel or siren())


def group_conv(name, kind="haar", *, into=3, channels=3, size=3, kernel=None, **rest):
    codomain = density(name, kind)
    kernel = kernel or siren()
    return GroupConv(into, channels, domain=group(name), codomain=codomain, kernel_size=size, kernel=kernel, **rest)


def random_signal(name, *, batch=2, channels=3, size=6, weights=None):
    """Random values on the elements of `haar`."""
    elements = Elements(group(name), haar(group(name), SAMPLES[name]).eval().sample().matrices, weights)
    return Signal(torch.randn(batch, channels, len(elements), size, size), elements)


class ReLU(nn.Module):
    def forward(self, f):
        return f.map(F.relu)


def perturbed(module):
    """The module with every parameter off its initial value, so that no bias or γ is at 0 or 1."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "codomain" not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return module
