"""The choice of the fastest order of summation: a cost model in multiplications, calibrated by a benchmark."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch

from partialsym.ops.calibrations import CALIBRATIONS, UNKNOWN, Calibration
from partialsym.ops.conv2d import Options
from partialsym.ops.fourier import frequencies, multiplications, pays_in_one, period_of
from partialsym.ops.orders import kernel_is_smaller

CLEARLY = 0.9  # the spectral order must take less than this share of the others' time to be chosen
PATHS = ("auto", "dense", "factored", "spectral")


class Shape(NamedTuple):
    """Sizes that determine the cost of a convolution.

    images: batch size.
    n, m: elements of the input and of the output.
    features: features of the kernel.
    height, width: those of the input.
    padding, stride, dilation, groups: as in `torch.nn.functional.conv2d`.
    """

    images: int
    in_channels: int
    out_channels: int
    n: int
    m: int
    features: int
    kernel_size: int
    height: int
    width: int
    padding: int
    stride: int = 1
    dilation: int = 1
    groups: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the output."""
        options = Options(self.padding, self.stride, self.dilation, self.groups)
        return options.size(self.height, self.width, self.kernel_size)

    @property
    def pixels(self) -> int:
        return math.prod(self.size)


def shape_of(
    f: Sequence[int],
    weight: Sequence[int],
    phi: Sequence[int],
    padding: int,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> Shape:
    """The Shape for the sizes of f [b, in, n, h, w], weight [out, in / groups, h] and phi [m, h, n, k, k]."""
    return Shape(f[0], f[1], weight[0], f[2], phi[0], phi[1], phi[3], f[3], f[4], padding, stride, dilation, groups)


class Dense(NamedTuple):
    """Multiplications of the dense order: to convolve with the kernel, to generate it from its features."""

    convolve: int
    generate: int


class Factored(NamedTuple):
    """Multiplications of the factored order: to convolve with the features, mix channels, apply the kernel's bias."""

    convolve: int
    mix: int
    bias: int


class Spectral(NamedTuple):
    """Multiplications of the spectral order: to transform the input, multiply at every frequency, transform the output,
    fold the kernel's features to sums and differences, generate the kernel, transform the kernel."""

    into: int
    product: int
    out: int
    fold: int
    generate: int
    kernel: int


def dense_work(s: Shape) -> Dense:
    """Multiplications of a forward pass in the dense order."""
    kernel = s.in_channels * s.out_channels * s.n * s.m * s.kernel_size**2 // s.groups
    return Dense(kernel * s.images * s.pixels, kernel * (s.features + 1))


def factored_work(s: Shape) -> Factored:
    """Multiplications of a forward pass in the factored order."""
    places = s.images * s.pixels * s.in_channels
    return Factored(
        places * s.n * s.m * s.features * s.kernel_size**2,
        places * s.m * s.features * s.out_channels // s.groups,
        places * (s.kernel_size**2 + s.out_channels // s.groups),
    )


def spectral_work(s: Shape) -> Spectral:
    """Multiplications of a forward pass in the spectral order, with a kernel on the disc."""
    period = period_of(s.height, s.width, s.padding)
    count, taps = frequencies(*period), _taps(s.kernel_size)
    kernel = s.in_channels * s.out_channels * s.n * s.m // s.groups
    return Spectral(
        s.in_channels * s.n * _transforms(s.images, s.in_channels * s.n // s.groups, (s.height, s.width), period),
        s.images * kernel * count * 4,
        s.out_channels * s.m * _transforms(s.images, s.out_channels * s.m // s.groups, s.size, period),
        s.n * s.m * (s.features + 1) * s.kernel_size**2 * taps,
        kernel * taps * (s.features + 1),
        kernel * taps * count,
    )


def _transforms(images: int, planes: int, size: tuple[int, int], period: tuple[int, int]) -> int:
    """Multiplications that transform a plane of each image; `planes` planes of it are transformed together."""
    return images * multiplications(size, period, pays_in_one(images * planes, size, period))


@lru_cache
def _taps(kernel_size: int) -> int:
    """Number of taps inside the disc."""
    twice = range(1 - kernel_size, kernel_size, 2)
    return sum(x * x + y * y <= kernel_size**2 for x in twice for y in twice)


def relative_time(s: Shape, c: Calibration) -> float:
    """Estimated time of the factored order divided by that of the dense order, with calibration `c`."""
    factored = factored_work(s)
    values = factored.mix * s.groups / s.out_channels  # in all feature maps
    weighted = c.convolve * factored.convolve + c.mix * factored.mix + factored.bias + c.maps * values
    return weighted / _dense_time(s, c)


def spectral_time(s: Shape, c: Calibration) -> float:
    """Estimated time of the spectral order divided by that of the dense order, with calibration `c`."""
    work, period = spectral_work(s), period_of(s.height, s.width, s.padding)
    into, out = (multiplications(size, period, in_one=False) for size in ((s.height, s.width), s.size))
    along_lines = s.images * (s.in_channels * s.n * into + s.out_channels * s.m * out)  # as the weights were fitted
    weighted = c.transform * along_lines + c.product * work.product
    weighted += c.kernel * (work.kernel + work.generate)  # not folding: it came after the fit
    return (weighted + c.calls * s.groups) / _dense_time(s, c)


def _dense_time(s: Shape, c: Calibration) -> float:
    dense = dense_work(s)
    return dense.convolve + c.generate * dense.generate


def resolved(path: str, s: Shape, dtype: torch.dtype = torch.float32, device: str = "cpu") -> str:
    """`path`, or the order with the least estimated time if that is `auto`; then `dense` for an empty batch.

    The choice depends only on the shape, the dtype and the processor's instruction sets. Nothing is timed.
    """
    if path != "auto" or not s.images:
        return "dense" if path == "auto" else path
    c = calibration(dtype, device)
    times = {"dense": 1.0, "factored": relative_time(s, c), "spectral": spectral_time(s, c) / CLEARLY}
    return min(times, key=lambda order: times[order])


def pays_channels_last(order: str, s: Shape, given: bool) -> bool:
    """Whether an order is to write its output in `torch.channels_last`, in float32 on a CPU.

    The norm and the pool that follow are then faster. Of the dense order's kernels, those of one tap keep the layout of
    the input, as `given`, and those larger than their output are applied in chunks, which write the usual layout.
    """
    if order != "dense":
        return order == "spectral"
    kernel = s.n * s.m * s.in_channels * s.out_channels * s.kernel_size**2
    small = kernel_is_smaller(kernel, s.m, s.images * s.out_channels * s.m * s.pixels)
    return s.groups == 1 and small and (given or s.kernel_size > 1)


def computed_in(order: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype of an order's arithmetic for a signal of `dtype`: the spectral order rounds only at the end."""
    return torch.promote_types(dtype, torch.float32) if order == "spectral" else dtype


def calibration(dtype: torch.dtype, device: str) -> Calibration:
    """The calibration for this machine's processor and a dtype; UNKNOWN for other devices.

    Tensors on `meta` stand for those of the processor, so that operations counted there are those that would run.
    """
    if device not in ("cpu", "meta"):
        return UNKNOWN
    return CALIBRATIONS[processor()]["half" if dtype.itemsize == 2 else "single"]


@lru_cache
def processor() -> str:
    """The key of this machine's processor in CALIBRATIONS, by the instruction sets that torch reports."""
    can = torch.cpu.get_capabilities()
    if can.get("amx_tile"):
        return "AMX"
    plain = "AVX-512" if can.get("avx512_bf16") else "AVX-512 without bf16"
    return {"AVX512": plain, "AVX2": "AVX2"}.get(torch.backends.cpu.get_cpu_capability(), "other")
