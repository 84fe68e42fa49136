"""A plain convolution in the frequency domain, as a custom operator of torch."""

import torch
from torch import Tensor

from partialsym.ops.choice import computed_in
from partialsym.ops.conv2d import Options
from partialsym.ops.spectral import plain


def convolve_plain(f: Tensor, weight: Tensor, bias: Tensor, disc: Tensor, options: Options) -> Tensor:
    """`torch.nn.functional.conv2d` for kernels on a disc, computed at least in float32; it has no derivative.

    Args:
        f: [b, in, h, w].
        weight: [out, in / groups, k, k], 0 outside the disc.
        bias: [out].
        disc: [k, k] of 0 and 1.
        options: as in `torch.nn.functional.conv2d`.
    Returns:
        [b, out, h', w'].
    """
    return _convolve_plain(f, weight, bias, disc, *options)


@torch.library.custom_op("partialsym::convolve_plain", mutates_args=())
def _convolve_plain(
    f: Tensor, weight: Tensor, bias: Tensor, disc: Tensor, padding: int, stride: int, dilation: int, groups: int
) -> Tensor:
    options = Options(padding, stride, dilation, groups)
    dtype = computed_in("spectral", f.dtype)
    with torch.autocast(f.device.type, enabled=False):
        return plain(f.contiguous(), weight.to(dtype), bias.to(dtype), disc.to(dtype), options).contiguous()


@_convolve_plain.register_fake
def _(
    f: Tensor, weight: Tensor, bias: Tensor, disc: Tensor, padding: int, stride: int, dilation: int, groups: int
) -> Tensor:
    options = Options(padding, stride, dilation, groups)
    return f.new_empty(f.shape[0], len(weight), *options.size(f.shape[2], f.shape[3], len(disc)))
