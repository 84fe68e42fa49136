"""MLP: a multi-layer perceptron with a chosen activation."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialsym.errors import InputError
from partialsym.kernels.base import Kernel

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "relu": F.relu,
    "tanh": torch.tanh,
    "sin": torch.sin,
}


class MLP(Kernel):
    """Multi-layer perceptron φ_{l+1} = act(W_l φ_l + b_l).

    Args:
        activation: a pointwise function of tensors, or a name in `ACTIVATIONS`. `save_model` requires a name.
        others: as for `Kernel`.
    Raises:
        ValueError: an argument is out of range, or an unknown activation.
    """

    def __init__(
        self,
        dim: int,
        out_channels: int,
        in_channels: int,
        *,
        hidden: int = 32,
        layers: int = 3,
        activation: str | Callable[[Tensor], Tensor] = "silu",
    ) -> None:
        super().__init__(dim, out_channels, in_channels, hidden=hidden, layers=layers)
        if isinstance(activation, str) and activation not in ACTIVATIONS:
            raise InputError(f"activation is {activation!r}: must be one of {', '.join(ACTIVATIONS)}, or a function.")
        self.activation = ACTIVATIONS[activation] if isinstance(activation, str) else activation
        self.hidden = nn.ModuleList([nn.Linear(dim if i == 0 else hidden, hidden) for i in range(layers - 1)])
        nn.init.zeros_(self.linear.bias)

    def features(self, z: Tensor) -> Tensor:
        for layer in self.hidden:
            z = self.activation(layer(z))
        return z
