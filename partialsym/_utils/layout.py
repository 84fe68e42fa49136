"""The order of a signal's values in memory."""

from collections.abc import Sequence

import torch
from torch import Tensor


def is_channels_last(values: Tensor) -> bool:
    """Whether values [b, c, n, h, w] lie in memory as maps [b, c·n, h, w] in `torch.channels_last`.

    Values for which this is also the usual layout, such as those of one pixel, do not count.
    Convolutions, BatchNorm and pools are faster there: the pixels of a map lie apart, but all channels of a pixel lie
    together, as a vector.
    """
    _, c, n, h, w = values.shape
    steps = zip(values.shape, values.stride(), (c * n * h * w, n, 1, w * c * n, c * n), strict=True)
    return all(size == 1 or step == wanted for size, step, wanted in steps) and not values.is_contiguous()


def packed(values: Tensor) -> Tensor:
    """values [b, c, n, h, w], contiguous as usual, or as they are if they lie in `torch.channels_last`."""
    return values if is_channels_last(values) else values.contiguous()


def flat(values: Tensor) -> Tensor:
    """`packed` values [b, c, n, h, w] as maps [b, c·n, h, w]."""
    return packed(values).flatten(1, 2)


def to_channels_last(maps: Tensor) -> Tensor:
    """maps [b, c, h, w] in `torch.channels_last`, with its strides even if c is 1, by which torch recognises it."""
    maps = maps.contiguous(memory_format=torch.channels_last)
    return maps if maps.shape[1] > 1 else maps.as_strided(maps.shape, (maps.shape[1:].numel(), 1, maps.shape[3], 1))


def empty(like: Tensor, shape: Sequence[int], channels_last: bool) -> Tensor:
    """Uninitialised values [b, c, n, h, w], contiguous as usual or in `torch.channels_last`."""
    if not channels_last:
        return like.new_empty(shape)
    b, c, n, h, w = shape
    return like.new_empty(b, h, w, c, n).permute(0, 3, 4, 1, 2)
