"""The densities of a lifted network: the usual ones, but with e among the elements in eval mode."""

from torch import Tensor

from partialsym.densities import Density, dirac, haar, learned
from partialsym.groups import Group


class FromIdentity(Density):
    """A density whose deterministic elements are equally spaced and include e: four are −90°, 0°, 90° and 180°.

    A Density with an even number of rotations uses midpoints, which do not include e. Only at e the filters of the
    plain network need no interpolation. In train mode it draws the same elements as a Density.
    """

    def _midpoints(self, r: int) -> Tensor:
        positions = super()._midpoints(r)
        return positions if r % 2 else positions + 1 / r


def whole(group: Group, samples: int) -> Density:
    """`haar` with deterministic elements that include e."""
    return _from_identity(haar(group, samples))


def part(group: Group, samples: int) -> Density:
    """`learned` with deterministic elements that include e. On T(2), which has only e, it is `haar`."""
    return whole(group, samples) if group.name == "T2" else _from_identity(learned(group, samples))


def identity(group: Group, samples: int) -> Density:
    """`dirac`: only e."""
    return dirac(group)


def _from_identity(density: Density) -> Density:
    if not density.group.dim:
        return density
    return FromIdentity(density.group, density.samples, algebra=density.algebra, components=density.component)
