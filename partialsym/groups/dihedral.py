"""D_n: translations, n rotations and n reflections."""

from torch import Tensor

from partialsym.errors import InputError
from partialsym.groups.base import FiniteGroup, embed_both, inverse_on_both, mirrored, rotations


class Dihedral(FiniteGroup):
    """H = D_n, the 2n symmetries of the regular n-gon, n ≥ 1: the rotations of C_n, then the n reflections."""

    embed_dim = 3

    def __init__(self, n: int) -> None:
        if n < 1:
            raise InputError(f"D_n needs n ≥ 1 rotations, got n = {n}.")
        self.name = f"D{n}"
        self.components = mirrored(rotations(n))

    def embed(self, h: Tensor) -> Tensor:
        return embed_both(h)

    def embedded_inverse(self, h: Tensor) -> Tensor:
        return inverse_on_both(h)
