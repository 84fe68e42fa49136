"""E(2): translations, rotations and reflections."""

import torch
from torch import Tensor

from partialsym.groups.base import Group, embed_both, inverse_on_both, mirrored, rotation


class E2(Group):
    """H = O(2), h = R(a) or R(a)·m with m = diag(−1, 1)."""

    name = "E2"
    dim = 1
    embed_dim = 3

    def __init__(self) -> None:
        self.components = mirrored(torch.eye(2, dtype=torch.float64, device="cpu")[None])

    def exp(self, a: Tensor) -> Tensor:
        return rotation(a.squeeze(-1))

    def embed(self, h: Tensor) -> Tensor:
        return embed_both(h)

    def embedded_inverse(self, h: Tensor) -> Tensor:
        return inverse_on_both(h)
