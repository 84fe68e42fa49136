"""Inference of frozen networks: against the folded twin, and with half of the group."""

from functools import partial

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmarks.rows import Book, quotient
from partialsym import GResNet, set_proportional, to_conv2d
from partialsym.densities import Uniform
from partialsym.models.dense_twin import TwinResNet, dense_twin

BATCH = 8


def frozen(book: Book) -> None:
    images = torch.randn(BATCH, 1, 28, 28)
    model = GResNet("SE2").eval()
    whole = to_conv2d(model)
    twin = dense_twin(model)
    assert isinstance(twin, TwinResNet)
    fold(twin)
    name = f"frozen ResNet SE2-8, batch {BATCH}"
    book.add(
        quotient(f"{name}: inference", partial(whole, images), partial(twin, images), precision="float32", target=1.05)
    )
    for module in model.modules():
        if isinstance(module, Uniform):
            torch.nn.init.constant_(module.raw, 0.5)
    set_proportional(model, True)
    calls = partial(to_conv2d(model), images), partial(whole, images)
    book.add(quotient(f"{name}: θ = ½ on ⌈nθ⌉ elements", *calls, target=0.45, unit="of θ = 1", precision="float32"))


def fold(twin: TwinResNet) -> None:
    """Put the twin into eval mode and fold the BatchNorms that follow a convolution into it, as `to_conv2d` does."""
    twin.eval().requires_grad_(False)
    for conv, norm in (("lifting", "norm0"), ("last", "norm3")):
        setattr(twin, conv, fuse_conv_bn_eval(getattr(twin, conv), getattr(twin, norm)))
        setattr(twin, norm, nn.Identity())
