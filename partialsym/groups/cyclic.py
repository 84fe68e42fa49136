"""C_n: translations and n rotations."""

from torch import Tensor

from partialsym.errors import InputError
from partialsym.groups.base import FiniteGroup, embed_rotation, inverse_on_rotation, rotations


class Cyclic(FiniteGroup):
    """H = C_n, the rotations by multiples of 360°/n, n ≥ 1."""

    embed_dim = 2

    def __init__(self, n: int) -> None:
        if n < 1:
            raise InputError(f"C_n needs n ≥ 1 rotations, got n = {n}.")
        self.name = f"C{n}"
        self.components = rotations(n)

    def embed(self, h: Tensor) -> Tensor:
        return embed_rotation(h)

    def embedded_inverse(self, h: Tensor) -> Tensor:
        return inverse_on_rotation(h)
