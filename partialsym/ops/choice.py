"""Which order of summation is faster: a cost model in multiplications, calibrated by a benchmark."""

from collections.abc import Sequence
from typing import NamedTuple

PATHS = ("auto", "dense", "factored")


class Shape(NamedTuple):
    """What a convolution's cost depends on: images b, channels, elements n → m, features h, kernel side k, output
    pixels."""

    images: int
    in_channels: int
    out_channels: int
    n: int
    m: int
    features: int
    kernel_size: int
    pixels: int


def shape_of(f: Sequence[int], weight: Sequence[int], phi: Sequence[int], padding: int) -> Shape:
    """Of the sizes of the arguments: f [b, in, n, h, w], weight [out, in, h] and phi [m, h, n, k, k]."""
    shrink = 2 * padding + 1 - phi[3]
    return Shape(f[0], f[1], weight[0], f[2], phi[0], phi[1], phi[3], (f[3] + shrink) * (f[4] + shrink))


# Time of a multiplication relative to one of the plain convolution, forward and backward together; fitted by
# `python -m benchmarks.calibrate` on two AVX-512 cores, float32 and bf16.
GENERATE = 3.0
CONVOLVE = 2.0
MIX = 1.2


class Dense(NamedTuple):
    """Multiplications of the dense order: convolve with the kernel, generate it from its features."""

    convolve: int
    generate: int


class Factored(NamedTuple):
    """Multiplications of the factored order: convolve with the features, mix channels, apply the kernel's bias."""

    convolve: int
    mix: int
    bias: int


def dense_work(s: Shape) -> Dense:
    kernel = s.in_channels * s.out_channels * s.n * s.m * s.kernel_size**2
    return Dense(kernel * s.images * s.pixels, kernel * (s.features + 1))


def factored_work(s: Shape) -> Factored:
    places = s.images * s.pixels * s.in_channels
    return Factored(
        places * s.n * s.m * s.features * s.kernel_size**2,
        places * s.m * s.features * s.out_channels,
        places * s.out_channels * s.kernel_size**2,
    )


def faster(s: Shape) -> str:
    """The order that takes less time by the calibrated weights."""
    dense, factored = dense_work(s), factored_work(s)
    weighted = CONVOLVE * factored.convolve + MIX * factored.mix + factored.bias
    return "factored" if weighted < dense.convolve + GENERATE * dense.generate else "dense"


def resolved(path: str, s: Shape) -> str:
    """`path`, with `auto` decided."""
    return faster(s) if path == "auto" else path
