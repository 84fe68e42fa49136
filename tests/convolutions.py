"""A convolution's arguments, its definition, and its orders of summation beside that."""

import torch
from torch.nn import functional as F

from partialsym.ops import PATHS, FactoredKernel, convolve

ORDERS = PATHS[1:]
B, IN, OUT, N, M, H = 3, 4, 5, 3, 2, 6


def arguments(k, *, size=(7, 6), dtype=torch.float64):
    disc = (torch.rand(k, k) > 0.3).to(dtype)
    disc[k // 2, k // 2] = 1
    phi = torch.randn(M, H, N, k, k, dtype=dtype) * disc
    parts = [torch.randn(OUT, IN, H, dtype=dtype), torch.randn(OUT, IN, dtype=dtype), phi, torch.rand(N, dtype=dtype)]
    leaves = [torch.randn(B, IN, N, *size, dtype=dtype), *parts, torch.randn(OUT, dtype=dtype)]
    for leaf in leaves:
        leaf.requires_grad_()
    return leaves, disc


def naive(f, weight, bias, phi, mean, offset, disc, padding):
    kernel = torch.einsum("oih,mhnyx->ominyx", weight, phi)
    kernel = kernel + torch.einsum("oi,n,yx->oinyx", bias, mean, disc)[:, None]
    out = F.conv2d(f.flatten(1, 2), kernel.flatten(2, 3).flatten(0, 1), padding=padding)
    return out.unflatten(1, (OUT, M)) + offset[:, None, None, None]


def by_path(path):
    def run(f, weight, bias, phi, mean, offset, disc, padding):
        return convolve(f, FactoredKernel(weight, bias, phi * disc, mean, disc), offset, padding, path)

    return run


def gradients(run, leaves, disc, padding, grad):
    out = run(*leaves, disc, padding)
    return out, torch.autograd.grad(out, leaves, grad)
