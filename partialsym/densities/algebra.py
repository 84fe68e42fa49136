"""Densities on the Lie algebra: Haar, Dirac and the learned Uniform."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from partialsym._utils.torch_func import first_only, refuse_forward
from partialsym.densities.base import AlgebraDensity
from partialsym.errors import InputError

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
    leads out, so that θ can leave the bound it started at. That is decided for each use of `theta()` alone; in
    `one_theta` for the sum of all uses. In training by several processes it is the step of all.

    Args:
        theta: starting value in (0, 1].
    Raises:
        ValueError: theta outside (0, 1].
    """

    all_reduce: Callable[[Tensor], Tensor] | None = None  # over the processes that train together

    def __init__(self, theta: float = 1.0) -> None:
        super().__init__()
        if not 0 < theta <= 1:
            raise InputError(f"theta is {theta}: must be in (0, 1], the share of the full circle that is kept.")
        self.raw = nn.Parameter(torch.tensor(float(theta)))
        self.shared: Tensor | None = None  # within `one_theta`

    def theta(self) -> Tensor:
        if self.shared is not None:
            return self.shared
        refuse_forward("bound of θ")
        return _InwardClamp.apply(self.raw, self.all_reduce)


@contextmanager
def one_theta(model: nn.Module) -> Iterator[None]:
    """Within it every learned θ of `model` is one tensor: at its bound, gradients of a loss and of penalties count
    together, not each alone."""
    learned = [module for module in model.modules() if isinstance(module, Uniform)]
    for module in learned:
        module.shared = module.theta()
    try:
        yield
    finally:
        for module in learned:
            module.shared = None


class _InwardClamp(torch.autograd.Function):
    """clamp(raw, SMALLEST_THETA, 1) whose gradient at and beyond a bound only ever leads inside."""

    generate_vmap_rule = True

    @staticmethod
    def forward(raw: Tensor, all_reduce: Callable[[Tensor], Tensor] | None) -> Tensor:
        return raw.clamp(SMALLEST_THETA, 1.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Any], output: Tensor) -> None:
        raw, ctx.all_reduce = inputs
        ctx.save_for_backward(raw)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (raw,) = ctx.saved_tensors
        step = grad if ctx.all_reduce is None else ctx.all_reduce(grad)
        leads_out = ((raw >= 1.0) & (step < 0)) | ((raw <= SMALLEST_THETA) & (step > 0))
        return first_only("bound of θ", torch.where(leads_out, 0.0, grad)), None
