"""Which part of a group a layer keeps: densities on the algebra times densities on the components."""

from torch import nn

from partialsym.densities.algebra import DiracAlgebra, HaarAlgebra, Uniform, one_theta
from partialsym.densities.base import AlgebraDensity, ComponentDensity, Density, Sampling, check_samples
from partialsym.densities.components import AllComponents, Bernoulli, DiracComponents
from partialsym.groups import Group
from partialsym.signal import check_group

ALGEBRAS = {"haar": HaarAlgebra, "dirac": DiracAlgebra, "uniform": Uniform}
COMPONENTS = {"all": AllComponents, "dirac": DiracComponents, "bernoulli": Bernoulli}


def haar(group: Group, samples: int, *, sampling: Sampling = "systematic") -> Density:
    """The whole group: what an ordinary G-CNN integrates over."""
    check_group("group", group)
    components = AllComponents(len(group.components))
    return Density(group, samples, algebra=HaarAlgebra(), components=components, sampling=sampling)


def dirac(group: Group) -> Density:
    """The identity alone: what a plain convolution keeps."""
    return Density(group, 1, algebra=DiracAlgebra(), components=DiracComponents())


def learned(
    group: Group,
    samples: int,
    *,
    sampling: Sampling = "systematic",
    proportional: bool = False,
    temperature: float = 0.5,
) -> Density:
    """A learned part of the group: Uniform on the algebra (θ from 1), Bernoulli on the components (P from 0.88)."""
    check_group("group", group)
    count = len(group.components)
    return Density(
        group,
        samples,
        algebra=Uniform() if group.dim else HaarAlgebra(),
        components=Bernoulli(count, temperature=temperature) if count > 1 else AllComponents(1),
        sampling=sampling,
        proportional=proportional,
    )


def set_temperature(model: nn.Module, temperature: float) -> None:
    """Set the temperature of every relaxed Bernoulli in `model`; a training schedule calls it before each step."""
    for module in model.modules():
        if isinstance(module, Bernoulli):
            module.set_temperature(temperature)


def set_proportional(model: nn.Module, proportional: bool) -> None:
    """Let every density in `model` take ⌈rθ⌉ rotations a component in eval mode, or r.

    BatchNorm's statistics are those of the elements they were gathered on: `recalibrate` after a change. The choice
    is not in the state dict, but `save_model` keeps it.
    """
    for module in model.modules():
        if isinstance(module, Density):
            module.proportional = proportional


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
    "set_proportional",
    "set_temperature",
]
