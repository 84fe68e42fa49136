"""The spectral order against plain convolutions, layer by layer: `python -m benchmarks.spectral`.

Forward and backward towards input and weights, one thread, float32 or, with `bf16` after the command, bf16; a layer of
8 elements and 32 features beside `F.conv2d` with as many channels.
"""

import sys
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.rows import quotient
from partialsym.nn.conv import disc
from partialsym.ops import FactoredKernel, convolve

ELEMENTS, FEATURES = 8, 32
Step = Callable[[], tuple[Tensor, ...]]
LAYERS = [  # kernel, images, channels, side of the map
    (7, 64, 128, 14),
    (7, 64, 256, 14),
    (7, 64, 256, 7),
    (7, 64, 64, 16),
    (7, 32, 128, 16),
    (7, 16, 128, 32),
    (5, 64, 128, 14),
    (5, 64, 256, 7),
    (5, 64, 64, 16),
    (5, 64, 128, 8),
    (3, 64, 128, 14),
    (3, 32, 256, 32),
    (3, 32, 512, 16),
    (3, 32, 1024, 8),
    (3, 64, 128, 8),
]


def main() -> None:
    torch.set_num_threads(1)
    half = "bf16" in sys.argv
    for kernel, images, channels, side in LAYERS:
        ours, plain = steps(kernel, images, channels, side, torch.bfloat16 if half else torch.float32)
        name = f"{kernel}×{kernel}, {images} images, {channels} channels, {side}×{side}"
        row = quotient(name, ours, plain, precision="bf16" if half else "float32", pairs=6, unit="of conv2d")
        sys.stdout.write(row.line() + "\n")
        sys.stdout.flush()


def steps(kernel: int, images: int, channels: int, side: int, dtype: torch.dtype) -> tuple[Step, Step]:
    """One call of each, of the spectral order and of the plain convolution."""
    per = channels // ELEMENTS
    f = torch.randn(images, per, ELEMENTS, side, side).to(dtype).requires_grad_()
    weight, bias = torch.randn(per, per, FEATURES).requires_grad_(), torch.randn(per, per).requires_grad_()
    taps = disc(kernel)[1].float()
    phi = (torch.randn(ELEMENTS, FEATURES, ELEMENTS, kernel, kernel) * taps).requires_grad_()
    k = FactoredKernel(weight, bias, phi, torch.full((ELEMENTS,), 1 / ELEMENTS), taps)
    flat = f.detach().flatten(1, 2).requires_grad_()
    whole = torch.randn(channels, channels, kernel, kernel).to(dtype).requires_grad_()

    def ours() -> tuple[Tensor, ...]:
        out = convolve(f, k, None, kernel // 2, "spectral")
        return torch.autograd.grad(out, [f, weight, bias, phi], torch.ones_like(out))

    def plain() -> tuple[Tensor, ...]:
        out = F.conv2d(flat, whole, padding=kernel // 2)
        return torch.autograd.grad(out, [flat, whole], torch.ones_like(out))

    return ours, plain


if __name__ == "__main__":
    main()
