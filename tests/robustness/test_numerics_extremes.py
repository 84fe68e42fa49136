"""Images at the edge of what floating point holds: finite answers, gradients and statistics, or an error.

Data sets hold pixels in [0, 1] and refuse all else, so that only a caller's own tensor can be larger than a pixel over
its standard deviation; beyond 1e16 networks refuse it.
"""

import re

import pytest
import torch
from helpers import SAMPLES, few
from torch.nn import functional as F

from partialsym import GCNN13, GResNet, signal
from partialsym.data.base import Split
from partialsym.registry import KERNELS

NETWORKS = {"ResNet": GResNet, "CNN13": GCNN13}
SIZE = 14
FAST = [("ResNet", "MAGNet"), ("CNN13", "SIREN")]
CASES = [
    pytest.param(kind, kernel, marks=[pytest.mark.long] * ((kind, kernel) not in FAST))
    for kind in NETWORKS
    for kernel in KERNELS
]


def hot(value):
    images = torch.zeros(3, 1, SIZE, SIZE)
    images[:, :, 5, 6] = value
    return images


IMAGES = {
    "zero": lambda: hot(0.0),
    "constant": lambda: torch.full((3, 1, SIZE, SIZE), 0.7),
    "one hot pixel": lambda: hot(1.0),
    "subnormal": lambda: 1e-40 * torch.randn(3, 1, SIZE, SIZE),
    "1e15": lambda: 1e15 * torch.randn(3, 1, SIZE, SIZE),
    "one hot pixel of 1e15": lambda: hot(1e15),
    "one image of 1e15": lambda: torch.randn(3, 1, SIZE, SIZE) * torch.tensor([1e15, 1, 1]).view(3, 1, 1, 1),
    "the largest": lambda: torch.full((3, 1, SIZE, SIZE), -signal.LARGEST),
}


def network(kind, kernel="SIREN", **options):
    """With components of which some are drawn and some are not."""
    settings = {"samples": SAMPLES["E2"] // 2, "width": 3, "hidden": 4, "kernel_size": 3, "num_classes": 3, **options}
    model = NETWORKS[kind]("E2", kernel=kernel, **settings)
    for name, parameter in model.named_parameters():
        if name.endswith("logits"):
            torch.nn.init.zeros_(parameter)
    return model


def not_finite(model, images, bf16=False):
    """What of logits, gradients and statistics is not finite."""
    images.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = model(images)
    F.cross_entropy(logits.float(), torch.tensor([0, 1, 2])).backward()
    found = {"logits": logits, "images": images.grad, **dict(model.named_buffers())}
    found |= {f"{name}.grad": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return [name for name, value in found.items() if not value.isfinite().all()]


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("kind", "kernel"), CASES)
def test_extreme_images_give_finite_logits_gradients_and_statistics(kind, kernel, train):
    for name, images in IMAGES.items():
        assert not not_finite(network(kind, kernel).train(train), images()), name


@pytest.mark.parametrize("train", few([True, False], True), ids=["train", "eval"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_so_they_do_under_autocast(kind, train):
    for name, images in IMAGES.items():
        assert not not_finite(network(kind).train(train), images(), bf16=True), name


def test_what_overflows_would_be_seen(monkeypatch):
    """From about 1e18 on the square of a feature is no float32: a variance is infinite, what it divides 0 or NaN."""
    monkeypatch.setattr(signal, "LARGEST", torch.inf)
    images = 1e30 * torch.randn(3, 1, SIZE, SIZE)
    assert "norm0.running_var" in not_finite(network("ResNet"), images)
    model = network("ResNet").eval()
    f = model.block1.conv1(model.norm0(model.lifting(signal.Signal.image(images.detach()))))
    assert not model.block1.norm1(f).values.nan_to_num().any()


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("value", [1e30, -1e30, 1.1e16, torch.inf, -torch.inf])
def test_images_beyond_it_are_refused_and_change_nothing(kind, value, train):
    model, images = network(kind).train(train), hot(value)
    images[0] = torch.nan  # which alone passes
    before = [buffer.clone() for buffer in model.buffers()]
    with pytest.raises(ValueError, match=re.escape(f"images reach {abs(value):.3g}: must lie within ±1e+16, norm")):
        model(images)
    assert all(torch.equal(*pair) for pair in zip(before, model.buffers(), strict=True))


def test_half_precision_has_a_bound_of_its_own():
    images = torch.ones(1, 1, 5, 5, dtype=torch.float16)
    assert signal.Signal.image(65504 * images).values.isfinite().all()
    with pytest.raises(ValueError, match=r"images reach inf: must lie within ±6\.55e\+04"):
        signal.Signal.image(torch.inf * images)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_data_refuse_pixels_that_are_none(value):
    images = torch.rand(4, 1, 5, 5)
    images[2, 0, 1, 1] = value
    numbers = torch.arange(4)
    with pytest.raises(ValueError, match=r"image 2 has NaN or infinite pixels|pixels span .*1e\+30"):
        Split(images, numbers, numbers)


@pytest.mark.parametrize(("kind", "kernel"), CASES)
def test_nan_in_an_image_is_nan_in_its_logits_and_in_no_others(kind, kernel):
    """No maximum, ReLU or norm turns it into an answer."""
    model, images = network(kind, kernel).eval(), torch.randn(3, 1, SIZE, SIZE)
    with torch.no_grad():
        right = model(images)
        images[1, 0, 6, 6] = torch.nan
        wrong = model(images)
    assert wrong[1].isnan().all()
    torch.testing.assert_close(wrong[[0, 2]], right[[0, 2]])
