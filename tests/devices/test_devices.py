"""Devices that lack something: float64 on MPS, values on `meta`."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from helpers import few
from networks import network
from torch.utils._python_dispatch import TorchDispatchMode

from partialsym import GCNN13, GResNet
from partialsym._utils.precision import double
from partialsym.data import Preprocessing
from partialsym.measure import equivariance_errors, lie_derivative, transforms
from partialsym.measure.probe import Norms

PREPROCESS = Preprocessing((0.5,), (0.5,))


class NoFloat64(TorchDispatchMode):
    """Of tensors on `meta`, which stands for a device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(leaf, torch.Tensor) and leaf.device.type == "meta" and leaf.dtype == torch.float64:
                raise TypeError(f"{func} made a float64 tensor on the device")
        return out


@pytest.fixture
def unread(monkeypatch):
    """Nothing on `meta` can be read: the norms are made up. It has no autocast."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
    for name in ("add", "add_part"):
        monkeypatch.setattr(Norms, name, lambda self, key, part, *rest: part.ndim == 4 and transforms.inscribed(part))
    monkeypatch.setattr(Norms, "ratio", lambda self, key, reference: 0.0)
    monkeypatch.setattr(Norms, "mean_square", lambda self, key: 0.0)


@pytest.mark.parametrize(("cls", "name"), few([(GResNet, "E2"), (GCNN13, "C4")], (GResNet, "E2")))
def test_measures_make_no_float64_where_the_model_is(cls, name, unread):
    net, images = network(cls, name).to("meta"), torch.rand(1, 1, 16, 19)
    with NoFloat64():
        assert equivariance_errors(net, images, PREPROCESS, [30], mirrored=True)
        assert lie_derivative(net, images, PREPROCESS)
        with pytest.raises(TypeError, match="made a float64 tensor on the device"):
            torch.zeros(1, device="meta").double()


def test_float64_is_on_the_processor_where_the_device_has_none():
    values = torch.tensor([1.5])
    mps = SimpleNamespace(device=SimpleNamespace(type="mps"), cpu=lambda: values)  # without double()
    assert double(mps).dtype == double(values).dtype == torch.float64
    assert double(torch.ones(1, device="meta")).device.type == "meta"


@pytest.mark.parametrize("size", [(7, 7), (8, 8), (5, 9), (12, 7), (1, 3)])
def test_the_disc_in_whole_numbers_is_that_of_the_distances(size):
    y, x = ((torch.arange(n, dtype=torch.float64) - (n - 1) / 2).square() for n in size)
    expected = (y[:, None] + x[None]).sqrt() <= min(size) / 2
    assert torch.equal(transforms.inscribed(torch.zeros(size)), expected.float())
