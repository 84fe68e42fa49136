"""The arithmetic of the convolution: two orders of summation, the choice between them, one operator."""

from partialsym.ops import counting  # noqa: F401 – registers its formulas
from partialsym.ops.choice import (
    PATHS,
    Calibration,
    Shape,
    dense_work,
    factored_work,
    relative_time,
    resolved,
    shape_of,
)
from partialsym.ops.operator import convolve
from partialsym.ops.orders import FactoredKernel

__all__ = [
    "PATHS",
    "Calibration",
    "FactoredKernel",
    "Shape",
    "convolve",
    "dense_work",
    "factored_work",
    "relative_time",
    "resolved",
    "shape_of",
]
