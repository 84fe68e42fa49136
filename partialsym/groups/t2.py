"""T(2): translations only."""

import torch
from torch import Tensor

from partialsym.groups.base import FiniteGroup


class T2(FiniteGroup):
    """H = {e}. A network on this group is an ordinary convolutional network."""

    name = "T2"
    embed_dim = 0

    def __init__(self) -> None:
        self.components = torch.eye(2, dtype=torch.float64, device="cpu")[None]

    def embed(self, h: Tensor) -> Tensor:
        return h.new_empty(*h.shape[:-2], 0)
