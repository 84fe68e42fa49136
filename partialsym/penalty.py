"""Penalties a training may add to its loss. Each evaluates the model itself; none reads what a forward left behind."""

import torch
from torch import Tensor, nn

from partialsym.conv import GroupConv
from partialsym.densities import Bernoulli, Density, Uniform
from partialsym.models import Augerino


def kernel_norm(model: nn.Module) -> Tensor:
    """Σ over all group convolutions of ‖k‖₂ + ‖b‖₂: see `GroupConv.kernel_norm`. A scalar."""
    norms = [m.kernel_norm() for m in model.modules() if isinstance(m, GroupConv)]
    return torch.stack(norms).sum() if norms else torch.zeros(())


def monotonic(model: nn.Module) -> Tensor:
    """Σ_l relu(θ_{l+1} − θ_l) over the learned intervals, in the order of the modules (Romero & Lohit 2022). A scalar.

    0 for a model with fewer than two learned intervals. Augerino's is no layer's and is left out.
    """
    inputs = [m.density.algebra for m in model.modules() if isinstance(m, Augerino)]
    theta = [m.theta() for m in model.modules() if isinstance(m, Uniform) and all(m is not i for i in inputs)]
    if len(theta) < 2:
        return torch.zeros(())
    return torch.stack(theta).diff().relu().sum()


def width(model: nn.Module) -> Tensor:
    """Σ θ over the learned intervals: a reward, to be subtracted from the loss (Benton et al. 2020). A scalar.

    At θ = 1 its gradient is 0: nothing pushes beyond the whole group. 0 for a model without a learned interval.
    """
    theta = [m.theta() for m in model.modules() if isinstance(m, Uniform)]
    return torch.stack(theta).sum() if theta else torch.zeros(())


def haar_divergence(model: nn.Module) -> Tensor:
    """Σ over the learned densities of KL(p ‖ Haar) = −log(the share of the group that p keeps). A scalar ≥ 0.

    The share is θ · (1 + Σ P(c)) / components, that of the expected set; 0 where a density keeps its whole group.
    """
    shares = []
    for density in (m for m in model.modules() if isinstance(m, Density) and next(m.parameters(), None) is not None):
        component, kept = density.component, len(density.group.components)
        count = 1 + component.logits.sigmoid().sum() if isinstance(component, Bernoulli) else len(density.components)
        shares.append(density.algebra.theta() * count / kept)
    return -torch.stack(shares).log().sum() if shares else torch.zeros(())
