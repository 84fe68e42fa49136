"""The two orders of summation of a convolution whose kernel is a sum of features, k = Σ_h W_h·φ_h + b.

    out[b, o, m, x] = Σ_{i, n, t} (Σ_h W[o, i, h]·φ[m, h, n, t] + b[o, i]·w[n]·disc[t])·f[b, i, n, x + t]

*Dense* forms the kernel and convolves with it. *Factored* convolves with the features and mixes channels afterwards:
the same function in h/out_channels + h/(n·k²) of the multiplications. Both keep nothing but their arguments for the
backward pass and work in chunks, so that neither a large kernel nor the feature maps are ever held as a whole.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK_BYTES = {"cpu": 2**24, "cuda": 2**28}  # of an intermediate: what a last-level cache holds; what fills a GPU


class FactoredKernel(NamedTuple):
    """k = Σ_h W_h·φ_h + b, in its parts.

    weight [out, in, h] and bias [out, in], the last layer of a kernel network; phi [m, h, n, k, k], its features, 0
    outside the disc; mean [n], the weights of the input's elements; disc [k, k] of 0 and 1.
    """

    weight: Tensor
    bias: Tensor
    phi: Tensor
    mean: Tensor
    disc: Tensor

    def to(self, dtype: torch.dtype) -> "FactoredKernel":
        return FactoredKernel(*(part.to(dtype) for part in self))


class Gradients(NamedTuple):
    """Towards f and the parts of a kernel; None where none was asked for."""

    f: Tensor | None
    weight: Tensor
    bias: Tensor
    phi: Tensor
    mean: Tensor


def dense(f: Tensor, k: FactoredKernel, offset: Tensor | None, padding: int) -> Tensor:
    """f [b, in, n, h, w] → [b, out, m, h', w'] by the plain convolution with the whole kernel, plus offset [out]."""
    whole, features = _augmented(k)
    flat, size, channels = f.flatten(1, 2), len(k.disc), len(k.weight)
    shrink = 2 * padding + 1 - size
    shape = (len(f), channels, len(k.phi), f.shape[3] + shrink, f.shape[4] + shrink)
    if _kernel_is_smaller(whole, features, math.prod(shape)):
        kernel = torch.matmul(whole, features).unflatten(1, (channels, -1)).transpose(0, 1)  # [out, m, in, n·k²]
        bias = None if offset is None else offset.repeat_interleave(len(k.phi))
        return F.conv2d(flat, kernel.reshape(-1, flat.shape[1], size, size), bias, padding=padding).view(shape)
    out = f.new_empty(shape)
    for chunk in _element_chunks(whole, features):
        kernel = torch.matmul(whole, features[chunk]).view(-1, flat.shape[1], size, size)  # [(m out), (in n), k, k]
        bias = None if offset is None else offset.repeat(chunk.stop - chunk.start)
        part = F.conv2d(flat, kernel, bias, padding=padding)
        out[:, :, chunk] = part.unflatten(1, (-1, channels)).transpose(1, 2)
    return out


def dense_backward(grad: Tensor, f: Tensor, k: FactoredKernel, padding: int, wanted: bool) -> Gradients:
    """The gradients of `dense`, the kernel formed anew; towards f only where wanted."""
    whole, features = _augmented(k)
    flat, size, channels = f.flatten(1, 2), len(k.disc), len(k.weight)
    d_whole = torch.zeros_like(whole, dtype=_wide(f))
    d_features = torch.empty_like(features, dtype=_wide(f))
    d_flat = None
    small = _kernel_is_smaller(whole, features, grad.numel())
    for chunk in [slice(0, len(features))] if small else _element_chunks(whole, features):
        g = grad.flatten(1, 2) if small else grad[:, :, chunk].transpose(1, 2).flatten(1, 2)
        kernel = whole.new_empty(1).expand(g.shape[1], flat.shape[1], size, size)
        if wanted:
            kernel = torch.matmul(whole, features[chunk])
            if small:
                kernel = kernel.unflatten(1, (channels, -1)).transpose(0, 1)
            kernel = kernel.reshape(g.shape[1], flat.shape[1], size, size)
            part = _conv_backward(g, flat, kernel, padding, (True, False))[0]
            d_flat = part.to(_wide(f)) if d_flat is None else d_flat.add_(part)
        d_kernel = _conv_backward(g, flat, kernel, padding, (False, True))[1]
        if small:
            d_kernel = d_kernel.view(channels, len(features), -1).transpose(0, 1)
        d_kernel = d_kernel.reshape(-1, len(whole), features.shape[2])
        d_whole += torch.bmm(d_kernel, features[chunk].transpose(1, 2)).sum(0)
        d_features[chunk] = torch.matmul(whole.T, d_kernel)
    d_whole = d_whole.view(*k.bias.shape, -1)
    d_features = d_features.unflatten(2, k.phi.shape[2:])
    d_mean = (d_features[:, -1] * k.disc).sum((0, 2, 3))
    d_f = None if d_flat is None else d_flat.to(f.dtype).view(f.shape)
    return Gradients(d_f, d_whole[..., :-1].clone(), d_whole[..., -1].clone(), d_features[:, :-1], d_mean)


def factored(f: Tensor, k: FactoredKernel, offset: Tensor | None, padding: int) -> Tensor:
    """f [b, in, n, h, w] → [b, out, m, h', w'] by convolving with the features, then mixing channels, plus offset."""
    base = F.conv2d(_plane(f, k), k.bias[..., None, None] * k.disc, offset, padding=padding)  # alike for all elements
    out = base.new_empty(len(f), len(k.weight), len(k.phi), *base.shape[2:])
    mix = k.weight.flatten(1)
    for images, elements in _map_chunks(f, k, out):
        maps = _feature_maps(f[images], k.phi[elements], padding)
        mixed = torch.matmul(mix, maps).view(out[images, :, elements].shape)
        torch.add(mixed, base[images, :, None], out=out[images, :, elements])
    return out


def factored_backward(grad: Tensor, f: Tensor, k: FactoredKernel, padding: int, wanted: bool) -> Gradients:
    """The gradients of `factored`, feature maps computed anew; towards f only where wanted."""
    plane, square = _plane(f, k), k.bias[..., None, None] * k.disc
    d_plane, d_square = _conv_backward(grad.sum(2), plane, square, padding, (True, True))
    d_bias = (d_square * k.disc).sum((2, 3), dtype=_wide(f))
    d_mean = torch.einsum("bihw,binhw->n", d_plane, f)
    d_f = d_plane[:, :, None].to(_wide(f)) * k.mean[:, None, None] if wanted else None
    mix = k.weight.flatten(1)
    d_mix, d_phi = torch.zeros_like(mix, dtype=_wide(f)), torch.zeros_like(k.phi, dtype=_wide(f))
    for images, elements in _map_chunks(f, k, grad):
        part, phi = f[images], k.phi[elements]
        maps = _feature_maps(part, phi, padding)
        g = grad[images, :, elements].flatten(2)
        d_mix += torch.bmm(g, maps.transpose(1, 2)).sum(0)
        d_maps = torch.matmul(mix.T, g).view(-1, phi.shape[0] * phi.shape[1], *grad.shape[3:])
        filters = phi.transpose(0, 1).flatten(0, 1)
        d_part, d_filters = _conv_backward(d_maps, part.flatten(0, 1), filters, padding, (wanted, True))
        d_phi[elements] += d_filters.view(phi.shape[1], phi.shape[0], *phi.shape[2:]).transpose(0, 1)
        if d_f is not None:
            d_f[images] += d_part.view(part.shape)
    return Gradients(None if d_f is None else d_f.to(f.dtype), d_mix.view(k.weight.shape), d_bias, d_phi, d_mean)


def _augmented(k: FactoredKernel) -> tuple[Tensor, Tensor]:
    """The bias as one more feature: weights [(out in), h + 1] and features [m, h + 1, n·k²]."""
    box = (k.mean[:, None, None] * k.disc).expand(len(k.phi), 1, *k.phi.shape[2:])
    return torch.cat([k.weight, k.bias[..., None]], 2).flatten(0, 1), torch.cat([k.phi, box], 1).flatten(2)


def _kernel_is_smaller(whole: Tensor, features: Tensor, outputs: int) -> bool:
    """Whether to bring the whole kernel into the order of the output, out before m, or what comes out of it.

    Generated, it has m before out: one product of matrices a chunk. The smaller of the two is rearranged.
    """
    return len(features) == 1 or len(features) * len(whole) * features.shape[2] <= outputs


def _plane(f: Tensor, k: FactoredKernel) -> Tensor:
    """The mean over the input's elements, [b, in, h, w]: all that the kernel's bias sees."""
    return torch.einsum("binhw,n->bihw", f, k.mean)


def _feature_maps(f: Tensor, phi: Tensor, padding: int) -> Tensor:
    """f [b, in, n, h, w] convolved with phi [m, h, n, k, k]: [b, in·h, m·h'·w']."""
    maps = F.conv2d(f.flatten(0, 1), phi.transpose(0, 1).flatten(0, 1), padding=padding)  # [b·in, h·m, h', w']
    return maps.view(len(f), f.shape[1] * phi.shape[1], phi.shape[0] * math.prod(maps.shape[2:]))


def _conv_backward(
    grad: Tensor, f: Tensor, weight: Tensor, padding: int, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    d_f, d_weight, _ = torch.ops.aten.convolution_backward(
        grad, f, weight, None, [1, 1], [padding] * 2, [1, 1], False, [0, 0], 1, [*wanted, False]
    )
    return d_f, d_weight


def _element_chunks(whole: Tensor, features: Tensor) -> list[slice]:
    """Output elements whose kernels fit into a chunk."""
    each = len(whole) * features.shape[2] * whole.element_size()
    return chunks(len(features), each, CHUNK_BYTES.get(whole.device.type, CHUNK_BYTES["cuda"]))


def _map_chunks(f: Tensor, k: FactoredKernel, out: Tensor) -> list[tuple[slice, slice]]:
    """Images and output elements whose feature maps fit into a chunk."""
    m, h = k.phi.shape[:2]
    limit = CHUNK_BYTES.get(f.device.type, CHUNK_BYTES["cuda"])
    each = f.shape[1] * h * math.prod(out.shape[3:]) * f.element_size()
    elements = chunks(m, each, limit)
    images = chunks(len(f), each * m, limit)
    return [(i, e) for i in images for e in elements]


def chunks(count: int, each: int, limit: int) -> list[slice]:
    """Nearly equal parts of `count` things of `each` bytes, none above `limit` unless one thing is."""
    parts = max(1, min(count, -(-count * each // limit)))
    bounds = [round(count * part / parts) for part in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(bounds)]


def _wide(f: Tensor) -> torch.dtype:
    """What sums over chunks are kept in."""
    return torch.promote_types(f.dtype, torch.float32)
