"""The operations of the convolution, for torch's counter."""

from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from partialsym.ops import operator  # noqa: F401 – defines what is counted
from partialsym.ops.choice import dense_work, factored_work, resolved, shape_of


@register_flop_formula(torch.ops.partialsym.convolve)
def _forward(f: Any, weight: Any, bias: Any, phi: Any, *rest: Any, **options: Any) -> int:
    *_, padding, stride, dilation, groups, path = rest
    shape = shape_of(f, weight, phi, padding, stride, dilation, groups)
    return 2 * sum(dense_work(shape) if resolved(path, shape) == "dense" else factored_work(shape))


@register_flop_formula(torch.ops.partialsym.convolve_backward)
def _backward(grad: Any, f: Any, weight: Any, bias: Any, phi: Any, *rest: Any, **options: Any) -> int:
    """Kernel or feature maps are formed anew, then the gradients taken."""
    *_, padding, stride, dilation, groups, path, wanted = rest
    shape = shape_of(f, weight, phi, padding, stride, dilation, groups)
    if resolved(path, shape) == "dense":
        convolve, generate = dense_work(shape)
        return 2 * ((1 + wanted) * convolve + (2 + wanted) * generate)
    convolve, mix, bias_ = factored_work(shape)
    return 2 * ((2 + wanted) * convolve + 2 * mix + 2 * bias_)
