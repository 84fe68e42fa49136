"""The spectral order of summation: in the frequency domain, a convolution is a product at every frequency.

    ŷ[o, m](ω) = Σ_{i, n} k̂[o, m, i, n](ω)·f̂[i, n](ω),    k̂(ω) = Σ_t k[t]·exp(iω·t)

A plane of h × w pixels with padding p is one period of (h + p) × (w + p) pixels. Wrap-around then affects only pixels
that are not read. A stride leaves pixels of the output out, a dilation moves the taps t apart, and every channel group
is a convolution of its own. A real signal needs only half of the frequencies. All steps are products of matrices. BLAS
reads their operands transposed, so frequencies come first without a copy of the spectra. The work is split
into chunks that stay in the cache: the kernel's spectrum is formed for some frequencies at a time, never as a whole.
Only the arguments are saved for the backward pass.
"""

from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from partialsym._utils.layout import empty
from partialsym.ops.conv2d import Options
from partialsym.ops.fourier import Spaces, Window, analysed, frequencies, pays_in_one, period_of, synthesised, window
from partialsym.ops.orders import CHUNK_BYTES, FactoredKernel, Gradients, augmented, chunks
from partialsym.ops.taps import Half, Taps, TapsGradient, half_of

IMAGES = 8  # limit of the images' spectrum, in chunks
TAPS, SPECTRUM = 2, 8  # numbers of kernels, and of kernels' spectra, that must fit into a chunk together


def spectral(
    f: Tensor, k: FactoredKernel, offset: Tensor | None, options: Options, channels_last: bool = False
) -> Tensor:
    """f [b, in, n, h, w] → [b, out, m, h', w'] by products at every frequency, plus offset [out]."""
    return _convolved(f, *augmented(k), k.disc, offset, options, channels_last)


def plain(f: Tensor, weight: Tensor, offset: Tensor, disc: Tensor, options: Options) -> Tensor:
    """f [b, in, h, w] → [b, out, h', w'] with weight [out, in / groups, k, k], 0 outside the disc, plus offset [out].

    The kernel has one feature per tap.
    """
    phi = disc.flatten().diag().view(1, -1, 1, *disc.shape)
    return _convolved(f[:, :, None], weight.flatten(2), phi, disc, offset, options)[:, :, 0]


def _convolved(
    f: Tensor,
    weight: Tensor,
    phi: Tensor,
    disc: Tensor,
    offset: Tensor | None,
    options: Options,
    channels_last: bool = False,
) -> Tensor:
    plan = _plan(f, weight, phi, disc, options)
    shape = (len(f), len(weight), len(phi), *options.size(f.shape[3], f.shape[4], len(disc)))
    out = empty(f, shape, channels_last)
    kernel, spaces = Taps(weight, phi, plan.half), Spaces(weight)
    for images, (into, parts) in product(plan.images, plan.groups):
        f_hat = analysed(plan.into, f[images, into].transpose(1, 2), spaces, "f")
        for outs in parts:
            taps = kernel.taps(outs, spaces)
            y_hat = spaces("y", *f_hat.shape[:3], taps.shape[1])
            for at in plan.chunks(taps):
                _multiply(f_hat[:, at], kernel.spectrum(taps, at, spaces).mT, y_hat[:, at])
            synthesised(plan.out, y_hat, out[images, outs], None if offset is None else offset[outs], spaces)
    return out


def spectral_backward(grad: Tensor, f: Tensor, k: FactoredKernel, options: Options, wanted: bool) -> Gradients:
    """The gradients of `spectral`, which compute the spectra again; that of f only if wanted."""
    weight, phi = augmented(k)
    plan = _plan(f, weight, phi, k.disc, options)
    sums, d_f = TapsGradient(Taps(weight, phi, plan.half)), torch.empty_like(f) if wanted else None
    del phi  # the taps have their own copy
    _gather(grad, f, plan, sums, d_f)
    d_weight, d_phi = sums.result()
    d_mean = (d_phi[:, -1] * k.disc).sum((0, 2, 3))
    return Gradients(d_f, d_weight[..., :-1].clone(), d_weight[..., -1].clone(), d_phi[:, :-1], d_mean)


def _gather(grad: Tensor, f: Tensor, plan: "_Plan", sums: TapsGradient, d_f: Tensor | None) -> None:
    """Add the gradients to `sums`, and write that of f to `d_f` if wanted. The workspace is freed at the end."""
    kernel, spaces = sums.of, Spaces(sums.of.weight)
    for images, (into, parts) in product(plan.images, plan.groups):
        f_hat = analysed(plan.into, f[images, into].transpose(1, 2), spaces, "f")
        d_hat = f_hat if len(parts) == 1 else spaces("d_f", *f_hat.shape)  # f_hat is used once, then overwritten
        for outs in parts:
            g_hat = analysed(plan.out, grad[images, outs], spaces, "y")
            taps = None if d_f is None else kernel.taps(outs, spaces)  # overwrites `spare`, so before d_taps
            d_taps = kernel.empty(outs, spaces, "spare")
            for at in plan.chunks(d_taps):
                d_spectrum = spaces("scratch", 2, at.stop - at.start, *d_taps.shape[1:])
                _multiply(g_hat[:, at].mT, f_hat[:, at], d_spectrum, conjugate=True)
                sums.gather(d_taps, d_spectrum, at)
                if taps is not None:
                    k_hat = kernel.spectrum(taps, at, spaces)
                    _multiply(g_hat[:, at], k_hat, d_hat[:, at], conjugate=True, more=outs is not parts[0])
            sums.add(outs, d_taps, spaces)
        if d_f is not None:
            synthesised(plan.into, d_hat, d_f[images, into].transpose(1, 2), None, spaces)


class _Plan(NamedTuple):
    """Transforms of input and output, the kernel's taps, and the chunks of the work.

    groups: for every channel group, its input channels, and its output channels in chunks.
    """

    into: Window
    out: Window
    half: Half
    images: list[slice]
    groups: list[tuple[slice, list[slice]]]
    frequencies: int
    limit: int

    def chunks(self, taps: Tensor) -> list[slice]:
        """Slices of frequencies for which a kernel's spectrum fits into a chunk."""
        return chunks(self.frequencies, SPECTRUM * 2 * taps[0].nbytes, self.limit)


def _plan(f: Tensor, weight: Tensor, phi: Tensor, disc: Tensor, options: Options) -> _Plan:
    padding, stride, dilation, groups = options
    like = weight.dtype, f.device
    size, into_each, out_each = len(disc), weight.shape[1], len(weight) // groups
    height, width = f.shape[3:]
    period = period_of(height, width, padding)
    planes = len(f) * into_each * f.shape[2], len(f) * out_each * len(phi)  # of one channel group
    sides = (height, width), options.size(height, width, size)
    in_one = [pays_in_one(*of, period) for of in zip(planes, sides, strict=True)]
    into = window(period, 0, sides[0], 1, False, in_one[0], *like)
    out = window(period, dilation * (size // 2) - padding, sides[1], stride, True, in_one[1], *like)
    limit = CHUNK_BYTES.get(f.device.type, CHUNK_BYTES["cuda"])
    count, plane_bytes = frequencies(*period), into_each * f.shape[2] * weight.element_size()
    images = chunks(len(f), 2 * count * plane_bytes, IMAGES * limit)
    parts = chunks(out_each, TAPS * size * size * len(phi) * plane_bytes, limit)
    by_group = [
        (
            slice(g * into_each, (g + 1) * into_each),
            [slice(g * out_each + p.start, g * out_each + p.stop) for p in parts],
        )
        for g in range(groups)
    ]
    return _Plan(into, out, half_of(disc, dilation, period), images, by_group, count, limit)


def _multiply(a: Tensor, b: Tensor, out: Tensor, conjugate: bool = False, more: bool = False) -> None:
    """Write a·b, or a·b̄ if `conjugate`, of complex [2, frequencies, ., .] into out; add it to out if `more`."""
    (re, im), (a_re, a_im), (b_re, b_im), sign = out.unbind(), a.unbind(), b.unbind(), -1 if conjugate else 1
    re.baddbmm_(a_re, b_re, beta=int(more)).baddbmm_(a_im, b_im, alpha=-sign)
    im.baddbmm_(a_im, b_re, beta=int(more)).baddbmm_(a_re, b_im, alpha=sign)
