"""Statistics that processes must share when they train together, beyond the mean of their gradients."""

from typing import Any

import torch.distributed
from torch import Tensor, nn

from partialsym.densities import Uniform
from partialsym.nn.norm import BatchNorm


class Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; the backward pass sums the gradients of all processes."""

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
    """Make processes under torch's DistributedDataParallel learn what one process with all their batches would learn.

    In train mode, every BatchNorm then uses the statistics of the batches of all processes, which may differ in size
    and be empty. At a bound of its range, every learned θ uses the gradient of all processes to decide whether a step
    would leave the range. The forward and the backward pass communicate, so all processes must run the same passes.
    `partialsym fit` calls this function.

    Args:
        model: modified in place; call this before DistributedDataParallel wraps it.
        shared: False makes each process use only its own batch again; a process that evaluates alone needs this.
    Returns:
        The model.
    Raises:
        RuntimeError: torch.distributed has no process group yet.

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
