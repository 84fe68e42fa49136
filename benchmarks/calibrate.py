"""Fit the cost model that chooses a convolution's order of summation: `python -m benchmarks.calibrate`.

Every shape is run forward and backward in all orders but those that are far from being chosen. The weights printed are
those under which the times of the factored and the spectral order, relative to the dense one, are mistaken least over
all shapes, and wrong choices cost least; they belong in partialsym/ops/calibrations.py. It uses one thread, and takes
some twenty minutes: float32, and bf16 where the processor has it; `float32` or `bf16` after the command measures one
of them. Another processor's instructions are measured with ATEN_CPU_CAPABILITY=avx2 DNNL_MAX_CPU_ISA=AVX2
MKL_ENABLE_INSTRUCTIONS=AVX2 in the environment.
"""

import math
import statistics
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import torch

from partialsym._utils.layout import empty
from partialsym.ops import (
    CLEARLY,
    PATHS,
    Calibration,
    FactoredKernel,
    Shape,
    calibration,
    convolve,
    dense_work,
    processor,
    relative_time,
    spectral_time,
)
from partialsym.ops.calibrations import CALIBRATIONS
from partialsym.ops.choice import pays_channels_last
from partialsym.profiling import interleaved

ROUNDS, LONG = (3, 15), 0.5  # of a shape, at least and at most; as many as these seconds hold
TOO_SLOW = 2.0  # times the dense order, by EXPECTED: the factored one is not measured, and at half as much again
CHOICES = 5.0  # how much a share of time lost to a wrong choice weighs, beside the logarithm of a mistaken time
FAR = 10.0  # a weight is within this factor of where it starts: what no shape determines stays there
EXPECTED = CALIBRATIONS["AVX-512"]["single"]
FACTORED, SPECTRAL = ("generate", "convolve", "mix", "maps"), ("transform", "product", "kernel", "calls")
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
    (8, 64, 64, 16, 16, 32, 7, 7),
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
    (64, 3, 16, 1, 4, 9, 3, 32),  # the networks of `ask`: SE(2)-4
    (64, 16, 32, 3, 4, 27, 3, 8),
    (64, 32, 64, 3, 4, 27, 3, 4),
    (64, 3, 16, 1, 8, 9, 3, 32),  # E(2)-8
    (64, 16, 32, 4, 8, 36, 3, 8),
    (64, 32, 64, 4, 8, 36, 3, 4),
    (32, 64, 64, 3, 4, 27, 3, 32),  # ResNet-18 on CIFAR
    (32, 128, 128, 3, 4, 27, 3, 16),
    (32, 256, 256, 3, 4, 27, 3, 8),
    (32, 512, 512, 3, 4, 27, 3, 4),
    (64, 16, 16, 4, 4, 32, 5, 16),  # 5×5
    (64, 32, 32, 4, 4, 32, 5, 8),
    (64, 16, 16, 8, 8, 32, 5, 16),
    (64, 32, 32, 8, 8, 32, 5, -8),
    (64, 16, 16, 1, 1, 32, 5, 16),  # T(2)
    (64, 32, 32, 1, 1, 32, 7, 14),
    (64, 32, 64, 1, 1, 32, 7, 7),
    (16, 8, 8, 8, 8, 32, 7, 14),  # narrow
    (16, 8, 16, 8, 8, 32, 7, 7),
    (16, 16, 16, 8, 8, 32, 7, 7),
    (16, 8, 8, 4, 4, 32, 7, 14),
    (8, 128, 32, 4, 1, 8, 5, 16),  # one element on a side, few features
    (8, 32, 32, 1, 1, 8, 5, 16),
    (8, 32, 128, 1, 4, 8, 3, 28),
    (64, 16, 16, 8, 8, 32, 5, 14),  # what else profits, or does not
    (64, 32, 32, 8, 8, 32, 5, 7),
    (4, 16, 16, 8, 8, 32, 7, 56),
    (64, 16, 16, 8, 8, 32, 3, 14),
    (64, 32, 32, 4, 4, 32, 3, 32),
]


def arguments(s: Shape, dtype: torch.dtype) -> tuple[torch.Tensor, FactoredKernel]:
    last = dtype == torch.float32 and s.n > 1 and pays_channels_last("dense", s, False)  # as a network's signals are
    f = empty(torch.empty(0), (s.images, s.in_channels, s.n, s.height, s.width), last).normal_().to(dtype)
    f.requires_grad_()
    weight = torch.randn(s.out_channels, s.in_channels, s.features).requires_grad_()
    phi = torch.randn(s.m, s.features, s.n, s.kernel_size, s.kernel_size).requires_grad_()
    mean, disc = torch.full((s.n,), 1 / s.n), torch.ones(s.kernel_size, s.kernel_size)
    return f, FactoredKernel(weight, torch.randn(s.out_channels, s.in_channels).requires_grad_(), phi, mean, disc)


class Found(NamedTuple):
    """Median seconds of a shape, forward and backward, by order."""

    shape: Shape
    seconds: dict[str, float]

    @property
    def quotients(self) -> dict[str, float]:
        """To the dense order."""
        return {order: t / self.seconds["dense"] for order, t in self.seconds.items() if order != "dense"}

    def lost(self, c: Calibration) -> float:
        """Share of the best order's time that the choice costs beside it."""
        predicted = times(self.shape, c)
        predicted["spectral"] /= CLEARLY
        return self.seconds[min(self.seconds, key=lambda order: predicted[order])] / min(self.seconds.values()) - 1

    def off(self, c: Calibration) -> float:
        """Logarithm by which the times relative to the dense one are mistaken, summed over the orders."""
        predicted = times(self.shape, c)
        return sum(abs(math.log(predicted[order] / quotient)) for order, quotient in self.quotients.items())


def times(s: Shape, c: Calibration) -> dict[str, float]:
    return {"dense": 1.0, "factored": relative_time(s, c), "spectral": spectral_time(s, c)}


def shapes() -> list[Shape]:
    """The convolutions of SHAPES; a negative side is one without padding."""
    found = []
    for images, into, out, n, m, features, size, side in SHAPES:
        padding = size // 2 if side > 0 else 0
        found.append(Shape(images, into, out, n, m, features, size, abs(side), abs(side), padding))
    return found


def orders(s: Shape) -> list[str]:
    """Those worth a measurement."""
    expected, limit = times(s, EXPECTED), {"dense": 1.0, "factored": TOO_SLOW, "spectral": 1.5 * TOO_SLOW}
    return [order for order in PATHS[1:] if expected[order] <= limit[order]]


def measure(s: Shape, dtype: torch.dtype) -> Found:
    f, kernel = arguments(s, dtype)

    def step(path: str) -> None:
        out = convolve(f, kernel, None, s.padding, path)
        torch.autograd.grad(out, [*([f] if s.n > 1 else []), *kernel[:3]], torch.ones_like(out))

    calls = [lambda path=path: step(path) for path in orders(s)]
    (first,) = interleaved(*calls, pairs=1, warm_up=0)
    least, most = ROUNDS
    rounds = interleaved(*calls, pairs=min(most, max(least, int(LONG / sum(first)))), warm_up=0)
    return Found(s, dict(zip(orders(s), map(statistics.median, zip(*rounds, strict=True)), strict=True)))


def fitted(found: Sequence[Found], start: Calibration, names: Sequence[str]) -> Calibration:
    """The weights called so, by descent along one after the other from `start`: first to the times, then to both."""

    def mistaken(c: Calibration) -> float:
        return statistics.fmean(one.off(c) for one in found)

    def both(c: Calibration) -> float:
        return mistaken(c) + CHOICES * statistics.fmean(one.lost(c) for one in found)

    best = start
    for loss in (mistaken, both):
        for step in (2.0, 1.4, 1.2, 1.1, 1.05, 1.02):
            for _ in range(8):
                for name in names:
                    values = [getattr(best, name) * by for by in (1 / step, 1.0, step)]
                    near = [v for v in values if 1 / FAR < v / getattr(start, name) < FAR]
                    best = min((best._replace(**{name: value}) for value in near), key=loss)
    return best


def rounded(c: Calibration) -> Calibration:
    """With two digits, as the weights are written. Their choices may differ from those of the exact ones."""
    return Calibration(*(float(f"{value:.2g}") for value in c))


def main() -> None:
    torch.set_num_threads(1)
    found_in = {"float32": torch.float32} | ({"bf16": torch.bfloat16} if processor() in ("AMX", "AVX-512") else {})
    for name, dtype in found_in.items():
        if name not in (sys.argv[1:] or found_in):
            continue
        found, begun, work = [], time.perf_counter(), [_work(shape) for shape in shapes()]
        for i, shape in enumerate(shapes()):
            found.append(measure(shape, dtype))
            left = (time.perf_counter() - begun) * sum(work[i + 1 :]) / sum(work[: i + 1]) / 60
            _say(f"{name} {i + 1}/{len(work)}, {left:.1f} min left  {_size(shape)}  {_measured(found[-1])}")
        _report(name, dtype, found)


def _report(name: str, dtype: torch.dtype, found: Sequence[Found]) -> None:
    """Measured beside predicted, what wrong choices cost, and the weights as they stand in calibrations.py."""
    used = calibration(dtype, "cpu")
    start = used if math.isfinite(used.calls) else EXPECTED
    spectral = rounded(fitted(found, start, SPECTRAL))
    whole = rounded(fitted(found, start, FACTORED + SPECTRAL))
    for one in found:
        predicted = times(one.shape, whole)
        text = "  ".join(f"{p} ×{q:.2f}, predicted ×{predicted[p]:.2f}" for p, q in one.quotients.items())
        _say(f"{_size(one.shape)}: {text}{'  wrong' * (one.lost(whole) > 0)}")
    _say(f'\nCALIBRATIONS["{processor()}"]["{"half" if dtype.itemsize == 2 else "single"}"], {name}:')
    for title, weights in (("in use", used), ("spectral weights fitted", spectral), ("all fitted", whole)):
        lost = 100 * statistics.fmean(one.lost(weights) for one in found)
        _say(f"{title}, {lost:.1f} % of the time is lost to wrong choices:\n    {_written(weights)}")


def _written(c: Calibration) -> str:
    """As it is pasted: two digits, without what is as by default."""
    given = [(key, value) for key, value in c._asdict().items() if value != getattr(Calibration(), key)]
    return f"Calibration({', '.join(f'{key}={value:.2g}' for key, value in given)})"


def _work(s: Shape) -> float:
    """Multiplications of a shape's measurement, in about those of the dense order."""
    expected, dense = times(s, EXPECTED), sum(dense_work(s))
    return dense * sum(expected[order] for order in orders(s)) + 1e9  # what is spent on a small one too


def _size(s: Shape) -> str:
    return (
        f"{s.images} images, {s.in_channels}→{s.out_channels} channels, {s.n}→{s.m} elements, {s.features} features, "
        f"{s.kernel_size}×{s.kernel_size} on {s.height}×{s.width}{'' if s.padding or s.kernel_size == 1 else ', valid'}"
    )


def _measured(found: Found) -> str:
    quotients = "  ".join(f"{order} ×{quotient:.2f}" for order, quotient in found.quotients.items())
    return f"dense {1e3 * found.seconds['dense']:.0f} ms  {quotients}"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
