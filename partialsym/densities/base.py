"""The density on a group, which determines the part of the group that a layer retains."""

from abc import ABC, abstractmethod
from numbers import Integral
from typing import Literal

import torch
from torch import Tensor, nn

from partialsym._utils.torch_func import batched
from partialsym.errors import InputError, InputTypeError, UnsupportedError
from partialsym.groups import Group
from partialsym.signal import Elements, autocasting, check_group, constant

Sampling = Literal["systematic", "iid"]


class AlgebraDensity(nn.Module, ABC):
    """A uniform density on the interval [(c − θ)π, (c + θ)π] of the Lie algebra, with c = 0 unless `centre` says so."""

    @abstractmethod
    def theta(self) -> Tensor:
        """θ: half the width of the interval as a fraction of π, a scalar in [0, 1]."""

    def centre(self) -> Tensor | None:
        """c: the midpoint of the interval as a fraction of π, a scalar. None means 0, the identity."""
        return None


class ComponentDensity(nn.Module, ABC):
    """A density on the components of a group. The identity always has weight 1."""

    def __init__(self, components: int) -> None:
        super().__init__()
        self.kept = components

    @abstractmethod
    def draw(self) -> Tensor | None:
        """Random weights [kept] in {0, 1}. None means that all components always have weight 1."""

    @abstractmethod
    def decide(self) -> Tensor | None:
        """Deterministic weights [kept] in {0, 1}. None means that all components always have weight 1."""

    @abstractmethod
    def probabilities(self) -> Tensor:
        """P(weight = 1) for each component, [kept]."""


class Density(nn.Module):
    """A density p(h) = p(a)·p(c) for h = exp(a)·c, with the number of elements to sample.

    See Romero & Lohit (2022), section 4. In train mode `sample` draws at random; in eval mode it is deterministic.

    Args:
        group: the group H.
        samples: number of elements n. It must be a multiple of the number of components retained; without an algebra,
            it must equal that number.
        algebra: density on the algebra.
        components: density on the components.
        sampling: `systematic` uses the angles cπ + θπ(−1 + 2(i + v)/r) with one v ~ U[0, 1) per draw; `iid` draws every
            angle independently.
        proportional: in eval mode, use ⌈rθ⌉ rotations per component instead of r.
    Raises:
        TypeError: group is no Group, or samples no integer.
        ValueError: samples or components do not fit the group, or sampling is unknown.
    """

    components: Tensor

    def __init__(
        self,
        group: Group,
        samples: int,
        *,
        algebra: AlgebraDensity,
        components: ComponentDensity,
        sampling: Sampling = "systematic",
        proportional: bool = False,
    ) -> None:
        super().__init__()
        check_group("group", group)
        if components.kept > len(group.components):
            raise InputError(f"components has {components.kept} components, but {group} has {len(group.components)}.")
        theta = algebra.theta().detach()
        wide = theta.is_meta or float(theta) > 0  # meta tensors hold no numbers
        check_samples(group, samples, components.kept, continuous=group.dim > 0 and wide)
        if sampling not in ("systematic", "iid"):
            raise InputError(f"sampling is {sampling!r}: must be 'systematic' or 'iid'.")
        self.group, self.samples, self.sampling, self.proportional = group, samples, sampling, proportional
        self.algebra, self.component = algebra, components
        self.register_buffer("components", constant(group.components[: components.kept]), persistent=False)

    @property
    def rotations(self) -> int:
        """Number of elements per component, r = samples / components."""
        return self.samples // len(self.components)

    def sample(self) -> Elements:
        """Elements of the group: `draw` in train mode, `deterministic` in eval mode."""
        return self.draw() if self.training else self.deterministic()

    def draw(self) -> Elements:
        """Draw n random elements from torch's global generator."""
        return self._elements(self._drawn(), self.component.draw())

    def deterministic(self) -> Elements:
        """For every component, the midpoints of equal parts of the interval.

        Elements of a component that eval mode drops have weight 0.
        """
        r = self.rotations
        if self.proportional and self.group.dim and not self.components.is_meta:  # θ has no value on meta
            theta = self.algebra.theta()
            if batched(theta):
                raise UnsupportedError(
                    "torch.vmap over models is not possible with proportional densities, because the number ⌈rθ⌉ of "
                    "elements differs between the models: call partialsym.set_proportional(model, False)."
                )
            r = max(1, int(torch.ceil(r * theta - 1e-6)))
        return self._elements(self._midpoints(r), self.component.decide())

    def _elements(self, position: Tensor, weights: Tensor | None) -> Elements:
        """position [components or 1, r] in [−1, 1] and weights [components] → Elements, ordered by component."""
        with torch.autocast(autocasting(self.components), enabled=False):
            matrices = self._matrices(self._angles(position), self.components)
        return self._weighted(matrices, weights)

    def _matrices(self, angles: Tensor, components: Tensor) -> Tensor:
        """Angles [*k, c or 1, r] and components [*k, c, 2, 2] → matrices [*k, n, 2, 2], ordered by component."""
        matrices, (*k, c) = self.group.exp(angles[..., None][..., : self.group.dim]), components.shape[:-2]
        if c > 1:  # the first is the identity
            each = matrices.flatten(-3, -2).expand(*k, c, -1, -1).flatten(0, -3)
            matrices = torch.bmm(each, components.flatten(0, -3)).unflatten(0, (*k, c)).unflatten(-2, (-1, 2))
        return matrices.flatten(-4, -3)

    def _weighted(self, matrices: Tensor, weights: Tensor | None) -> Elements:
        """Matrices [n, 2, 2] and weights [components] → Elements."""
        if weights is None:
            return Elements(self.group, matrices)
        tied = len(matrices) // len(weights)
        return Elements(self.group, matrices, weights.repeat_interleave(tied), tied)

    def _angles(self, position: Tensor) -> Tensor:
        """The reparametrisation: positions in [−1, 1] → angles in [(c − θ)π, (c + θ)π], of the same shape."""
        angles, centre = self.algebra.theta() * (torch.pi * position), self.algebra.centre()
        return angles if centre is None else angles + centre * torch.pi

    def _midpoints(self, r: int) -> Tensor:
        return (torch.arange(r, device=self.components.device, dtype=self.components.dtype) * 2 + (1 - r))[None] / r

    def _drawn(self) -> Tensor:
        """Random positions in [−1, 1], [components or 1, r]."""
        return self._positions(self._random())

    def _random(self) -> Tensor | None:
        """The random numbers of a draw, uniform on [0, 1): [1, 1], or for `iid` [components, r]; None without any."""
        if self.group.dim == 0:  # nothing to draw, so the generator must not advance
            return None
        shape = (len(self.components), self.rotations) if self.sampling == "iid" else (1, 1)
        return torch.rand(shape, device=self.components.device, dtype=self.components.dtype)

    def _positions(self, u: Tensor | None) -> Tensor:
        """The numbers of `_random` [*k, ., .] → positions [*k, components or 1, r]."""
        r = self.rotations
        if u is None:
            return self._midpoints(r)
        if self.sampling == "iid":
            return u * 2 - 1
        return torch.linspace(-1, 1 - 2 / r, r, device=u.device, dtype=u.dtype).add(u, alpha=2 / r)

    def support(self) -> dict[str, float]:
        """The support in readable numbers: `theta_deg` and, for each component c other than e, `P(c)`.

        The interval is [−theta_deg, theta_deg] in degrees. An algebra with a `centre` adds `centre_deg`, the
        midpoint of the interval. It is not reduced modulo 360, so that it changes without jumps.
        """
        read, centre = {}, self.algebra.centre()
        if self.group.dim:
            read["theta_deg"] = 180.0 * float(self.algebra.theta().detach())
            read |= {} if centre is None else {"centre_deg": 180.0 * float(centre.detach())}
        kept = self.component.probabilities().tolist()
        names = self.group.component_names
        return read | {f"P({c})": p for c, p in zip(names[1:], (kept + [0.0] * len(names))[1:], strict=False)}

    def extra_repr(self) -> str:
        return f"{self.group}, samples={self.samples}, sampling={self.sampling!r}"


def check_samples(group: Group, samples: int, components: int, continuous: bool) -> None:
    """Raise TypeError unless `samples` is an integer, and ValueError unless the components share it equally."""
    if not isinstance(samples, Integral):
        raise InputTypeError(f"samples is {samples!r}: must be an integer, the number of elements.")
    if continuous and (samples < components or samples % components):
        raise InputError(
            f"{group} has {components} component{'s' * (components > 1)}: the number of elements must be a positive "
            f"multiple of {components}, got {samples}."
        )
    if not continuous and samples != components:
        raise InputError(
            f"This density retains {components} discrete elements of {group}: "
            f"samples must be {components}, got {samples}."
        )
