"""Continuous convolution kernels: small networks from coordinates to channel-mixing matrices."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Kernel(nn.Module, ABC):
    """k(z) = Σ_h W_h·φ_h(z) + b: coordinates z → matrix [out, in], the last layer linear.

    Args:
        dim: number d of coordinates: the position (x, y) in the unit disc, then the embedded relative element.
        out_channels, in_channels: size of the matrix.
        hidden: number of features φ.
        layers: linear layers in all, the last one included; at least 2.
    Raises:
        ValueError: an argument below its least value.
    """

    def __init__(self, dim: int, out_channels: int, in_channels: int, *, hidden: int = 32, layers: int = 3) -> None:
        super().__init__()
        for name, value, least in [
            ("dim", dim, 1),
            ("out_channels", out_channels, 1),
            ("in_channels", in_channels, 1),
            ("hidden", hidden, 1),
            ("layers", layers, 2),
        ]:
            if value < least:
                raise ValueError(f"{name} is {value}: must be at least {least}.")
        self.out_channels, self.in_channels = out_channels, in_channels
        self.linear = nn.Linear(hidden, out_channels * in_channels)

    @abstractmethod
    def features(self, z: Tensor) -> Tensor:
        """φ: coordinates [*n, d] → [*n, hidden]."""

    def forward(self, z: Tensor) -> Tensor:
        """k: coordinates [*n, d] → [*n, out, in]."""
        return self.linear(self.features(z)).unflatten(-1, (self.out_channels, self.in_channels))

    def squared_norm(self, z: Tensor) -> Tensor:
        """Σ over all points and matrix entries of k(z)², by the Gram matrix of the features: tr W G Wᵀ.

        No [*n, out, in] is ever formed. A scalar.
        """
        phi = self.features(z).flatten(0, -2)
        phi = torch.cat([phi, torch.ones_like(phi[:, :1])], 1)
        w = torch.cat([self.linear.weight, self.linear.bias[:, None]], 1)
        return ((w.T @ w) * (phi.T @ phi)).sum()

    @torch.no_grad()
    def rescale(self, factor: float) -> None:
        """Multiply the kernel by a constant, once and for good."""
        self.linear.weight.mul_(factor)
        self.linear.bias.mul_(factor)


def uniform_(linear: nn.Linear, bound: float) -> nn.Linear:
    """Weights ~ U[−bound, bound]; the bias keeps torch's initialisation."""
    nn.init.uniform_(linear.weight, -bound, bound)
    return linear
