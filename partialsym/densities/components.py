"""Densities on the components of a group: all components, only the identity, and the learned Bernoulli."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from partialsym.densities.base import ComponentDensity
from partialsym.errors import InputError


class AllComponents(ComponentDensity):
    """Every component has weight 1."""

    ones: Tensor

    def __init__(self, components: int) -> None:
        super().__init__(components)
        self.register_buffer("ones", torch.ones(components), persistent=False)

    def draw(self) -> None:
        return None

    def decide(self) -> None:
        return None

    def probabilities(self) -> Tensor:
        return self.ones


class DiracComponents(AllComponents):
    """Only the identity component is retained."""

    def __init__(self) -> None:
        super().__init__(1)


class Bernoulli(ComponentDensity):
    """Each component other than e is retained with a learned probability P = σ(logit).

    The straight-through Gumbel-softmax estimator draws the weight w = 1[logit + ε > 0] with ε ~ Logistic. Its gradient
    is that of the relaxed y = σ((logit + ε)/τ), so ∂w/∂logit = y(1 − y)/τ (Maddison et al. 2017; Jang et al. 2017).
    Elements that were not drawn receive this gradient too. In eval mode a component is retained if P > ½, unless
    `choose` has overridden that.

    Args:
        components: number of components of the group, including e; at least 2.
        probability: starting probability, in (0, 1).
        temperature: τ > 0 of the relaxation. The training schedule sets it, and the state dict stores it.
    Raises:
        ValueError: an argument out of range.
    """

    temperature: Tensor
    chosen: Tensor  # [components − 1], for eval mode: 1 retained, −1 dropped, 0 decided by P > ½

    def __init__(self, components: int, probability: float = 0.88, temperature: float = 0.5) -> None:
        super().__init__(components)
        if components < 2:
            raise InputError(f"components is {components}: must be at least 2, the identity and one to learn.")
        if not 0 < probability < 1:
            raise InputError(f"probability is {probability}: must be in (0, 1).")
        self.logits = nn.Parameter(torch.full((components - 1,), math.log(probability / (1 - probability))))
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("chosen", torch.zeros(components - 1, dtype=torch.int8))
        self.set_temperature(temperature)

    def set_temperature(self, temperature: float) -> None:
        """Set τ. Raise ValueError unless it is positive and finite."""
        if not 0 < temperature < math.inf:
            raise InputError(f"temperature is {temperature}: must be positive and finite.")
        self.temperature.fill_(temperature)

    def choose(self, component: int, kept: bool | None) -> None:
        """Set whether eval mode retains a component other than e (1, 2, …), whatever its P is. None: decide by P > ½.

        `partialsym.choose_components` calls this with what it finds on validation images. Training is not affected.
        """
        if not 1 <= component < self.kept:
            raise InputError(f"component is {component}: must be from 1 to {self.kept - 1}, a component other than e.")
        self.chosen[component - 1] = 0 if kept is None else 1 if kept else -1

    def decide(self) -> Tensor:
        kept = torch.where(self.chosen == 0, self.logits > 0, self.chosen > 0)
        return self._with_identity(kept.to(self.logits))

    def draw(self) -> Tensor:
        tiny = torch.finfo(self.logits.dtype).tiny
        u = torch.rand_like(self.logits).clamp(min=tiny, max=1 - torch.finfo(self.logits.dtype).eps)
        noisy = self.logits + u.logit()
        relaxed = torch.sigmoid(noisy / self.temperature)
        return self._with_identity((noisy > 0).to(relaxed) + (relaxed - relaxed.detach()))

    def probabilities(self) -> Tensor:
        return self._with_identity(self.logits.sigmoid()).detach()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if f"{prefix}logits" in state_dict:  # earlier files have no such buffer
            state_dict.setdefault(f"{prefix}chosen", torch.zeros_like(self.chosen))
        super()._load_from_state_dict(state_dict, prefix, *args)

    @staticmethod
    def _with_identity(weights: Tensor) -> Tensor:
        return torch.cat([torch.ones_like(weights[:1]), weights])
