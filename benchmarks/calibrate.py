"""Fit the cost model that chooses a convolution's order of summation: `python -m benchmarks.calibrate`.

Every shape is run forward and backward in both orders; the weights printed are those under which the choice loses the
least time over all shapes and precisions. They belong into partialsym/ops/choice.py.
"""

import itertools
import math
import statistics
import sys

import torch

from partialsym.ops import Calibration, FactoredKernel, Shape, convolve, relative_time
from partialsym.profiling import interleaved

PAIRS = 5
STEPS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 12.0)
MAPS = (0.0, 100.0, 200.0, 300.0, 400.0, 500.0, 600.0)
SHAPES = [  # images, in, out, n, m, features, kernel, side: the networks' layers, and what lies between them
    (2, 128, 128, 8, 8, 8, 3, 32),
    (2, 128, 128, 8, 8, 16, 3, 16),
    (4, 256, 256, 8, 8, 8, 3, 8),
    (8, 64, 64, 8, 8, 8, 3, 16),
    (8, 64, 64, 8, 8, 32, 3, 16),
    (8, 32, 32, 8, 8, 8, 3, 28),
    (8, 16, 16, 8, 8, 8, 3, 28),
    (16, 32, 32, 4, 4, 32, 7, 14),
    (16, 32, 32, 8, 8, 32, 7, 14),
    (32, 32, 64, 8, 8, 32, 7, 7),
    (32, 64, 64, 8, 8, 32, 7, 7),
    (8, 64, 64, 8, 8, 32, 7, 7),
    (64, 64, 64, 8, 8, 32, 7, -7),  # without padding: the ResNet's last
    (16, 16, 16, 8, 8, 32, 7, -7),
    (32, 64, 64, 8, 8, 16, 5, 7),
    (32, 10, 20, 8, 8, 32, 7, 7),
    (16, 128, 128, 1, 1, 8, 3, 16),
    (16, 64, 64, 8, 8, 16, 1, 14),
    (16, 3, 64, 1, 8, 8, 3, 32),
    (2, 64, 64, 16, 16, 8, 3, 16),
    (2, 64, 64, 2, 2, 8, 3, 32),
    (2, 128, 128, 4, 4, 8, 3, 32),
    (2, 128, 256, 4, 4, 8, 3, 32),
    (4, 256, 256, 4, 4, 8, 3, 16),
    (4, 256, 256, 4, 4, 8, 3, 8),
    (32, 256, 256, 4, 4, 8, 3, 8),
    (1, 256, 256, 8, 8, 8, 3, 16),
    (16, 16, 32, 4, 4, 8, 3, 28),
    (16, 32, 32, 4, 4, 8, 3, 14),
    (16, 32, 64, 4, 4, 8, 3, 28),
    (16, 64, 64, 4, 4, 8, 3, 14),
    (64, 64, 64, 4, 4, 8, 3, 7),
    (16, 64, 128, 4, 4, 8, 3, 14),
    (32, 64, 64, 16, 16, 32, 7, 7),
    (2, 20, 20, 16, 16, 32, 7, 7),
]


def arguments(s: Shape, side: int, dtype: torch.dtype) -> tuple[torch.Tensor, FactoredKernel]:
    f = torch.randn(s.images, s.in_channels, s.n, side, side).to(dtype).requires_grad_()
    weight = torch.randn(s.out_channels, s.in_channels, s.features).requires_grad_()
    phi = torch.randn(s.m, s.features, s.n, s.kernel_size, s.kernel_size).requires_grad_()
    mean, disc = torch.full((s.n,), 1 / s.n), torch.ones(s.kernel_size, s.kernel_size)
    return f, FactoredKernel(weight, torch.randn(s.out_channels, s.in_channels).requires_grad_(), phi, mean, disc)


def measure(s: Shape, side: int, padding: int, dtype: torch.dtype) -> tuple[float, float]:
    """Median seconds of (dense, factored), forward and backward."""
    f, kernel = arguments(s, side, dtype)

    def step(path: str) -> None:
        out = convolve(f, kernel, None, padding, path)
        torch.autograd.grad(out, [f, *kernel[:3]], torch.ones_like(out))

    rounds = interleaved(lambda: step("dense"), lambda: step("factored"), pairs=PAIRS)
    dense, factored = (statistics.median(column) for column in zip(*rounds, strict=True))
    return dense, factored


def main() -> None:
    found = []
    for *sizes, side in SHAPES:
        images, into, out, n, m, features, kernel_size = sizes
        padding = kernel_size // 2 if side > 0 else 0
        left = abs(side) + 2 * padding + 1 - kernel_size
        s = Shape(images, into, out, n, m, features, kernel_size, left * left)
        for dtype in (torch.float32, torch.bfloat16):
            dense, factored = measure(s, abs(side), padding, dtype)
            found.append((s, dense, factored))
            sys.stdout.write(
                f"{str(dtype)[6:]:9} {sizes} {side:3}  dense {1e3 * dense:8.1f} ms  ×{factored / dense:.2f}\n"
            )
            sys.stdout.flush()

    def lost(weights: Calibration) -> float:
        """Mean share of time lost against the better order, over all shapes."""
        chosen = [(f if relative_time(s, weights) < 1 else d) / min(d, f) for s, d, f in found]
        return statistics.fmean(chosen) - 1

    def off(weights: Calibration) -> float:
        """Mean logarithm by which the ratio of times is mistaken: what decides where the choices are alike."""
        return statistics.fmean(abs(math.log(relative_time(s, weights) * d / f)) for s, d, f in found)

    def fit(maps: tuple[float, ...]) -> Calibration:
        grid = map(Calibration._make, itertools.product(STEPS, STEPS, STEPS, maps))
        return min(grid, key=lambda weights: (round(lost(weights), 3), off(weights)))

    fitted = fit(MAPS)
    for s, dense, factored in found:
        wrong = "  wrong" * ((relative_time(s, fitted) < 1) != (factored < dense))
        measured, predicted = factored / dense, relative_time(s, fitted)
        sys.stdout.write(f"{tuple(s)}: measured ×{measured:.2f}, predicted ×{predicted:.2f}{wrong}\n")
    for name, weights in (("fitted", fitted), ("in use", Calibration()), ("without maps", fit((0.0,)))):
        sys.stdout.write(f"{name}: {weights}, {100 * lost(weights):.1f} % of the time is lost to wrong choices\n")


if __name__ == "__main__":
    main()
