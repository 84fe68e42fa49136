"""Which order of summation is faster: a cost model in multiplications, calibrated by a benchmark."""

from collections.abc import Sequence
from typing import NamedTuple

from partialsym.ops.orders import Options

PATHS = ("auto", "dense", "factored")


class Shape(NamedTuple):
    """What a convolution's cost depends on: images b, channels, elements n → m, features h, kernel side k, output
    pixels; stride, dilation and groups of channels."""

    images: int
    in_channels: int
    out_channels: int
    n: int
    m: int
    features: int
    kernel_size: int
    pixels: int
    stride: int = 1
    dilation: int = 1
    groups: int = 1


def shape_of(
    f: Sequence[int],
    weight: Sequence[int],
    phi: Sequence[int],
    padding: int,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> Shape:
    """Of the sizes of the arguments: f [b, in, n, h, w], weight [out, in / groups, h] and phi [m, h, n, k, k]."""
    height, width = Options(padding, stride, dilation).size(f[3], f[4], phi[3])
    return Shape(f[0], f[1], weight[0], f[2], phi[0], phi[1], phi[3], height * width, stride, dilation, groups)


class Calibration(NamedTuple):
    """Time of a multiplication, and of writing and reading a value of a feature map, relative to a multiplication of
    the plain convolution; forward and backward together.

    The defaults were fitted by `python -m benchmarks.calibrate` on a core with AVX-512 and AMX, float32 and bf16.
    """

    generate: float = 8.0
    convolve: float = 1.5
    mix: float = 1.5
    maps: float = 400.0


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
    """Of a forward pass."""
    kernel = s.in_channels * s.out_channels * s.n * s.m * s.kernel_size**2 // s.groups
    return Dense(kernel * s.images * s.pixels, kernel * (s.features + 1))


def factored_work(s: Shape) -> Factored:
    """Of a forward pass."""
    places = s.images * s.pixels * s.in_channels
    return Factored(
        places * s.n * s.m * s.features * s.kernel_size**2,
        places * s.m * s.features * s.out_channels // s.groups,
        places * s.out_channels * s.kernel_size**2 // s.groups,
    )


def relative_time(s: Shape, c: Calibration = Calibration()) -> float:  # noqa: B008 – immutable
    """Time of the factored order over that of the dense one, by calibration `c`."""
    dense, factored = dense_work(s), factored_work(s)
    values = factored.mix * s.groups / s.out_channels  # of all feature maps
    weighted = c.convolve * factored.convolve + c.mix * factored.mix + factored.bias + c.maps * values
    return weighted / (dense.convolve + c.generate * dense.generate)


def resolved(path: str, s: Shape) -> str:
    """`path`; where it is `auto`, the order of less time by the calibration; `dense` for an empty batch."""
    return path if path != "auto" else "factored" if s.images and relative_time(s) < 1 else "dense"
