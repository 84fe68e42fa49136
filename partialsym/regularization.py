"""Penalties that can be added to a training loss. Each is computed from the model's parameters."""

import math

import torch
from torch import Tensor, nn

from partialsym.densities import Bernoulli, Density, Uniform
from partialsym.models import Augerino
from partialsym.nn.conv import GroupConv
from partialsym.nn.separable import SpatialConv


def kernel_norm(model: nn.Module) -> Tensor:
    """Σ over all group convolutions of ‖k‖₂ + ‖b‖₂, a scalar: see `GroupConv.kernel_norm`."""
    norms = [m.kernel_norm() for m in model.modules() if isinstance(m, GroupConv | SpatialConv)]
    return torch.stack(norms).sum() if norms else _nothing(model)


def monotonic(model: nn.Module) -> Tensor:
    """Σ_l relu(θ_{l+1} − θ_l) over the learned intervals, in the order of the modules (Romero & Lohit 2022). A scalar.

    It is 0 for a model with fewer than two learned intervals. The interval of an Augerino is excluded, because it does
    not belong to a layer.
    """
    inputs = [m.density.algebra for m in model.modules() if isinstance(m, Augerino)]
    theta = [m.theta() for m in model.modules() if isinstance(m, Uniform) and all(m is not i for i in inputs)]
    if len(theta) < 2:
        return _nothing(model)
    return torch.stack(theta).diff().relu().sum()


def width(model: nn.Module) -> Tensor:
    """Σ θ over the learned intervals, a reward to subtract from the loss (Benton et al. 2020). A scalar.

    At θ = 1 its gradient is 0, because θ cannot exceed the whole group. Use `densities.one_theta` to add the gradients
    of this reward and of the loss before that bound applies. It is 0 for a model without a learned interval.
    """
    theta = [m.theta() for m in model.modules() if isinstance(m, Uniform)]
    return torch.stack(theta).sum() if theta else _nothing(model)


def haar_divergence(model: nn.Module) -> Tensor:
    """Σ over the learned densities of KL(p ‖ Haar) = −log θ + log C + Σ_c p(c) log p(c). A scalar ≥ 0.

    p(c) = P(c) / Σ P over the C components, with P = 1 for the identity. It is 0 if p is the Haar density.
    """
    found = []
    for density in (m for m in model.modules() if isinstance(m, Density) and next(m.parameters(), None) is not None):
        component = density.component
        mass = density.components.new_ones(len(density.components))
        if isinstance(component, Bernoulli):
            mass = torch.cat([mass[:1], component.logits.sigmoid()])
        entropy = torch.special.entr(mass / mass.sum()).sum()
        found.append(math.log(len(density.group.components)) - entropy - density.algebra.theta().log())
    return torch.stack(found).sum() if found else _nothing(model)


def _nothing(model: nn.Module) -> Tensor:
    """Zero, on the model's device."""
    like = next(model.parameters(), None)
    return torch.zeros((), device=None if like is None else like.device)
