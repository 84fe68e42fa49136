"""Rules of the convolution for `torch.vmap`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from partialsym.errors import InputError


def over_images(call: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, int]]:
    """The rule of a convolution: a new axis of only the images joins their batch; any other costs a call per entry."""
    each = one_by_one(call)

    def rule(info: Any, in_dims: tuple[int | None, ...], f: Tensor, *rest: Any) -> tuple[Any, Any]:
        if in_dims[0] is None or any(dim is not None for dim in in_dims[1:]):
            return each(info, in_dims, f, *rest)
        f = f.movedim(in_dims[0], 0)
        return call(f.flatten(0, 1), *rest).unflatten(0, f.shape[:2]), 0

    return rule


def one_by_one(call: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
    """The rule of any function that returns a tensor or a tuple of tensors: one call per entry of the new axis."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        if not info.batch_size:
            raise InputError("torch.vmap over no images or kernels: there must be at least one.")
        results = [
            call(*(a if dim is None else a.select(dim, i) for a, dim in zip(arguments, in_dims, strict=True)))
            for i in range(info.batch_size)
        ]
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        return tuple(map(torch.stack, zip(*results, strict=True))), (0,) * len(results[0])

    return rule
