"""Mirror: the left-right reflection."""

import torch
from torch import Tensor

from partialsym.groups.base import FiniteGroup, embed_mirror, inverse_on_mirror, mirrored


class Mirror(FiniteGroup):
    """H = {e, m}, m = diag(−1, 1)."""

    name = "Mirror"
    embed_dim = 1

    def __init__(self) -> None:
        self.components = mirrored(torch.eye(2, dtype=torch.float64, device="cpu")[None])

    def embed(self, h: Tensor) -> Tensor:
        return embed_mirror(h)

    def embedded_inverse(self, h: Tensor) -> Tensor:
        return inverse_on_mirror(h)
