"""A convolution's arguments, its definition, and its orders of summation beside that."""

import math

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from partialsym.ops import PATHS, FactoredKernel, convolve

ORDERS = PATHS[1:]
TRANSFORMS = {"along lines": 0, "in one": 64}  # values of `fourier.SMALL`, for planes as small as these
B, IN, OUT, N, M, H = 3, 4, 5, 3, 2, 6


def arguments(k, *, size=(7, 6), dtype=torch.float64, groups=1):
    disc = (torch.rand(k, k) > 0.3).to(dtype)
    disc[k // 2, k // 2] = 1
    phi = torch.randn(M, H, N, k, k, dtype=dtype) * disc
    out, into = (OUT, IN) if groups == 1 else (6, IN // groups)
    parts = [torch.randn(out, into, H, dtype=dtype), torch.randn(out, into, dtype=dtype), phi]
    leaves = [torch.randn(B, IN, N, *size, dtype=dtype), *parts, torch.rand(N, dtype=dtype)]
    leaves.append(torch.randn(out, dtype=dtype))
    for leaf in leaves:
        leaf.requires_grad_()
    return leaves, disc


def naive(f, weight, bias, phi, mean, offset, disc, padding, **options):
    kernel = torch.einsum("oih,mhnyx->ominyx", weight, phi)
    kernel = kernel + torch.einsum("oi,n,yx->oinyx", bias, mean, disc)[:, None]
    out = F.conv2d(f.flatten(1, 2), kernel.flatten(2, 3).flatten(0, 1), padding=padding, **options)
    return out.unflatten(1, (len(weight), M)) + offset[:, None, None, None]


def by_path(path):
    def run(f, weight, bias, phi, mean, offset, disc, padding, **options):
        return convolve(f, FactoredKernel(weight, bias, phi * disc, mean, disc), offset, padding, path, **options)

    return run


def gradients(run, leaves, disc, padding, grad, **options):
    out = run(*leaves, disc, padding, **options)
    return out, torch.autograd.grad(out, leaves, grad)


def multiplied(call):
    """Operations of a call, two a multiplication, by torch's counter."""
    added = dict.fromkeys((torch.ops.aten.addmm_, torch.ops.aten.baddbmm_), _added)
    with FlopCounterMode(display=False, custom_mapping=added) as counter:
        call()
    return counter.get_total_flops()


def _added(into, a, b, *_, **options):
    """Operations of a product that is added in place, which torch's counter does not know."""
    return 2 * math.prod(a) * b[-1]
