"""Fit the cost model that chooses a convolution's order of summation: `python -m benchmarks.calibrate`.

Every shape is run forward and backward in all orders; the weights printed are those under which the spectral order's
time is mistaken least, over all shapes. They belong into partialsym/ops/calibrations.py. bf16 is measured where the
processor has it; `float32` or `bf16` after the command measures one of them. Another processor's instructions are
measured with ATEN_CPU_CAPABILITY=avx2 DNNL_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 in the environment.
"""

import math
import statistics
import sys
from typing import NamedTuple

import torch

from partialsym.ops import (
    CLEARLY,
    PATHS,
    Calibration,
    FactoredKernel,
    Shape,
    calibration,
    convolve,
    processor,
    relative_time,
    spectral_time,
)
from partialsym.profiling import interleaved

PAIRS = 3
TOO_SLOW = 2.0  # times the dense order, as predicted: the factored one is not measured
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
    (64, 1, 32, 1, 8, 32, 7, 28),  # ResNet SE(2)-8 on rotMNIST
    (64, 32, 32, 8, 8, 32, 7, 14),
    (64, 32, 64, 8, 8, 32, 7, 7),
    (64, 64, 64, 8, 8, 32, 7, 7),
    (64, 3, 32, 1, 4, 32, 7, 32),  # ResNet SE(2)-4 on CIFAR
    (16, 32, 32, 4, 4, 32, 7, 32),
    (32, 32, 64, 4, 4, 32, 7, 16),
    (32, 64, 64, 4, 4, 32, 7, 16),
    (64, 64, 64, 4, 4, 32, 7, -8),
    (64, 3, 16, 1, 4, 32, 5, 32),  # the networks of `ask`: SE(2)-4
    (64, 16, 16, 4, 4, 32, 5, 16),
    (64, 16, 32, 4, 4, 32, 5, 8),
    (64, 32, 32, 4, 4, 32, 5, 8),
    (64, 32, 32, 4, 4, 32, 5, -8),
    (64, 3, 16, 1, 8, 32, 5, 32),  # E(2)-8
    (64, 16, 16, 8, 8, 32, 5, 16),
    (64, 16, 32, 8, 8, 32, 5, 8),
    (64, 32, 32, 8, 8, 32, 5, 8),
    (64, 32, 32, 8, 8, 32, 5, -8),
    (64, 16, 16, 1, 1, 32, 5, 16),  # T(2)
    (64, 32, 32, 1, 1, 32, 7, 14),
    (64, 32, 64, 1, 1, 32, 7, 7),
    (16, 8, 8, 8, 8, 32, 7, 14),  # narrow
    (16, 8, 16, 8, 8, 32, 7, 7),
    (16, 16, 16, 8, 8, 32, 7, 7),
    (16, 8, 8, 4, 4, 32, 7, 14),
    (64, 16, 16, 8, 8, 32, 5, 14),  # what else profits, or does not
    (64, 32, 32, 8, 8, 32, 5, 7),
    (4, 16, 16, 8, 8, 32, 7, 56),
    (64, 16, 16, 8, 8, 32, 3, 14),
    (64, 32, 32, 4, 4, 32, 3, 32),
]


def arguments(s: Shape, side: int, dtype: torch.dtype) -> tuple[torch.Tensor, FactoredKernel]:
    f = torch.randn(s.images, s.in_channels, s.n, side, side).to(dtype).requires_grad_()
    weight = torch.randn(s.out_channels, s.in_channels, s.features).requires_grad_()
    phi = torch.randn(s.m, s.features, s.n, s.kernel_size, s.kernel_size).requires_grad_()
    mean, disc = torch.full((s.n,), 1 / s.n), torch.ones(s.kernel_size, s.kernel_size)
    return f, FactoredKernel(weight, torch.randn(s.out_channels, s.in_channels).requires_grad_(), phi, mean, disc)


class Found(NamedTuple):
    """Median seconds of a shape, forward and backward, by order."""

    shape: Shape
    seconds: dict[str, float]

    def lost(self, c: Calibration) -> float:
        """Share of the best order's time that the choice costs beside it."""
        predicted = times(self.shape, c)
        predicted["spectral"] /= CLEARLY
        return self.seconds[min(self.seconds, key=lambda order: predicted[order])] / min(self.seconds.values()) - 1

    def off(self, c: Calibration, order: str) -> float:
        """Logarithm by which the order's time, relative to the dense one, is mistaken."""
        return abs(math.log(times(self.shape, c)[order] * self.seconds["dense"] / self.seconds[order]))


def times(s: Shape, c: Calibration) -> dict[str, float]:
    return {"dense": 1.0, "factored": relative_time(s, c), "spectral": spectral_time(s, c)}


def measure(s: Shape, side: int, dtype: torch.dtype) -> Found:
    f, kernel = arguments(s, side, dtype)

    def step(path: str) -> None:
        out = convolve(f, kernel, None, s.padding, path)
        torch.autograd.grad(out, [*([f] if s.n > 1 else []), *kernel[:3]], torch.ones_like(out))

    slow = relative_time(s, Calibration()) > TOO_SLOW
    orders = [path for path in PATHS[1:] if not (slow and path == "factored")]
    rounds = interleaved(*(lambda path=path: step(path) for path in orders), pairs=PAIRS)
    return Found(s, dict(zip(orders, map(statistics.median, zip(*rounds, strict=True)), strict=True)))


def fitted(found: list[Found], start: Calibration) -> Calibration:
    """The spectral order's weights, by descent along one after the other from `start`."""

    def loss(c: Calibration) -> float:
        return statistics.fmean(one.off(c, "spectral") for one in found)

    best = start
    for step in (2.0, 1.4, 1.2, 1.1, 1.05):
        for _ in range(4):
            for name in ("transform", "product", "kernel", "calls"):
                tried = [best._replace(**{name: getattr(best, name) * by}) for by in (1 / step, 1.0, step)]
                best = min(tried, key=loss)
    return best


def main() -> None:
    found_in = {"float32": torch.float32} | ({"bf16": torch.bfloat16} if processor() in ("AMX", "AVX-512") else {})
    precisions = [dtype for name, dtype in found_in.items() if name in (sys.argv[1:] or found_in)]
    start = calibration(torch.float32, "cpu")._replace(transform=4.0, product=1.6, kernel=2.0, calls=1e7)
    for dtype in precisions:
        found = []
        for *sizes, side in SHAPES:
            padding = sizes[6] // 2 if side > 0 else 0
            left = abs(side) + 2 * padding + 1 - sizes[6]
            images, into, out, n, m, features, kernel_size = sizes
            shape = Shape(images, into, out, n, m, features, kernel_size, left, left, padding)
            found.append(measure(shape, abs(side), dtype))
            dense = found[-1].seconds["dense"]
            quotients = "  ".join(
                f"{path} ×{t / dense:.2f}" for path, t in found[-1].seconds.items() if path != "dense"
            )
            _say(f"{str(dtype)[6:]:9} {sizes} {side:3}  dense {1e3 * dense:8.1f} ms  {quotients}")
        best = fitted(found, start)
        for one in found:
            predicted, dense = times(one.shape, best), one.seconds["dense"]
            wrong = "  wrong" * (one.lost(best) > 0)
            others = [path for path in one.seconds if path != "dense"]
            text = "  ".join(f"{p} ×{one.seconds[p] / dense:.2f}, predicted ×{predicted[p]:.2f}" for p in others)
            _say(f"{tuple(one.shape)}: {text}{wrong}")
        for name, weights in (("fitted", best), ("in use", calibration(dtype, "cpu"))):
            lost = statistics.fmean(one.lost(weights) for one in found)
            _say(f"{processor()} {dtype}, {name}: {weights}, {100 * lost:.1f} % of the time is lost to wrong choices")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
