"""The dense and the factored order of summation, for a kernel that is a sum of features, k = Σ_h W_h·φ_h + b.

    out[b, o, m, x] = Σ_{i, n, t} (Σ_h W[o, i, h]·φ[m, h, n, t] + b[o, i]·w[n]·disc[t])·f[b, i, n, x + t]

*Dense* forms the kernel and convolves with it. *Factored* convolves with the features and mixes channels afterwards. It
computes the same function with h/out_channels + h/(n·k²) of the multiplications. Both save only their arguments for the
backward pass. They work in chunks, so that a large kernel or the feature maps are never in memory as a whole.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from partialsym._utils.layout import flat, is_channels_last, to_channels_last
from partialsym.ops.conv2d import Options, conv2d, conv2d_backward

CHUNK_BYTES = {"cpu": 2**24, "cuda": 2**28}  # of intermediates: fits into a last-level cache; occupies a GPU
MIXED = 64  # feature maps, at least, that one product mixes: it is slow for few


class FactoredKernel(NamedTuple):
    """The parts of a kernel k = Σ_h W_h·φ_h + b·mean·disc.

    weight [out, in, h], bias [out, in]: the last layer of a kernel network; `in` are the channels of one group.
    phi [m, h, n, k, k]: the features, 0 outside the disc. They include the weights of the input's elements, except if
        all are 1/n: a product of matrices can include a number at no cost.
    mean [n]: normalised weights of the input's elements; None if all are 1/n.
    disc [k, k]: 1 inside the disc, 0 outside.
    """

    weight: Tensor
    bias: Tensor
    phi: Tensor
    mean: Tensor | None
    disc: Tensor

    def to(self, dtype: torch.dtype) -> "FactoredKernel":
        return FactoredKernel(*(None if part is None else part.to(dtype) for part in self))  # type: ignore[arg-type]

    @property
    def share(self) -> float:
        """The factor that phi does not include: 1/n, or 1 if `mean` is not None."""
        return 1 / self.phi.shape[2] if self.mean is None else 1.0

    def weighted(self) -> "FactoredKernel":
        """The kernel with features that include all weights, as the factored and the spectral order need it."""
        return self if self.mean is not None else self._replace(phi=self.phi * self.share)

    def whole(self) -> Tensor:
        """The weight of the equivalent plain convolution, [(out m), (in n), k, k]."""
        k = self.weighted()
        kernel = torch.einsum("oif,mfnyx->ominyx", k.weight, k.phi)
        bias = torch.einsum("oi,mnyx->ominyx", k.bias, k.box[:, 0])
        return (kernel + bias).flatten(2, 3).flatten(0, 1)

    @property
    def box(self) -> Tensor:
        """mean ⊗ disc, [m, 1, n, k, k]: the feature of the bias of a `weighted` kernel."""
        box = self.disc / self.phi.shape[2] if self.mean is None else self.mean[:, None, None] * self.disc
        return box.expand(len(self.phi), 1, *self.phi.shape[2:])


class Gradients(NamedTuple):
    """Gradients with respect to f and the parts of a kernel; that of f is None if it was not wanted."""

    f: Tensor | None
    weight: Tensor
    bias: Tensor
    phi: Tensor
    mean: Tensor | None


def dense(f: Tensor, k: FactoredKernel, offset: Tensor | None, options: Options, channels_last: bool = False) -> Tensor:
    """f [b, in, n, h, w] → [b, out, m, h', w'] by a plain convolution with the whole kernel, plus offset [out]."""
    whole, features = _matrices(k)
    maps, size, channels = flat(f), len(k.disc), len(k.weight)
    shape = (len(f), channels, len(k.phi), *options.size(f.shape[3], f.shape[4], size))
    if (
        channels_last
        or options.groups > 1
        or kernel_is_smaller(len(whole) * features[0].numel(), len(k.phi), math.prod(shape))
    ):
        kernel = _generated(whole, features, k.share).unflatten(1, (channels, -1)).transpose(0, 1)  # [out, m, in, n·k²]
        bias = None if offset is None else offset.repeat_interleave(len(k.phi))
        kernel = kernel.reshape(channels * len(k.phi), -1, size, size)
        out = conv2d(maps, to_channels_last(kernel) if channels_last else kernel, bias, options)
        return (to_channels_last(out) if channels_last else out).view(shape)
    out = f.new_empty(shape)
    for chunk in _element_chunks(whole, features):
        kernel = _generated(whole, features[:, chunk], k.share).view(-1, maps.shape[1], size, size)  # [(m out), (in n)]
        part = conv2d(maps, kernel, None, options).unflatten(1, (-1, channels)).transpose(1, 2)
        if offset is None:
            out[:, :, chunk] = part
        else:
            torch.add(part, offset[:, None, None, None], out=out[:, :, chunk])
    return out


def dense_backward(grad: Tensor, f: Tensor, k: FactoredKernel, options: Options, wanted: bool) -> Gradients:
    """The gradients of `dense`, which form the kernel again; that of f only if wanted."""
    whole, features = _matrices(k)
    maps, size, channels, last = flat(f), len(k.disc), len(k.weight), is_channels_last(grad)
    d_maps, d_whole, d_features = None, None, []
    maps = to_channels_last(maps) if last else maps
    small = last or options.groups > 1 or kernel_is_smaller(len(whole) * features[0].numel(), len(k.phi), grad.numel())
    into = maps.shape[1] // options.groups
    for chunk in [slice(0, len(k.phi))] if small else _element_chunks(whole, features):
        g = flat(grad) if small else grad[:, :, chunk].transpose(1, 2).flatten(1, 2)
        kernel = whole.new_empty(1).expand(g.shape[1], into, size, size)
        if wanted:
            kernel = _generated(whole, features[:, chunk], k.share)
            if small:
                kernel = kernel.unflatten(1, (channels, -1)).transpose(0, 1)
            kernel = kernel.reshape(g.shape[1], into, size, size)
            kernel = to_channels_last(kernel) if last else kernel
        part, d_kernel = conv2d_backward(g, maps, kernel, options, (wanted, True))
        if wanted:
            d_maps = part.to(_wide(f)) if d_maps is None else d_maps.add_(part)
        if small:
            d_kernel = d_kernel.reshape(channels, len(k.phi), -1, features.shape[2]).transpose(1, 2)
        else:
            d_kernel = d_kernel.reshape(-1, len(whole), features.shape[2]).transpose(0, 1)
        d_kernel = d_kernel.reshape(len(whole), -1)  # [(out in), (m n k²)]
        more = _scaled(d_kernel, features[:, chunk].flatten(1).T, k.share).to(_wide(f))
        d_whole = more if d_whole is None else d_whole.add_(more)
        d_features.append(_scaled(whole.T, d_kernel, k.share).to(_wide(f)).unflatten(1, (-1, *k.phi.shape[2:])))
    assert d_whole is not None
    d_phi = d_features[0] if len(d_features) == 1 else torch.cat(d_features, 1)  # [h + 1, m, n, k, k]
    d_mean = None if k.mean is None else (d_phi[-1] * k.disc).sum((0, 2, 3))
    d_f = None if d_maps is None else d_maps.to(f.dtype).view(f.shape)
    d_weight, d_bias = (part.unflatten(0, k.bias.shape) for part in (d_whole[:, :-1], d_whole[:, -1].clone()))
    return Gradients(d_f, d_weight, d_bias, d_phi[:-1].transpose(0, 1), d_mean)


def factored(f: Tensor, k: FactoredKernel, offset: Tensor | None, options: Options) -> Tensor:
    """f [b, in, n, h, w] → [b, out, m, h', w'] by convolving with the features, then mixing channels, plus offset."""
    base = _of_bias(f, k, offset, options)
    out = f.new_empty(len(f), len(k.weight), len(k.phi), *base.shape[2:])
    for images, elements, slices in _map_chunks(f, k, out, options):
        part, filters = out[images, :, elements], _filters(k.phi[elements])
        in_place = part.is_contiguous() and options.groups == 1 and f.dtype == _wide(f)
        mixed = part.copy_(base[images, :, None]).flatten(2) if in_place else None
        for channels in slices:
            maps = _feature_maps(_channels(f[images], channels, options), filters, part.shape[2], options)
            mixed = _add_product(mixed, _by_group(k.weight[:, channels].flatten(1), 0, options), maps)
            del maps  # before the next ones: new pages would take as long as the convolution
        assert mixed is not None
        if not in_place:
            torch.add(mixed.view(part.shape), base[images, :, None], out=part)
    return out


def factored_backward(grad: Tensor, f: Tensor, k: FactoredKernel, options: Options, wanted: bool) -> Gradients:
    """The gradients of `factored`, which compute the feature maps again; that of f only if wanted."""
    d_bias, d_mean, d_base = _of_bias_backward(grad, f, k, options, wanted)
    d_f = d_base if d_base is None or d_base.is_contiguous() else torch.empty_like(f, dtype=d_base.dtype)
    d_weight, d_phi = (torch.empty_like(part, dtype=_wide(f)) for part in (k.weight, k.phi))
    one_group = options._replace(groups=1)
    for images, elements, slices in _map_chunks(f, k, grad, options):
        g, filters = grad[images, :, elements], _filters(k.phi[elements])
        m, g = g.shape[2], _by_group(g.flatten(2), 1, options)
        for channels in slices:
            part = _channels(f[images], channels, options)
            maps = _feature_maps(part, filters, m, options)
            d_mix = _products(g, maps).view(len(k.weight), -1, k.weight.shape[2])
            _add_up(d_weight[:, channels], d_mix, first=images.start == elements.start == 0)
            del maps, d_mix  # as in `factored`
            mix = _by_group(k.weight[:, channels].flatten(1), 0, options)
            d_maps = _each(mix.mT, g).view(-1, len(filters), *grad.shape[3:])
            d_part, d_filters = conv2d_backward(d_maps, part.flatten(0, -4), filters, one_group, (wanted, True))
            d_filters = d_filters.unflatten(0, (-1, m)).transpose(0, 1)
            _add_up(d_phi[elements], d_filters, first=images.start == channels.start == 0)
            if d_f is not None and d_base is not None:
                so_far = _channels((d_f if elements.start else d_base)[images], channels, options)
                torch.add(so_far, d_part.view(part.shape), out=_channels(d_f[images], channels, options))
            del d_maps, d_part, d_filters
    return Gradients(None if d_f is None else d_f.to(f.dtype), d_weight, d_bias, d_phi, d_mean)


def augmented(k: FactoredKernel) -> tuple[Tensor, Tensor]:
    """The kernel with its bias as one more feature: weights [out, in, h + 1] and features [m, h + 1, n, k, k]."""
    return torch.cat([k.weight, k.bias[..., None]], 2), torch.cat([k.phi, k.box], 1)


def _matrices(k: FactoredKernel) -> tuple[Tensor, Tensor]:
    """Weights [(out in), h + 1] and features [h + 1, m, n·k²] of the kernel without its share, the bias among them."""
    box = k.disc.expand_as(k.phi[:, :1]) if k.mean is None else k.box
    weight, phi = torch.cat([k.weight, k.bias[..., None]], 2), torch.cat([k.phi.transpose(0, 1), box.transpose(0, 1)])
    return weight.flatten(0, 1), phi.flatten(2)


def _generated(whole: Tensor, features: Tensor, share: float) -> Tensor:
    """The kernels of output elements, [m, (out in), n·k²]."""
    batch = features.transpose(0, 1)
    return torch.baddbmm(whole.new_empty(()), whole.expand(len(batch), -1, -1), batch, beta=0, alpha=share)


def _scaled(a: Tensor, b: Tensor, factor: float) -> Tensor:
    """factor·a·b for matrices, in one call."""
    return torch.addmm(a.new_empty(()), a, b, beta=0, alpha=factor)


def kernel_is_smaller(kernel: int, m: int, outputs: int) -> bool:
    """Whether to transpose the whole kernel to the output's layout, `out` before m, instead of transposing the output.

    The kernel is generated with m before `out`, by one product of matrices per chunk. The smaller tensor is transposed.

    Args:
        kernel, outputs: how many numbers the kernel and the output have.
        m: elements of the output.
    """
    return m == 1 or kernel <= outputs


def _plane(f: Tensor, k: FactoredKernel) -> Tensor:
    """The weighted mean over the input's elements, [b, in, h, w]; the kernel's bias depends on nothing else."""
    return f.mean(2) if k.mean is None else torch.einsum("binhw,n->bihw", f, k.mean)


def _each(matrix: Tensor, batch: Tensor) -> Tensor:
    """The product of a matrix [., k], or of one matrix per group, with each matrix of a batch [b, k, .].

    If the matrix is a parameter, `torch.matmul` folds the batch into one product, and copies it for that.
    """
    return torch.matmul(matrix, batch) if matrix.dim() > 2 else torch.bmm(matrix.expand(len(batch), -1, -1), batch)


def _add_up(total: Tensor, more: Tensor, first: bool) -> None:
    """total + more, in place; `more` alone if it is the first term."""
    total.copy_(more) if first else total.add_(more)


def _add_product(total: Tensor | None, matrix: Tensor, batch: Tensor) -> Tensor:
    """total + `_each` of matrix and batch, in place; from two terms on in the dtype of sums."""
    if total is None:
        return _each(matrix, batch)
    if matrix.dim() == 2 and batch.dtype == _wide(batch):
        return total.baddbmm_(matrix.expand(len(batch), -1, -1), batch)
    return total.to(_wide(batch)).add_(_each(matrix, batch))


def _products(a: Tensor, b: Tensor) -> Tensor:
    """Σ a·bᵀ over a batch of matrices [b, ., k], or [b, groups, ., k], in the dtype of sums."""
    if a.dim() == 3 and a.dtype == _wide(a):
        return a.new_empty(a.shape[1], b.shape[1]).addbmm_(a, b.mT, beta=0)
    return (torch.bmm if a.dim() == 3 else torch.matmul)(a, b.mT).sum(0, dtype=_wide(a))


def _of_bias(f: Tensor, k: FactoredKernel, offset: Tensor | None, options: Options) -> Tensor:
    """What the kernel's bias and offset add to the output, the same for all its elements: [b, out, h', w'].

    Each channel of the plane is summed over the disc, then channels are mixed, in the dtype of sums: a sum over the
    disc in 16 bits would lose digits.
    """
    plane = _plane(f, k).to(_wide(f))
    disc, each = _by_channel(k.disc, plane, options)
    boxed = conv2d(plane, disc, None, each)
    mixed = _each(_by_group(k.bias.to(plane.dtype), 0, options), _by_group(boxed.flatten(2), 1, options))
    base = mixed.view(len(f), len(k.bias), *boxed.shape[2:])
    return base if offset is None else base.add_(offset[:, None, None])


def _of_bias_backward(
    grad: Tensor, f: Tensor, k: FactoredKernel, options: Options, wanted: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The gradients of `_of_bias` with respect to the kernel's bias, its mean, and f if wanted, perhaps expanded."""
    plane = _plane(f, k).to(_wide(f))
    disc, each = _by_channel(k.disc, plane, options)
    boxed, d_base = conv2d(plane, disc, None, each), _by_group(grad.sum(2, dtype=plane.dtype).flatten(2), 1, options)
    d_bias = _products(d_base, _by_group(boxed.flatten(2), 1, options)).view(k.bias.shape)
    d_boxed = _each(_by_group(k.bias.to(plane.dtype), 0, options).mT, d_base).view(boxed.shape)
    d_plane = conv2d_backward(d_boxed, plane, disc, each, (True, False))[0]
    d_mean = None if k.mean is None else torch.einsum("bihw,binhw->n", d_plane, f.to(plane.dtype))
    shares = 1 / f.shape[2] if k.mean is None else k.mean[:, None, None]
    return d_bias, d_mean, (d_plane[:, :, None] * shares).expand_as(f) if wanted else None


def _by_channel(disc: Tensor, plane: Tensor, options: Options) -> tuple[Tensor, Options]:
    """The disc as a filter for each channel of a plane [b, in, h, w], and the options to convolve with it."""
    channels = plane.shape[1]
    return disc.to(plane.dtype).expand(channels, 1, -1, -1), options._replace(groups=channels)


def _by_group(x: Tensor, axis: int, options: Options) -> Tensor:
    """Split an axis of channels into [groups, channels per group] if there are several groups."""
    return x if options.groups == 1 else x.unflatten(axis, (options.groups, -1))


def _channels(f: Tensor, channels: slice, options: Options) -> Tensor:
    """A slice of the channels of each group of f [b, in, n, h, w]: [b, c, n, h, w], or [b, groups, c, n, h, w]."""
    return f[:, channels] if options.groups == 1 else f.unflatten(1, (options.groups, -1))[:, :, channels]


def _filters(phi: Tensor) -> Tensor:
    """The features [m, h, n, k, k] as filters of a plain convolution, [h·m, n, k, k]."""
    return phi.transpose(0, 1).flatten(0, 1)


def _feature_maps(f: Tensor, filters: Tensor, m: int, options: Options) -> Tensor:
    """f [..., c, n, h, w] convolved with filters [h·m, n, k, k]: [..., c·h, m·h'·w']."""
    maps = conv2d(f.flatten(0, -4), filters, None, options._replace(groups=1))
    return maps.view(*f.shape[:-4], f.shape[-4] * len(filters) // m, m * math.prod(maps.shape[2:]))


def _element_chunks(whole: Tensor, features: Tensor) -> list[slice]:
    """Slices of output elements whose kernels fit into a chunk."""
    each = len(whole) * features.shape[2] * whole.element_size()
    return chunks(features.shape[1], each, CHUNK_BYTES.get(whole.device.type, CHUNK_BYTES["cuda"]))


def _map_chunks(f: Tensor, k: FactoredKernel, out: Tensor, options: Options) -> list[tuple[slice, slice, list[slice]]]:
    """Slices of images and of output elements, each with slices of the channels of a group, by the size of their maps.

    On a CPU these are a quarter of a chunk. They are read from the cache then, and glibc seldom returns their memory
    to the system: new pages would take longer than the convolution. A slice has enough channels for a fast product.
    Elements are divided only where the maps of that many channels of an image exceed a whole chunk.
    """
    device, count, (m, h) = f.device.type, k.weight.shape[1], k.phi.shape[:2]
    limit, least = CHUNK_BYTES.get(device, CHUNK_BYTES["cuda"]), min(count, -(-MIXED // h))
    each = options.groups * h * math.prod(out.shape[3:]) * f.element_size()
    elements = chunks(m, least * each, limit)
    each *= elements[0].stop * (4 if device == "cpu" else 1)
    images = chunks(len(f), count * each, limit)
    channels = chunks(count, images[0].stop * each, max(limit, least * images[0].stop * each))
    return [(i, e, channels) for i in images for e in elements]


def chunks(count: int, each: int, limit: int) -> list[slice]:
    """Nearly equal slices of `count` items of `each` bytes: `limit` bytes per slice on average, or one larger item.

    The first slice is the largest, so that the others can reuse its memory.
    """
    parts = max(1, min(count, -(-count * each // limit)))
    bounds = [-(-count * part // parts) for part in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(bounds)]


def _wide(f: Tensor) -> torch.dtype:
    """The dtype of sums over chunks."""
    return torch.promote_types(f.dtype, torch.float32)
