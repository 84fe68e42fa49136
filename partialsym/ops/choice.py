"""Which order of summation is faster: a cost model in multiplications, calibrated by a benchmark."""

from typing import Literal, NamedTuple

Path = Literal["dense", "factored"]


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


# Relative times of a multiplication, forward and backward together; the plain convolution is 1. Fitted by
# `benchmarks/calibrate.py` on two AVX-512 cores, float32 and bf16.
GENERATE = 3.0
CONVOLVE = 2.0
MIX = 1.2


def dense_cost(s: Shape) -> float:
    """Multiplications of the plain convolution, and of forming its kernel."""
    kernel = s.in_channels * s.out_channels * s.n * s.m * s.kernel_size**2
    return kernel * (s.images * s.pixels + GENERATE * (s.features + 1))


def factored_cost(s: Shape) -> float:
    """Multiplications of convolving with the features, of mixing channels, and of the kernel's bias."""
    places = s.images * s.pixels * s.in_channels
    convolve = places * s.n * s.m * s.features * s.kernel_size**2
    mix = places * s.m * s.features * s.out_channels
    return CONVOLVE * convolve + MIX * mix + places * s.out_channels * s.kernel_size**2


def faster(s: Shape) -> Path:
    """The order that the model holds to be faster."""
    return "factored" if factored_cost(s) < dense_cost(s) else "dense"
