"""A plain convolution and its gradients: on a processor, as products of matrices where torch's own is slower."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from partialsym._utils.layout import to_channels_last

FEW = 3  # channels of an image
VECTOR = 16  # pixels of a map: multiples of it fill a processor's vectors
PIXELS = 128  # of a map, from which on a rest that fills none is negligible


class Options(NamedTuple):
    """Options of a convolution, as in `torch.nn.functional.conv2d`."""

    padding: int = 0
    stride: int = 1
    dilation: int = 1
    groups: int = 1

    def size(self, height: Any, width: Any, kernel_size: int) -> tuple[Any, Any]:
        """Height and width of the output."""
        shrink = 2 * self.padding - self.dilation * (kernel_size - 1)
        return (height + shrink - 1) // self.stride + 1, (width + shrink - 1) // self.stride + 1


def conv2d(f: Tensor, weight: Tensor, bias: Tensor | None, o: Options) -> Tensor:
    """`torch.nn.functional.conv2d` of f [b, in, h, w] with weight [out, in / groups, k, k]."""
    if _covers(f, weight, o):
        last = _is_channels_last(weight)
        out = F.linear(_rows(f, last), _rows(weight, last), bias)
        return out[..., None, None]
    if _is_pointwise(f, weight, o):
        matrices, maps = weight[..., 0, 0].expand(len(f), -1, -1), f.flatten(2)
        out = torch.bmm(matrices, maps) if bias is None else torch.baddbmm(bias[:, None], matrices, maps)
        return out.unflatten(2, f.shape[2:])
    return F.conv2d(f, weight, bias, o.stride, o.padding, o.dilation, o.groups)


def conv2d_of_images(f: Tensor, weight: Tensor, bias: Tensor | None, o: Options) -> Tensor:
    """`conv2d`; for an input of at most `FEW` channels the result is in `torch.channels_last`, if that is faster.

    It is for several taps, in float32 on a processor: torch writes the result twice otherwise.
    """
    few = f.shape[1] <= FEW and o.groups == 1 and weight.shape[2] > 1
    if few and _on_cpu(f) and f.dtype == torch.float32 and not _covers(f, weight, o):
        f = to_channels_last(f)
    return conv2d(f, weight, bias, o)


def conv2d_backward(
    grad: Tensor, f: Tensor, weight: Tensor, o: Options, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """The gradients of `conv2d` with respect to f and weight, each if wanted."""
    if _covers(f, weight, o):
        last, g = _is_channels_last(weight), grad.flatten(1)
        d_f = _planes(g.mm(_rows(weight, last)), f.shape, last) if wanted[0] else f.new_empty(0)
        d_weight = _planes(g.T.mm(_rows(f, last)), weight.shape, last) if wanted[1] else f.new_empty(0)
        return d_f, d_weight
    if _is_pointwise(f, weight, o):
        flat, g = f.flatten(2), grad.flatten(2)
        d_f = torch.matmul(weight[..., 0, 0].T, g).view(f.shape) if wanted[0] else f.new_empty(0)
        d_product = f.new_empty(weight.shape[:2]).addbmm_(g, flat.mT, beta=0) if wanted[1] else f.new_empty(0, 0)
        return d_f, d_product[..., None, None]
    if o.groups > 1 and len(f) == 1:  # torch 2.13 misreads one image in channels_last, in float64
        grad, f, weight = grad.contiguous(), f.contiguous(), weight.contiguous()
    d_f, d_weight, _ = torch.ops.aten.convolution_backward(
        grad,
        f,
        weight,
        None,
        [o.stride] * 2,
        [o.padding] * 2,
        [o.dilation] * 2,
        False,
        [0, 0],
        o.groups,
        [*wanted, False],
    )
    return d_f, d_weight


def _covers(f: Tensor, weight: Tensor, o: Options) -> bool:
    """Whether a kernel of one channel group is as large as the map, without padding: one product for all images."""
    return weight.shape[2:] == f.shape[2:] and (o.padding, o.dilation, o.groups) == (0, 1, 1) and _on_cpu(f)


def _is_pointwise(f: Tensor, weight: Tensor, o: Options) -> bool:
    """Whether one product per image is faster than torch's conv2d: for one tap, and pixels that fill vectors."""
    plain = weight.shape[2:] == (1, 1) and o == (0, 1, 1, 1) and f.is_contiguous()
    pixels = math.prod(f.shape[2:])
    return plain and _on_cpu(f) and f.dtype.itemsize > 2 and (pixels % VECTOR == 0 or pixels > PIXELS)


def _on_cpu(f: Tensor) -> bool:
    return f.device.type == "cpu"


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _rows(x: Tensor, last: bool) -> Tensor:
    """x [., c, h, w] as a matrix [., c·h·w], or [., h·w·c] if `last`."""
    return (x.permute(0, 2, 3, 1) if last else x).flatten(1)


def _planes(rows: Tensor, shape: torch.Size, last: bool) -> Tensor:
    """The inverse of `_rows`."""
    _, c, h, w = shape
    return rows.view(-1, h, w, c).permute(0, 3, 1, 2) if last else rows.view(shape)
