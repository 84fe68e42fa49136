"""What every layer loses in float32 and in bf16, forward and backward, in units of one rounding, u = eps/2.

In float32 the layer is compared with itself in float64, in bf16 with itself in float32, on the very inputs it gets
inside the network; the errors are relative, in the L2 norm. The budgets follow from how the sums are made.
"""

import math

import pytest
import torch
from helpers import few, perturbed
from precision import calls, losses

from partialsym import GCNN13, BatchNorm, GResNet, GroupConv, InstanceNorm
from partialsym.models import gresnet
from partialsym.nn import fused, norm, statistics

PHASE = {"SIREN": 10.0}  # ω₀: how many times a feature's argument is larger than what it is made of; others: about 4
UNIT = {False: torch.finfo(torch.float32).eps / 2, True: torch.finfo(torch.bfloat16).eps / 2}


def network(kind, kernel="SIREN", **options):
    settings = {"ResNet": {"kernel_size": 5}, "CNN13": {"dropout": 0.0}}[kind] | {"width": 6, "samples": 4} | options
    model = perturbed({"ResNet": GResNet, "CNN13": GCNN13}[kind]("E2", kernel=kernel, **settings))
    for name, parameter in model.named_parameters():
        if name.endswith("algebra.raw"):
            torch.nn.init.constant_(parameter, 0.6)
    return model


def budget(call, kernel, what, bf16):
    """In units of u.

    bf16: a rounding costs 0.42 u in the mean square. A norm or a linear layer rounds its output, the last one its
    weights too: 1. A convolution rounds the kernel's parts, the kernel or feature maps, and the output: 8 roundings
    cost √8·0.42 = 1.2. Twice that backwards, where the gradient is rounded on the way.
    float32: sums are made in blocks or pairs, so that one of K terms costs about log₂K. A feature's argument is
    rounded where it is PHASE times what it is made of, twice a layer in two layers. Twice that backwards. A norm loses
    what `offset` says.
    """
    conv = isinstance(call.layer, GroupConv)
    twice = 1 if what == "output" else 2
    if bf16:
        return twice * (1.2 if conv else 1)
    if conv:
        terms = call.layer.in_channels * len(call.given.elements) * len(call.layer.taps)
        return twice * (4 * PHASE.get(kernel, 4.0) + math.log2(terms))
    given = call.given if torch.is_tensor(call.given) else call.given.values
    return (max(4, math.log2(given.numel() / given.shape[1])) if what == "weights" else 4) * offset(call)


def offset(call):
    """√E[f²]/√Var[f], what a norm loses by taking the mean off; 1 for other layers."""
    if not isinstance(call.layer, BatchNorm | InstanceNorm):
        return 1
    axes = (0, 2, 3, 4) if isinstance(call.layer, BatchNorm) else (2, 3, 4)
    square, var = call.given.values.double().square().mean(axes), call.given.values.double().var(axes, correction=0)
    return float((square / var).mean().sqrt())


def table(model, images, kernel="SIREN", bf16=False):
    """[(layer, what, error in u, budget in u)]."""
    rows = []
    for call in calls(model, images, bf16):
        for what, error in losses(call, bf16).items():
            rows.append((call.name, what, error / UNIT[bf16], budget(call, kernel, what, bf16)))
    return rows


def over(rows):
    return [row for row in rows if not row[2] <= row[3]]


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize("kernel", few(["SIREN", "MLP", "Fourier", "Gabor", "MAGNet"], "SIREN", "MAGNet"))
def test_every_layer_keeps_its_budget(kernel, bf16):
    rows = table(network("ResNet", kernel), torch.randn(2, 1, 20, 20), kernel, bf16)
    assert {"lifting", "block1.norm1", "block2.shortcut", "last", "pool", "classifier"} < {name for name, *_ in rows}
    assert not over(rows)


@pytest.mark.long
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize("kind", ["ResNet", "CNN13"])
def test_every_layer_keeps_its_budget_at_the_papers_sizes(kind, bf16):
    settings = {"ResNet": {"width": 32, "kernel_size": 7}, "CNN13": {"width": 64}}[kind]
    size = {"ResNet": (1, 28, 28), "CNN13": (3, 32, 32)}[kind]
    model = network(kind, samples=8, in_channels=size[0], **settings)
    assert not over(table(model, torch.randn(2, *size), bf16=bf16))


def names_over(model, bf16=False):
    return {name for name, *_ in over(table(model, torch.randn(2, 1, 20, 20), bf16=bf16))}


def test_features_rounded_to_float16_would_be_seen(monkeypatch):
    right = GroupConv.factored_kernel

    def rounded(*args):
        k = right(*args)
        return k._replace(phi=k.phi.half().float()) if k.phi.dtype == torch.float32 else k

    monkeypatch.setattr(GroupConv, "factored_kernel", rounded)
    found = names_over(network("ResNet"))
    assert {"lifting", "block1.conv1", "block2.shortcut", "last"} <= found
    assert not [name for name in found if "norm" in name]


def test_positions_rounded_to_bf16_would_be_seen(monkeypatch):
    """Which is what autocast would do, were it not turned off for the features."""
    kernel, coordinates = GroupConv.factored_kernel, GroupConv._coordinates

    def autocast_or_not(layer, *args):
        layer.rounds = torch.is_autocast_enabled("cpu")
        return kernel(layer, *args)

    def rounded(layer, *args):
        z = coordinates(layer, *args)
        return z.bfloat16().float() if layer.rounds else z

    monkeypatch.setattr(gresnet, "precompute", lambda network, f, links: f)  # each layer makes its own features
    monkeypatch.setattr(GroupConv, "factored_kernel", autocast_or_not)
    model = network("ResNet")
    monkeypatch.setattr(GroupConv, "_coordinates", rounded)
    assert {"lifting", "block1.conv1", "last"} <= names_over(model, bf16=True)


def test_statistics_in_bf16_would_be_seen(monkeypatch):
    right = statistics.combined

    def rounded(means, *args):
        return [m.bfloat16().to(m) if means.dtype == torch.float32 else m for m in right(means, *args)]

    for module in (norm, fused):
        monkeypatch.setattr(module, "combined", rounded)
    assert {"block1.norm1", "block2.norm2", "norm3"} <= names_over(network("ResNet"))
