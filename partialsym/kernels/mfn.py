"""Multiplicative filter networks: Fourier, Gabor and MAGNet."""

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from partialsym.errors import InputError
from partialsym.kernels.base import Kernel


class SineFilter(nn.Module):
    """Sine filter sin(Ωz + φ), [*n, dim] → [*n, hidden], with Ω ~ N(0, scale²)."""

    def __init__(self, dim: int, hidden: int, scale: float) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, hidden)
        nn.init.normal_(self.linear.weight, std=scale)
        nn.init.uniform_(self.linear.bias, -math.pi, math.pi)

    def forward(self, z: Tensor) -> Tensor:
        return self.linear(z).sin()


class GaborFilter(SineFilter):
    """Gabor filter exp(−½ Σ_d (γ_d(z_d − μ_d))²)·sin(Ωz + φ), [*n, dim] → [*n, hidden].

    A feature has one γ or, if anisotropic, one per coordinate. At the start γ² ~ Gamma(α, 1) and μ ~ U[−1, 1], and each
    row of Ω is scaled by the mean of its γ.
    """

    def __init__(self, dim: int, hidden: int, scale: float, alpha: float, anisotropic: bool) -> None:
        super().__init__(dim, hidden, scale)
        law = torch.distributions.Gamma(torch.tensor(alpha), 1.0, validate_args=False)  # meta tensors have no values
        gamma = law.sample((hidden, dim if anisotropic else 1))
        self.gamma = nn.Parameter(gamma.sqrt())
        self.mu = nn.Parameter(torch.rand(hidden, dim) * 2 - 1)
        with torch.no_grad():
            self.linear.weight.mul_(self.gamma.mean(1, keepdim=True))

    def forward(self, z: Tensor) -> Tensor:
        distance = (self.gamma * (z.unsqueeze(-2) - self.mu)).square().sum(-1)
        return torch.exp(-0.5 * distance) * super().forward(z)


class MultiplicativeFilterNetwork(Kernel):
    """Multiplicative filter network (Fathony et al. 2021); subclasses define the filters g:

        φ_1 = g_1(z), φ_{l+1} = (W_l φ_l + b_l) ∘ g_{l+1}(z).

    Args:
        scale: standard deviation of the filters' frequencies, in radians per half kernel; positive.
        others: as for `Kernel`. There are `layers` − 1 filters.
    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self, dim: int, out_channels: int, in_channels: int, *, hidden: int = 32, layers: int = 3, scale: float = 3.0
    ) -> None:
        super().__init__(dim, out_channels, in_channels, hidden=hidden, layers=layers)
        if not scale > 0:
            raise InputError(f"scale is {scale}: must be positive.")
        each = scale / math.sqrt(layers - 1)  # frequencies of the filters add up in their product
        self.filters = nn.ModuleList([self._filter(dim, hidden, each, i) for i in range(layers - 1)])
        self.hidden = nn.ModuleList([nn.Linear(hidden, hidden) for _ in range(layers - 2)])
        nn.init.zeros_(self.linear.bias)

    @abstractmethod
    def _filter(self, dim: int, hidden: int, scale: float, depth: int) -> nn.Module: ...

    def features(self, z: Tensor) -> Tensor:
        phi = self.filters[0](z)
        for layer, filter_ in zip(self.hidden, list(self.filters)[1:], strict=True):
            phi = layer(phi) * filter_(z)
        return phi


class Fourier(MultiplicativeFilterNetwork):
    """Multiplicative filter network with sine filters g(z) = sin(Ωz + φ)."""

    def _filter(self, dim: int, hidden: int, scale: float, depth: int) -> nn.Module:
        return SineFilter(dim, hidden, scale)


class Gabor(MultiplicativeFilterNetwork):
    """Multiplicative filter network with isotropic Gabor filters.

    At the default scale, its spectrum exceeds what a kernel of 3 to 7 taps can sample. The layer is then not
    equivariant to rotations other than multiples of 90°, at any image size. `scale` 1.0 starts within that band: see
    docs/diagnosis.md.
    """

    def _filter(self, dim: int, hidden: int, scale: float, depth: int) -> nn.Module:
        return GaborFilter(dim, hidden, scale, alpha=6.0 / (depth + 1), anisotropic=False)


class MAGNet(MultiplicativeFilterNetwork):
    """Multiplicative anisotropic Gabor network (Romero et al. 2022, FlexConv), with one width per coordinate.

    At the default scale, a kernel of few taps undersamples it: see `Gabor`.
    """

    def _filter(self, dim: int, hidden: int, scale: float, depth: int) -> nn.Module:
        return GaborFilter(dim, hidden, scale, alpha=6.0 / (depth + 1), anisotropic=True)
