"""Densities of a lifted network: their elements in eval mode include the identity e."""

from torch import Tensor

from partialsym.densities import Density, dirac, haar, learned
from partialsym.groups import Group


class FromIdentity(Density):
    """A density whose deterministic elements are equally spaced and include e, such as −90°, 0°, 90° and 180°.

    The deterministic elements of a Density with an even number of rotations do not include e. At e, the filters of a
    plain network are exact. Train mode draws the same elements as a Density.
    """

    def _midpoints(self, r: int) -> Tensor:
        positions = super()._midpoints(r)
        return positions if r % 2 else positions + 1 / r


def whole(group: Group, samples: int) -> Density:
    """`haar`, with e among the deterministic elements."""
    return _from_identity(haar(group, samples))


def part(group: Group, samples: int) -> Density:
    """`learned`, with e among the deterministic elements; `whole` on T(2), where there is nothing to learn."""
    return whole(group, samples) if group.name == "T2" else _from_identity(learned(group, samples))


def identity(group: Group, samples: int) -> Density:
    """`dirac`: only e."""
    return dirac(group)


def _from_identity(density: Density) -> Density:
    if not density.group.dim:
        return density
    return FromIdentity(density.group, density.samples, algebra=density.algebra, components=density.component)
