"""Densities on the Lie algebra: Haar, Dirac and the learned Uniform."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from partialsym.densities.base import AlgebraDensity

SMALLEST_THETA = 1e-3


class HaarAlgebra(AlgebraDensity):
    """Uniform over the whole algebra, θ = 1."""

    one: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("one", torch.ones(()), persistent=False)

    def theta(self) -> Tensor:
        return self.one


class DiracAlgebra(AlgebraDensity):
    """All mass at the identity, θ = 0."""

    zero: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def theta(self) -> Tensor:
        return self.zero


class Uniform(AlgebraDensity):
    """Uniform on [−θπ, θπ] with θ learned by reparametrisation: a = θ·π·u, u ~ U[−1, 1].

    θ = clamp(raw, 1e-3, 1). At a bound the gradient passes where a descent step leads inside, and is 0 where it
    leads out, so that θ can leave the bound it started at. In training by several processes that is the step of all.

    Args:
        theta: starting value in (0, 1].
    Raises:
        ValueError: theta outside (0, 1].
    """

    summed: Callable[[Tensor], Tensor] | None = None  # over the processes that train together

    def __init__(self, theta: float = 1.0) -> None:
        super().__init__()
        if not 0 < theta <= 1:
            raise ValueError(f"theta is {theta}: must be in (0, 1], the share of the full circle that is kept.")
        self.raw = nn.Parameter(torch.tensor(float(theta)))

    def theta(self) -> Tensor:
        return _InwardClamp.apply(self.raw, self.summed)


class _InwardClamp(torch.autograd.Function):
    """clamp(raw, SMALLEST_THETA, 1) whose gradient at and beyond a bound only ever leads inside."""

    @staticmethod
    def forward(raw: Tensor, summed: Callable[[Tensor], Tensor] | None) -> Tensor:
        return raw.clamp(SMALLEST_THETA, 1.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Any], output: Tensor) -> None:
        raw, ctx.summed = inputs
        ctx.save_for_backward(raw)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (raw,) = ctx.saved_tensors
        step = grad if ctx.summed is None else ctx.summed(grad)
        leads_out = ((raw >= 1.0) & (step < 0)) | ((raw <= SMALLEST_THETA) & (step > 0))
        return torch.where(leads_out, 0.0, grad), None
