"""Functions that several networks share: the classifier, activation checkpointing, checks of arguments."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from partialsym._utils.torch_func import transformed
from partialsym.errors import InputError
from partialsym.models.layers import check_at_least_one
from partialsym.nn.norm import BatchNorm
from partialsym.signal import Signal


def classifier(num_features: int, num_classes: int) -> nn.Linear | nn.Identity:
    """The last layer: a linear one, or the identity for 0 classes, so that the network returns its features.

    Raises:
        ValueError: num_classes is negative.
    """
    if num_classes < 0:
        raise InputError(f"num_classes is {num_classes}: must be at least 0; 0 returns features without a classifier.")
    return nn.Linear(num_features, num_classes) if num_classes else nn.Identity()


def check_blocks(blocks: Sequence[int]) -> None:
    """Raise ValueError unless `blocks` is a sequence of numbers ≥ 1."""
    if isinstance(blocks, int | str) or not blocks:
        raise InputError(f"blocks is {blocks!r}: must have one number of blocks for each stage, such as (2, 2, 2, 2).")
    for count in blocks:
        check_at_least_one(blocks=count)


def run(block: nn.Module, *signals: Signal, save_memory: bool) -> Signal:
    """block(*signals). With `save_memory` the backward pass recomputes activations inside the block instead of storing
    them.

    The recomputation uses the same random numbers: a density draws the same elements, and dropout drops the same
    values. Running statistics count the batch once. Compiled graphs and transforms of torch.func ignore `save_memory`.
    """
    if not save_memory or not torch.is_grad_enabled() or torch.compiler.is_compiling() or transformed():
        return block(*signals)
    return checkpoint(
        block, *signals, use_reentrant=False, context_fn=lambda: (nullcontext(), _statistics_left_alone(block))
    )


@contextmanager
def _statistics_left_alone(block: nn.Module) -> Iterator[None]:
    """Restore the running statistics of `block` at the end."""
    buffers = [b for norm in block.modules() if isinstance(norm, BatchNorm) for b in norm.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:  # torch ends the recomputation by an exception once it has all that it needs
        with torch.no_grad():
            for buffer, values in zip(buffers, before, strict=True):
                buffer.copy_(values)
