"""Groups of linear maps of the plane. An element is represented by its 2×2 matrix.

Every group in this package is the H of R² ⋊ H. It has a Lie algebra of dimension 0 or 1 and finitely many components:
h = exp(a) @ components[i]. The x axis points right and the y axis up, so exp(a) rotates counter-clockwise.
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from partialsym.errors import InputError


def rotation(angle: Tensor) -> Tensor:
    """Rotation matrices [*n, 2, 2] by `angle` [*n] in radians, counter-clockwise."""
    return _Rotation.apply(angle)


class _Rotation(torch.autograd.Function):
    """R(a). With the quarter turn J, dR/da = J·R, so that a gradient G becomes ⟨G, J·R⟩ = (G·Rᵀ)₁₀ − (G·Rᵀ)₀₁."""

    generate_vmap_rule = True

    @staticmethod
    def forward(angle: Tensor) -> Tensor:
        c, s = angle.cos(), angle.sin()
        return torch.stack([c, -s, s, c], -1).unflatten(-1, (2, 2))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (matrices,) = ctx.saved_tensors
        product = grad @ matrices.mT
        return product[..., 1, 0] - product[..., 0, 1]


def rotations(n: int) -> Tensor:
    """The n rotations by multiples of 2π/n, [n, 2, 2], float64; exact on multiples of 90°."""
    matrices = rotation(torch.arange(n, dtype=torch.float64, device="cpu") * (2 * math.pi / n))
    return torch.where(matrices.abs() < 1e-15, 0.0, matrices)


def mirrored(matrices: Tensor) -> Tensor:
    """Return `matrices` [n, 2, 2], followed by each of them composed with a left-right reflection: [2n, 2, 2]."""
    mirror = torch.tensor([[-1.0, 0.0], [0.0, 1.0]], dtype=matrices.dtype, device=matrices.device)
    return torch.cat([matrices, matrices @ mirror])


class Group(ABC):
    """A group H of linear maps of the plane, with elements h = exp(a) @ components[i].

    Attributes:
        name: the group's name in Python and on the command line.
        dim: dimension of the Lie algebra, 0 or 1.
        components: [c, 2, 2] float64, the identity first. They are on the CPU, whatever the default device is.
        embed_dim: number e of smooth coordinates by which a kernel receives a relative element.
    """

    name: str
    dim: int
    components: Tensor
    embed_dim: int

    @abstractmethod
    def exp(self, a: Tensor) -> Tensor:
        """Exponential map: algebra coordinates [*n, dim] → matrices [*n, 2, 2]."""

    @abstractmethod
    def embed(self, h: Tensor) -> Tensor:
        """Smooth coordinates [*n, e] of elements [*n, 2, 2]. A kernel receives those of h⁻¹h̃."""

    def embedded_inverse(self, h: Tensor) -> Tensor | None:
        """The matrices D(h) [*n, e, e] with embed(h⁻¹h̃) = D(h)·embed(h̃) for all h̃; None if there are none.

        With them, layers whose kernel is linear in the embedded element convolve e + 1 moments instead of n elements.
        """
        return None

    def coordinates(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Inverse of (a, i) ↦ exp(a) @ components[i].

        Args:
            h: elements [*n, 2, 2].
        Returns:
            a [*n, dim] in (−π, π], continuous at the identity, and i [*n].
        Raises:
            ValueError: an element of h is not in the group.
        """
        a, i, distance = self._nearest(h)
        if not (distance <= 1e-4).all():  # this form rejects NaN too
            worst = h.reshape(-1, 2, 2)[int(distance.reshape(-1).argmax())].tolist()
            raise InputError(f"{worst} is not an element of {self.name}.")
        return a, i

    def contains(self, h: Tensor) -> Tensor:
        """Whether each of `h` [*n, 2, 2] is in the group: [*n] bool."""
        return self._nearest(h)[2] <= 1e-4

    def includes(self, other: "Group") -> bool:
        """Whether `other` is a subgroup of this group."""
        return other.dim <= self.dim and bool(self.contains(other.components).all())

    def grid(self, rotations: int) -> Tensor:
        """A Haar quadrature: for every component, the midpoints of `rotations` equal parts of the algebra.

        Returns:
            [n, 2, 2] float64. A group without an algebra returns its components and ignores `rotations`.
        """
        r = rotations if self.dim else 1
        a = math.pi * (torch.arange(r, dtype=torch.float64, device=self.components.device) * 2 + (1 - r)) / r
        return (self.exp(a[:, None][:, : self.dim]) @ self.components[:, None]).flatten(0, 1)

    @property
    def component_names(self) -> list[str]:
        """Readable names of the components: `e`, `m`, `90°`, `90°·m` (reflect left-right, then rotate by 90°)."""
        turns = torch.atan2(-self.components[:, 0, 1], self.components[:, 1, 1]) * (180 / math.pi) % 360
        names = []
        for turn, h in zip(turns.tolist(), self.components, strict=True):
            degrees = "" if round(turn, 6) in (0.0, 360.0) else f"{turn:.4g}°"
            names.append("·".join(filter(None, [degrees, "m" if torch.linalg.det(h) < 0 else ""])) or "e")
        return names

    def _nearest(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(a, i, distance): the group element nearest to each h, and its distance (the largest entry)."""
        rest = h.unsqueeze(-3) @ self.inverse(self.components.to(h))  # [*n, c, 2, 2]: exp(a) for the right i
        a = self._log(rest)
        distance = (self.exp(a) - rest).abs().amax((-2, -1))
        nearest, i = distance.min(-1)
        return a.take_along_dim(i[..., None, None], -2).squeeze(-2), i, nearest

    def _log(self, h: Tensor) -> Tensor:
        """Algebra coordinates [*n, dim] of the exponential nearest to h [*n, 2, 2]."""
        angle = torch.atan2(h[..., 1, 0] - h[..., 0, 1], h[..., 0, 0] + h[..., 1, 1])
        angle = torch.where(angle <= -math.pi, math.pi, angle)
        return angle[..., None][..., : self.dim]

    @staticmethod
    def compose(g: Tensor, h: Tensor) -> Tensor:
        """g·h, broadcast over leading axes: [*n, 2, 2]."""
        return g @ h

    @staticmethod
    def inverse(h: Tensor) -> Tensor:
        """h⁻¹ of elements [*n, 2, 2], which are orthogonal: the transpose."""
        return h.mT

    @staticmethod
    def act(h: Tensor, x: Tensor) -> Tensor:
        """h·x: apply matrices [*n, 2, 2] to points [*n, 2] (x right, y up), broadcast over leading axes."""
        return (h @ x[..., None]).squeeze(-1)

    def __repr__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Group) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


class FiniteGroup(Group):
    """A group without a Lie algebra. Its components are its elements."""

    dim = 0

    def exp(self, a: Tensor) -> Tensor:
        return torch.eye(2, dtype=a.dtype, device=a.device).expand(*a.shape[:-1], 2, 2)


def embed_rotation(h: Tensor) -> Tensor:
    """(cos δ, sin δ) [*n, 2] for h = R(δ): its first column."""
    return h[..., 0]


def inverse_on_rotation(h: Tensor) -> Tensor:
    """`Group.embedded_inverse` for `embed_rotation`: h⁻¹."""
    return h.mT


def embed_mirror(h: Tensor) -> Tensor:
    """The determinant, [*n, 1]: +1 for rotations and −1 for reflections. It is locally constant, so it is detached."""
    h = h.detach()
    return torch.addcmul(h[..., 0, 0] * h[..., 1, 1], h[..., 0, 1], h[..., 1, 0], value=-1)[..., None]


def inverse_on_mirror(h: Tensor) -> Tensor:
    """`Group.embedded_inverse` for `embed_mirror`: the determinant, [*n, 1, 1]."""
    return embed_mirror(h)[..., None]


def embed_both(h: Tensor) -> Tensor:
    """(cos δ, sin δ, det) [*n, 3] for h = R(δ) or h = R(δ)·m, where m is the reflection.

    The first column of h is det·(cos δ, sin δ).
    """
    mirror = embed_mirror(h)
    return torch.cat([mirror * h[..., 0], mirror], -1)


def inverse_on_both(h: Tensor) -> Tensor:
    """`Group.embedded_inverse` for `embed_both`: det·h⁻¹ and det as blocks, [*n, 3, 3]."""
    det = inverse_on_mirror(h)
    return F.pad(det * h.mT, (0, 1, 0, 1)) + F.pad(det, (2, 0, 2, 0))
