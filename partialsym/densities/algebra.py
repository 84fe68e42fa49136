"""Densities on the Lie algebra: Haar, Dirac and the learned Uniform."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from partialsym._utils.torch_func import first_only, refuse_forward
from partialsym.densities.base import AlgebraDensity
from partialsym.errors import InputError

SMALLEST_THETA = 1e-3


class HaarAlgebra(AlgebraDensity):
    """The uniform density on the whole algebra, θ = 1."""

    one: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("one", torch.ones(()), persistent=False)

    def theta(self) -> Tensor:
        return self.one


class DiracAlgebra(AlgebraDensity):
    """The density with all its mass at the identity, θ = 0."""

    zero: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def theta(self) -> Tensor:
        return self.zero


class Uniform(AlgebraDensity):
    """The uniform density on [−θπ, θπ]; θ is learned by the reparametrisation a = θ·π·u, u ~ U[−1, 1].

    θ = clamp(raw, 1e-3, 1). At a bound, the gradient passes if a descent step leads back inside, and is 0 if the step
    leads outside, so that θ can leave the bound where it started. This is decided separately for each use of `theta()`;
    within `one_theta` it is decided for the sum of all uses. In distributed training, the sum over all processes
    decides.

    Args:
        theta: starting value in (0, 1].
    Raises:
        ValueError: theta outside (0, 1].
    """

    all_reduce: Callable[[Tensor], Tensor] | None = None  # over the processes of distributed training

    def __init__(self, theta: float = 1.0) -> None:
        super().__init__()
        if not 0 < theta <= 1:
            raise InputError(f"theta is {theta}: must be in (0, 1], the fraction of the full circle that is retained.")
        self.raw = nn.Parameter(torch.tensor(float(theta)))
        self.shared: Tensor | None = None  # within `one_theta`

    def theta(self) -> Tensor:
        if self.shared is not None:
            return self.shared
        refuse_forward("bound of θ")
        return _InwardClamp.apply(self.raw, self.all_reduce)


def thetas(algebras: Sequence[AlgebraDensity]) -> Tensor:
    """θ of each density, [n]; in as few operations as for one, if all are `Uniform` and none is shared."""
    learned = [a for a in algebras if type(a) is Uniform and a.shared is None and a.all_reduce is None]
    if len(learned) < len(algebras):
        return torch.stack([algebra.theta() for algebra in algebras])
    return _InwardClamp.apply(torch.stack([algebra.raw for algebra in learned]), None)


@contextmanager
def one_theta(model: nn.Module) -> Iterator[None]:
    """Within this context, every call of `theta()` returns the same tensor.

    At a bound of θ, the gradients of a loss and of its penalties are then added before their direction is checked.
    """
    learned = [module for module in model.modules() if isinstance(module, Uniform)]
    for module in learned:
        module.shared = module.theta()
    try:
        yield
    finally:
        for module in learned:
            module.shared = None


class _InwardClamp(torch.autograd.Function):
    """clamp(raw, SMALLEST_THETA, 1). At and beyond a bound, only gradients that lead back inside pass."""

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
        leads_in = torch.where(step < 0, raw < 1.0, raw > SMALLEST_THETA)
        return first_only("bound of θ", grad * leads_in), None
