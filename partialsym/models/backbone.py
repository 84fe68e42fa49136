"""Shared parts of the networks: the classifier, activation checkpointing, and checks of arguments."""

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
    """The last layer; the identity for 0 classes, so that the network returns its features.

    Raises:
        ValueError: num_classes is negative.
    """
    if num_classes < 0:
        raise InputError(f"num_classes is {num_classes}: must be at least 0; 0 returns features without a classifier.")
    return nn.Linear(num_features, num_classes) if num_classes else nn.Identity()


def check_blocks(blocks: Sequence[int]) -> None:
    """Raise ValueError if `blocks` is not a sequence of positive counts."""
    if isinstance(blocks, int | str) or not blocks:
        raise InputError(f"blocks is {blocks!r}: must be one number of blocks per stage, such as (2, 2, 2, 2).")
    for count in blocks:
        check_at_least_one(blocks=count)


def run(block: nn.Module, *signals: Signal, save_memory: bool) -> Signal:
    """block(*signals); with `save_memory`, the backward pass recomputes the block instead of storing its activations.

    The recomputation uses the same random numbers, so densities and dropout draw the same. Running statistics count a
    batch once. Compiled graphs and the transforms of torch.func ignore `save_memory`.
    """
    if not save_memory or not torch.is_grad_enabled() or torch.compiler.is_compiling() or transformed():
        return block(*signals)
    return checkpoint(
        block, *signals, use_reentrant=False, context_fn=lambda: (nullcontext(), _statistics_left_alone(block))
    )


@contextmanager
def _statistics_left_alone(block: nn.Module) -> Iterator[None]:
    """A context that restores the running statistics of `block` at its end."""
    buffers = [b for norm in block.modules() if isinstance(norm, BatchNorm) for b in norm.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:  # checkpoint ends the recomputation early by an exception
        with torch.no_grad():
            for buffer, values in zip(buffers, before, strict=True):
                buffer.copy_(values)
