"""Inference of frozen networks: against the folded twin and a folded plain CNN, and with half of the group."""

from functools import partial

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmarks.rows import PAIRS, Book, quotient
from benchmarks.training import batch, compare, plain_cnn
from partialsym import GResNet, set_proportional, to_conv2d
from partialsym.densities import Uniform
from partialsym.models.dense_twin import TwinResNet, dense_twin
from partialsym.profiling import Step

BATCH, HALF_BATCH = 64, 8


class Inference(Step):
    """The forward pass alone."""

    def __call__(self) -> None:
        with torch.no_grad():
            self.forward(self.images)


def frozen(book: Book, pairs: int = PAIRS) -> None:
    model = GResNet("SE2").eval()
    whole, data = to_conv2d(model), batch(BATCH, 1, 28)
    steps = [Inference(net, *data) for net in (whole, fold(dense_twin(model)), fold(plain_cnn(model)))]
    name = f"frozen ResNet SE2-8, batch {BATCH}"
    compare(book, name, steps, pairs, what="inference", precision="float32", target=0.50)
    for module in model.modules():
        if isinstance(module, Uniform):
            torch.nn.init.constant_(module.raw, 0.5)
    set_proportional(model, True)
    calls = (partial(net, data[0][:HALF_BATCH]) for net in (to_conv2d(model), whole))
    name = f"frozen ResNet SE2-8, batch {HALF_BATCH}: θ = ½ on ⌈nθ⌉ elements"
    book.add(
        quotient(name, *calls, target=0.45, unit="of θ = 1", precision="float32", pairs=pairs, together=book.together)
    )


def fold(twin: nn.Module) -> TwinResNet:
    """The twin in eval mode, the BatchNorms that follow a convolution folded into it, as `to_conv2d` does."""
    assert isinstance(twin, TwinResNet)
    twin.eval().requires_grad_(False)
    for conv, norm in (("lifting", "norm0"), ("last", "norm3")):
        setattr(twin, conv, fuse_conv_bn_eval(getattr(twin, conv), getattr(twin, norm)))
        setattr(twin, norm, nn.Identity())
    return twin
