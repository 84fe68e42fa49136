"""The arithmetic of the convolution: two orders of summation, the choice between them, one operator."""

from partialsym.ops.choice import PATHS, Shape, Weights, dense_work, factored_work, quotient, resolved, shape_of
from partialsym.ops.operator import convolve
from partialsym.ops.orders import FactoredKernel

__all__ = [
    "PATHS",
    "FactoredKernel",
    "Shape",
    "Weights",
    "convolve",
    "dense_work",
    "factored_work",
    "quotient",
    "resolved",
    "shape_of",
]
