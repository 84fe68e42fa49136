"""What networks for images of any size share: their head, the memory they can save, checks of their arguments."""

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
    """The last layer; for 0 classes nothing, so that the network gives its features.

    Raises:
        ValueError: num_classes is below 0.
    """
    if num_classes < 0:
        raise InputError(f"num_classes is {num_classes}: must be at least 0, and 0 for features without a classifier.")
    return nn.Linear(num_features, num_classes) if num_classes else nn.Identity()


def check_blocks(blocks: Sequence[int]) -> None:
    """Raise ValueError where `blocks` is no sequence of counts."""
    if isinstance(blocks, int | str) or not blocks:
        raise InputError(f"blocks is {blocks!r}: must be one number of blocks a stage, such as (2, 2, 2, 2).")
    for count in blocks:
        check_at_least_one(blocks=count)


def run(block: nn.Module, *signals: Signal, save_memory: bool) -> Signal:
    """block(*signals). With `save_memory` what happens inside is computed again in the backward pass, not held.

    It is computed from the same random numbers: a density draws the elements it drew, dropout drops what it dropped.
    Running statistics count a batch once. A compiled graph and the transforms of torch.func hold what they need.
    """
    if not save_memory or not torch.is_grad_enabled() or torch.compiler.is_compiling() or transformed():
        return block(*signals)
    return checkpoint(
        block, *signals, use_reentrant=False, context_fn=lambda: (nullcontext(), _statistics_left_alone(block))
    )


@contextmanager
def _statistics_left_alone(block: nn.Module) -> Iterator[None]:
    """The running statistics of `block` are afterwards as they were."""
    buffers = [b for norm in block.modules() if isinstance(norm, BatchNorm) for b in norm.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:  # the computation is broken off by an exception where no more of it is needed
        with torch.no_grad():
            for buffer, values in zip(buffers, before, strict=True):
                buffer.copy_(values)
