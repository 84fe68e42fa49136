"""The convolution's formulas for torch's FLOP counter."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from partialsym.ops import operator, plain  # noqa: F401 – define the operators
from partialsym.ops.choice import Shape, dense_work, factored_work, resolved, shape_of, spectral_work


@register_flop_formula(torch.ops.partialsym.convolve, get_raw=True)
def _forward(f: Any, weight: Any, bias: Any, phi: Any, *rest: Any, **named: Any) -> int:
    order, shape = _order(f, weight, phi, rest[-6:-1])
    return 2 * sum({"dense": dense_work, "factored": factored_work, "spectral": spectral_work}[order](shape))


@register_flop_formula(torch.ops.partialsym.convolve_backward, get_raw=True)
def _backward(grad: Any, f: Any, weight: Any, bias: Any, phi: Any, *rest: Any, **named: Any) -> int:
    """The backward pass computes kernel, feature maps or spectra again, then the gradients."""
    *options, wanted, _ = rest[-7:]
    order, shape = _order(f, weight, phi, options)
    if order == "dense":
        convolve, generate = dense_work(shape)
        return 2 * ((1 + wanted) * convolve + (2 + wanted) * generate)
    if order == "spectral":
        into, product, out, fold, generate, kernel = spectral_work(shape)
        return 2 * ((1 + wanted) * (into + product + kernel) + out + 2 * fold + (2 + wanted) * generate)
    convolve, mix, bias_ = factored_work(shape)
    return 2 * ((2 + wanted) * convolve + 2 * mix + 2 * bias_)


@register_flop_formula(torch.ops.partialsym.convolve_plain, get_raw=True)
def _plain(f: Any, weight: Any, bias: Any, disc: Any, *options: Any, **named: Any) -> int:
    (images, into, *size), (out, _, side, _) = f.shape, weight.shape
    shape = shape_of((images, into, 1, *size), (out, into, side**2 - 1), (1, side**2 - 1, 1, side, side), *options)
    return 2 * sum(spectral_work(shape))


def _order(f: Any, weight: Any, phi: Any, given: Sequence[Any]) -> tuple[str, Shape]:
    *options, path = given  # padding, stride, dilation, groups
    shape = shape_of(f.shape, weight.shape, phi.shape, *options)
    return resolved(path, shape, f.dtype, f.device.type), shape
