"""Draws of several densities in as few operations as one draw."""

from collections import defaultdict
from collections.abc import Hashable, Sequence

import torch

from partialsym.densities.algebra import DiracAlgebra, HaarAlgebra, Uniform, thetas
from partialsym.densities.base import Density
from partialsym.signal import Elements


def sample_together(densities: Sequence[Density]) -> list[Elements]:
    """`sample` of each density, in order; densities of the same kind and size are computed as one.

    Systematic draws receive the same random numbers as one call of `sample` after the other, if all are of one kind.
    """
    kinds: dict[Hashable, list[int]] = defaultdict(list)
    for i, density in enumerate(densities):
        kinds[_kind(density)].append(i)
    found: dict[int, Elements] = {}
    for kind, places in kinds.items():
        of_kind = [densities[i] for i in places]
        drawn = [d.sample() for d in of_kind] if kind is None or len(of_kind) == 1 else _as_one(of_kind)
        found |= dict(zip(places, drawn, strict=True))
    return [found[i] for i in range(len(densities))]


def _kind(density: Density) -> Hashable:
    """What densities must have in common to be drawn as one; None if this one is drawn on its own."""
    own = {"sample", "draw", "deterministic"} & vars(density).keys()
    if type(density) is not Density or own or type(density.algebra) not in (Uniform, HaarAlgebra, DiracAlgebra):
        return None
    if not density.group.dim or (density.proportional and not density.training):
        return None
    held = density.components
    return (
        *(density.group, density.samples, len(held), held.dtype, held.device),
        *(density.sampling, density.training, type(density.algebra) is Uniform),  # no gradient where none is needed
    )


def _as_one(densities: Sequence[Density]) -> list[Elements]:
    first, n = densities[0], len(densities)
    position = first._drawn(n) if first.training else first._midpoints(first.rotations)
    weights = [d.component.draw() if d.training else d.component.decide() for d in densities]
    angles = thetas([d.algebra for d in densities])[:, None, None] * (torch.pi * position)
    several = len(first.components) > 1
    components = torch.stack([d.components for d in densities]) if several else first.components.expand(n, -1, -1, -1)
    matrices = first._matrices(angles, components)
    return [d._weighted(m, w) for d, m, w in zip(densities, matrices.unbind(), weights, strict=True)]
