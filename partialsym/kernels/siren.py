"""SIREN: a network with sine activations."""

import math

from torch import Tensor, nn

from partialsym.errors import InputError
from partialsym.kernels.base import Kernel, uniform_


class SIREN(Kernel):
    """Sinusoidal representation network φ_{l+1} = sin(ω₀(W_l φ_l + b_l)) (Sitzmann et al. 2020).

    Args:
        omega0: ω₀, the frequency scale; positive.
        others: as for `Kernel`.
    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self, dim: int, out_channels: int, in_channels: int, *, hidden: int = 32, layers: int = 3, omega0: float = 10.0
    ) -> None:
        super().__init__(dim, out_channels, in_channels, hidden=hidden, layers=layers)
        if not 0 < omega0 < math.inf:
            raise InputError(f"omega0 is {omega0}: must be positive and finite.")
        self.omega0 = omega0
        bound = math.sqrt(6 / hidden) / omega0
        inner = [uniform_(nn.Linear(hidden, hidden), bound) for _ in range(layers - 2)]
        self.hidden = nn.ModuleList([uniform_(nn.Linear(dim, hidden), 1 / dim), *inner])
        uniform_(self.linear, math.sqrt(6 / hidden))
        nn.init.zeros_(self.linear.bias)

    def features(self, z: Tensor) -> Tensor:
        for layer in self.hidden:
            z = (self.omega0 * layer(z)).sin()
        return z
