"""The arithmetic of the convolution: two orders of summation, the choice between them, one operator."""

from partialsym.ops.choice import Shape, dense_cost, factored_cost, faster
from partialsym.ops.operator import PATHS, convolve, shape_of
from partialsym.ops.orders import FactoredKernel

__all__ = ["PATHS", "FactoredKernel", "Shape", "convolve", "dense_cost", "factored_cost", "faster", "shape_of"]
