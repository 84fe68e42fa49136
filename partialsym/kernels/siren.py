"""SIREN: a network with sine activations."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from partialsym.errors import InputError
from partialsym.kernels.base import Kernel, is_plain, uniform_


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
        rows = z.reshape(-1, z.shape[-1])
        for layer in self.hidden:
            rows = self._scaled(layer, rows).sin()
        return rows.view(*z.shape[:-1], rows.shape[1])

    @property
    def batch_key(self) -> Hashable:
        if type(self) is not SIREN or "features" in vars(self) or not all(map(_is_stackable, self.hidden)):
            return None
        parts = [part for layer in self.hidden for part in (layer.weight, layer.bias)]
        return self.omega0, *((part.shape, part.dtype, part.requires_grad) for part in parts)

    @staticmethod
    def batched_features(kernels: Sequence[Any], z: Tensor) -> Tensor:
        rows = z.flatten(1, -2)
        for depth, layers in enumerate(zip(*(kernel.hidden for kernel in kernels), strict=True)):
            weight, bias = (torch.stack(parts) for parts in zip(*((m.weight, m.bias) for m in layers), strict=True))
            rows = _ScaledLinear.apply(rows, weight, bias, kernels[0].omega0, depth > 0)
        return rows.sin().unflatten(1, z.shape[1:-1])

    def _scaled(self, layer: nn.Module, rows: Tensor) -> Tensor:
        """ω₀(W·z + b) of rows z [n, in], with whatever hooks the layer has."""
        if not isinstance(layer, nn.Linear) or not is_plain(layer) or layer.bias is None:
            return self.omega0 * layer(rows)
        return _ScaledLinear.apply(rows, layer.weight, layer.bias, self.omega0, False)


def _is_stackable(layer: nn.Module) -> bool:
    """Whether the layer is a linear one with a bias whose parameters can be read without computing them."""
    return type(layer) is nn.Linear and is_plain(layer) and layer.bias is not None


class _ScaledLinear(torch.autograd.Function):
    """c·(W·z + b) of rows z [*k, n, in] in one call, and c in the backward pass applied once, not to each gradient.

    With `sine`, sin z takes the place of z. It is computed again in the backward pass, not saved.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, weight: Tensor, bias: Tensor, factor: float, sine: bool) -> Tensor:
        product = torch.addmm if z.ndim == 2 else torch.baddbmm
        return product(bias[..., None, :], z.sin() if sine else z, weight.mT, beta=factor, alpha=factor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, float, bool], output: Tensor) -> None:
        z, weight, _, ctx.factor, ctx.sine = inputs
        ctx.save_for_backward(z, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        z, weight = (part.to(grad.dtype) for part in ctx.saved_tensors)  # autocast's is another
        grad = ctx.factor * grad
        d_z = grad @ weight if ctx.needs_input_grad[0] else None
        d_z = d_z * z.cos() if ctx.sine and d_z is not None else d_z
        return d_z, grad.mT @ (z.sin() if ctx.sine else z), grad.sum(-2), None, None
