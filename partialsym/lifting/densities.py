"""The densities of a lifted network: those of every network, with e among the elements of eval mode."""

from torch import Tensor

from partialsym.densities import Density, dirac, haar, learned
from partialsym.groups import Group


class FromIdentity(Density):
    """A density whose deterministic elements are equally spaced from e on: −90°, 0°, 90° and 180° of four on a circle.

    The midpoints of a Density with an even number of rotations leave out e, where the filters of a plain network are
    known exactly. What train mode draws is the same.
    """

    def _midpoints(self, r: int) -> Tensor:
        positions = super()._midpoints(r)
        return positions if r % 2 else positions + 1 / r


def whole(group: Group, samples: int) -> Density:
    """`haar`, from e on."""
    return _from_identity(haar(group, samples))


def part(group: Group, samples: int) -> Density:
    """`learned`, from e on; on T(2) there is nothing to learn."""
    return whole(group, samples) if group.name == "T2" else _from_identity(learned(group, samples))


def identity(group: Group, samples: int) -> Density:
    """e alone."""
    return dirac(group)


def _from_identity(density: Density) -> Density:
    if not density.group.dim:
        return density
    return FromIdentity(density.group, density.samples, algebra=density.algebra, components=density.component)
