"""What the layers of several processes that train together must share beyond DDP's mean of their gradients."""

from typing import Any

import torch.distributed
from lightning.pytorch.plugins import LayerSync
from torch import Tensor, nn

from partialsym.densities import Uniform
from partialsym.norm import BatchNorm


class Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return Sum.apply(gradients[0])


class SharedSums(LayerSync):
    """While they train, BatchNorms take the statistics of all processes, and the bounds of θ look at the gradient of
    all."""

    def apply(self, model: nn.Module) -> nn.Module:
        return _share(model, Sum.apply)

    def revert(self, model: nn.Module) -> nn.Module:
        return _share(model, None)


def lost(error: RuntimeError) -> bool:
    """Whether it says that another process no longer answers."""
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)


def _share(model: nn.Module, summed: Any) -> nn.Module:
    for module in model.modules():
        if isinstance(module, BatchNorm | Uniform):
            module.summed = summed
    return model
