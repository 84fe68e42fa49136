"""The arithmetic of the convolution: three orders of summation, the choice between them, one operator."""

from partialsym.ops import counting  # noqa: F401 – registers its formulas
from partialsym.ops.calibrations import Calibration
from partialsym.ops.choice import (
    CLEARLY,
    PATHS,
    Shape,
    calibration,
    dense_work,
    factored_work,
    processor,
    relative_time,
    resolved,
    shape_of,
    spectral_time,
    spectral_work,
)
from partialsym.ops.conv2d import Options, conv2d_of_images
from partialsym.ops.operator import convolve
from partialsym.ops.orders import FactoredKernel
from partialsym.ops.plain import convolve_plain

__all__ = [
    "CLEARLY",
    "PATHS",
    "Calibration",
    "FactoredKernel",
    "Options",
    "Shape",
    "calibration",
    "conv2d_of_images",
    "convolve",
    "convolve_plain",
    "dense_work",
    "factored_work",
    "processor",
    "relative_time",
    "resolved",
    "shape_of",
    "spectral_time",
    "spectral_work",
]
