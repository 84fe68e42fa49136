"""What processes that train together must share beyond the mean of their gradients."""

from typing import Any

import torch.distributed
from torch import Tensor, nn

from partialsym.densities import Uniform
from partialsym.nn.norm import BatchNorm


class Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(values: Tensor) -> Tensor:
        total = values.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return Sum.apply(gradients[0])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], values: Tensor) -> tuple[Tensor, int]:
        return Sum.apply(values), in_dims[0]


def share_statistics(model: nn.Module, shared: bool = True) -> nn.Module:
    """Let the processes of a training loop with torch's DistributedDataParallel learn what one process would.

    While they train, every BatchNorm takes the statistics of all their batches, which may differ in size and be empty,
    and every learned θ at a bound asks the gradient of all whether a step leads out. `partialsym fit` does the same.
    A step then communicates in its forward and its backward pass: all processes must do the same passes.

    Args:
        model: changed in place, before it is wrapped.
        shared: False makes each process look at its own batch again, as one that evaluates alone must.
    Returns:
        the model.
    Raises:
        RuntimeError: there is no process group yet.

    >>> from partialsym import GResNet, share_statistics
    >>> share_statistics(GResNet("SE2", width=4, kernel_size=3))
    Traceback (most recent call last):
    RuntimeError: there are no processes to share with: call torch.distributed.init_process_group first.
    """
    if shared and not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        raise RuntimeError("there are no processes to share with: call torch.distributed.init_process_group first.")
    for module in model.modules():
        if isinstance(module, BatchNorm | Uniform):
            module.all_reduce = Sum.apply if shared else None
    return model
