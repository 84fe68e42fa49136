"""MLP: a network with any activation."""

from collections.abc import Callable

from torch import Tensor, nn

from partialsym.kernels.base import Kernel


class MLP(Kernel):
    """φ_{l+1} = act(W_l φ_l + b_l).

    Args:
        activation: a pointwise function of tensors, such as `torch.nn.functional.gelu`.
        others: as for `Kernel`.
    """

    def __init__(
        self,
        dim: int,
        out_channels: int,
        in_channels: int,
        *,
        hidden: int = 32,
        layers: int = 3,
        activation: Callable[[Tensor], Tensor] = nn.functional.silu,
    ) -> None:
        super().__init__(dim, out_channels, in_channels, hidden=hidden, layers=layers)
        self.activation = activation
        self.hidden = nn.ModuleList([nn.Linear(dim if i == 0 else hidden, hidden) for i in range(layers - 1)])
        nn.init.zeros_(self.linear.bias)

    def features(self, z: Tensor) -> Tensor:
        for layer in self.hidden:
            z = self.activation(layer(z))
        return z
