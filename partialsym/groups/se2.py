"""SE(2): translations and rotations."""

import torch
from torch import Tensor

from partialsym.groups.base import Group, embed_rotation, inverse_on_rotation, rotation


class SE2(Group):
    """H = SO(2), h = R(a) with a in (−π, π]."""

    name = "SE2"
    dim = 1
    embed_dim = 2

    def __init__(self) -> None:
        self.components = torch.eye(2, dtype=torch.float64, device="cpu")[None]

    def exp(self, a: Tensor) -> Tensor:
        return rotation(a.squeeze(-1))

    def embed(self, h: Tensor) -> Tensor:
        return embed_rotation(h)

    def embedded_inverse(self, h: Tensor) -> Tensor:
        return inverse_on_rotation(h)
