"""Public checkers for your own groups, densities and layers."""

from partialsym.testing.densities import assert_density
from partialsym.testing.equivariance import assert_equivariant, equivariance_error, grid_symmetries, transform
from partialsym.testing.laws import assert_group_laws

__all__ = [
    "assert_density",
    "assert_equivariant",
    "assert_group_laws",
    "equivariance_error",
    "grid_symmetries",
    "transform",
]
