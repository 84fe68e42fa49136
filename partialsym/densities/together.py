"""Draws of several densities in few operations."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from partialsym.densities.algebra import DiracAlgebra, HaarAlgebra, Uniform, thetas
from partialsym.densities.base import Density
from partialsym.signal import Elements, autocasting

OVERRIDDEN = {"sample", "draw", "deterministic", "theta", "centre"}  # for one instance


class _Draw(NamedTuple):
    density: Density
    random: Tensor | None
    weights: Tensor | None


def sample_together(densities: Sequence[Density]) -> list[Elements]:
    """`sample` of each density, in order and with the same random numbers; those that are alike are computed as one."""
    found: dict[int, Elements] = {}
    alike: dict[Hashable, dict[int, _Draw]] = defaultdict(dict)
    for i, density in enumerate(densities):
        if (key := _batch_key(density)) is None:
            found[i] = density.sample()
        elif density.training:
            alike[key][i] = _Draw(density, density._random(), density.component.draw())
        else:
            alike[key][i] = _Draw(density, None, density.component.decide())
    for draws in alike.values():
        found |= dict(zip(draws, _as_one(list(draws.values())), strict=True))
    return [found[i] for i in range(len(densities))]


def _batch_key(density: Density) -> Hashable:
    """What densities must have in common to be computed as one; None if this one is called by itself."""
    algebra, held = density.algebra, density.components
    if type(density) is not Density or type(algebra) not in (Uniform, HaarAlgebra, DiracAlgebra):
        return None
    if not density.group.dim or (density.proportional and not density.training):
        return None
    if OVERRIDDEN & (vars(density).keys() | vars(algebra).keys()):
        return None
    return (
        *(density.group, density.samples, len(held), held.dtype, held.device),
        *(density.sampling, density.training),
        isinstance(algebra, Uniform) and algebra.raw.requires_grad,  # no gradient where none is needed
    )


def _as_one(draws: Sequence[_Draw]) -> list[Elements]:
    first, n = draws[0].density, len(draws)
    with torch.autocast(autocasting(first.components), enabled=False):
        random = [draw.random for draw in draws if draw.random is not None]
        position = first._positions(torch.stack(random)) if random else first._midpoints(first.rotations)
        theta = thetas([draw.density.algebra for draw in draws]).to(position.dtype)
        angles = theta.view(-1, 1, 1) * (torch.pi * position)
        if len(first.components) > 1:
            components = torch.stack([draw.density.components for draw in draws])
        else:
            components = first.components.expand(n, -1, -1, -1)  # the identity
        matrices = first._matrices(angles, components)
    parts = zip(draws, matrices.unbind(), strict=True)
    return [draw.density._weighted(elements, draw.weights) for draw, elements in parts]
