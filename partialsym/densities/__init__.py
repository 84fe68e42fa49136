"""Densities on a group: a density on the Lie algebra times a density on the components."""

from typing import Any

from torch import nn

from partialsym.densities.algebra import DiracAlgebra, HaarAlgebra, Uniform, one_theta
from partialsym.densities.base import AlgebraDensity, ComponentDensity, Density, Sampling, check_samples
from partialsym.densities.components import AllComponents, Bernoulli, DiracComponents
from partialsym.errors import InputError
from partialsym.groups import Group
from partialsym.signal import check_group

ALGEBRAS = {"haar": HaarAlgebra, "dirac": DiracAlgebra, "uniform": Uniform}
COMPONENTS = {"all": AllComponents, "dirac": DiracComponents, "bernoulli": Bernoulli}


def haar(group: Group, samples: int, *, sampling: Sampling = "systematic") -> Density:
    """The Haar density on the whole group, over which an ordinary G-CNN integrates."""
    check_group("group", group)
    components = AllComponents(len(group.components))
    return Density(group, samples, algebra=HaarAlgebra(), components=components, sampling=sampling)


def dirac(group: Group) -> Density:
    """The density with all its mass at the identity. With it, a group convolution is an ordinary convolution."""
    return Density(group, 1, algebra=DiracAlgebra(), components=DiracComponents())


def learned(
    group: Group,
    samples: int,
    *,
    sampling: Sampling = "systematic",
    proportional: bool = False,
    temperature: float = 0.5,
    theta: float = 1.0,
) -> Density:
    """A learned subset of the group: `Uniform` on the algebra, and `Bernoulli` on the components (P starts at 0.88).

    Args:
        group: the group.
        samples: number of elements that a layer draws, a multiple of the number of components.
        sampling: "systematic" or "iid" draws.
        proportional: whether eval mode uses ⌈nθ⌉ elements instead of n.
        temperature: of the relaxed Bernoulli.
        theta: θ at the start, as a share of the whole algebra, in (0, 1]. For rotations the interval is ±θ·180°.
    Raises:
        InputError: theta outside (0, 1], or given for a group without rotations.
    """
    check_group("group", group)
    if not group.dim and theta != 1:
        raise InputError(f"theta is {theta}, but {group} has no rotations by any angle: leave theta out.")
    count = len(group.components)
    return Density(
        group,
        samples,
        algebra=Uniform(theta) if group.dim else HaarAlgebra(),
        components=Bernoulli(count, temperature=temperature) if count > 1 else AllComponents(1),
        sampling=sampling,
        proportional=proportional,
    )


def set_temperature(model: nn.Module, temperature: float) -> None:
    """Set the temperature of every relaxed Bernoulli in `model`. A training schedule calls this before each step."""
    for module in model.modules():
        if isinstance(module, Bernoulli):
            module.set_temperature(temperature)


def set_proportional(model: nn.Module, proportional: bool) -> None:
    """Make every density in `model` use ⌈rθ⌉ rotations per component in eval mode, or r.

    BatchNorm's running statistics depend on the elements: call `recalibrate` after a change. The setting is not in the
    state dict, but `save_model` stores it.
    """
    for module in model.modules():
        if isinstance(module, Density):
            module.proportional = proportional


def parameter_groups(model: nn.Module, *, lr: float, density_lr: float) -> list[dict[str, Any]]:
    """The parameters of `model` for an optimizer of `torch.optim`: weights, and densities with their own learning rate.

    A density has one or two parameters in a layer, which need steps three to ten times as large as the weights, and no
    weight decay: it would narrow the subset that a layer retains, whatever the data say.

    Args:
        model: any module with partialsym layers.
        lr: learning rate of the weights.
        density_lr: learning rate of the densities (θ and the probabilities).
    Returns:
        One or two dictionaries with `params` and `lr`, without empty ones: `torch.optim.Adam(parameter_groups(…))`.
        The one of the densities also has a `weight_decay` of 0, which overrides that of the optimizer.
    """
    densities = [m for m in model.modules() if isinstance(m, AlgebraDensity | ComponentDensity)]
    special = {id(p) for m in densities for p in m.parameters()}
    weights = [p for p in model.parameters() if id(p) not in special]
    learned = [p for p in model.parameters() if id(p) in special]
    groups = [{"params": weights, "lr": lr}, {"params": learned, "lr": density_lr, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


__all__ = [
    "ALGEBRAS",
    "COMPONENTS",
    "AlgebraDensity",
    "AllComponents",
    "Bernoulli",
    "ComponentDensity",
    "Density",
    "DiracAlgebra",
    "DiracComponents",
    "HaarAlgebra",
    "Sampling",
    "Uniform",
    "check_samples",
    "dirac",
    "haar",
    "learned",
    "one_theta",
    "parameter_groups",
    "set_proportional",
    "set_temperature",
]
