"""A plain convolution in the frequency domain, as a custom operator of torch."""

import torch
from torch import Tensor

from partialsym.ops.choice import computed_in
from partialsym.ops.orders import Options
from partialsym.ops.spectral import plain


def convolve_plain(f: Tensor, weight: Tensor, bias: Tensor, disc: Tensor, padding: int) -> Tensor:
    """`torch.nn.functional.conv2d` for kernels on a disc, computed at least in float32; it has no derivative.

    Args:
        f: [b, in, h, w].
        weight: [out, in, k, k], 0 outside the disc.
        bias: [out].
        disc: [k, k] of 0 and 1.
        padding: zeros on each side.
    Returns:
        [b, out, h', w'].
    """
    return _convolve_plain(f, weight, bias, disc, padding)


@torch.library.custom_op("partialsym::convolve_plain", mutates_args=())
def _convolve_plain(f: Tensor, weight: Tensor, bias: Tensor, disc: Tensor, padding: int) -> Tensor:
    dtype = computed_in("spectral", f.dtype)
    with torch.autocast(f.device.type, enabled=False):
        return plain(f.contiguous(), weight.to(dtype), bias.to(dtype), disc.to(dtype), Options(padding)).contiguous()


@_convolve_plain.register_fake
def _(f: Tensor, weight: Tensor, bias: Tensor, disc: Tensor, padding: int) -> Tensor:
    return f.new_empty(f.shape[0], len(weight), *Options(padding).size(f.shape[2], f.shape[3], len(disc)))
