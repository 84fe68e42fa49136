"""The arithmetic of the convolution: two orders of summation, the choice between them, one operator."""

from partialsym.ops.choice import PATHS, Shape, dense_work, factored_work, faster, resolved, shape_of
from partialsym.ops.operator import convolve
from partialsym.ops.orders import FactoredKernel

__all__ = [
    "PATHS",
    "FactoredKernel",
    "Shape",
    "convolve",
    "dense_work",
    "factored_work",
    "faster",
    "resolved",
    "shape_of",
]
