"""Finds the symmetries of the pixel grid to which a network is exactly invariant, from its layers alone."""

import torch
from torch import Tensor, nn

from partialsym.densities import Density
from partialsym.groups import Dihedral, Group
from partialsym.nn.pool import LinearPool
from partialsym.signal import Elements


@torch.no_grad()
def exact_symmetries(model: nn.Module, size: tuple[int, int]) -> list[str]:
    """The symmetries of the pixel grid, except e, that do not change the output of `model` beyond rounding.

    A symmetry g is one of them under three conditions. It maps images of `size` to the same size. It maps the
    deterministic elements E of every density to themselves, with their weights: gE = E. No layer has weights for single
    elements (`LinearPool`) or asymmetric windows as in torch's plain layers. The convolutions, norms and pools of this
    package then commute with g at any size. Layers from elsewhere are not examined.

    Args:
        model: images → an output without spatial axes, such as logits.
        size: height and width of the images in pixels.
    Returns:
        Names as in `Group.component_names`: `90°`, `m` (left-right reflection), `90°·m` (reflection, then rotation), …

    >>> from partialsym import GResNet
    >>> exact_symmetries(GResNet("SE2", partial=False, samples=4, width=2, kernel_size=3), (28, 28))
    ['90°', '180°', '270°']
    >>> exact_symmetries(GResNet("SE2", partial=False, samples=4, width=2, kernel_size=3), (28, 32))
    ['180°']
    """
    if any(isinstance(m, LinearPool) or getattr(m, "symmetric", True) is False for m in model.modules()):
        return []
    kept = [module.deterministic() for module in model.modules() if isinstance(module, Density)]
    square = Dihedral(4)
    named = zip(square.component_names, square.components, strict=True)
    found = [name for name, g in named if _maps(g, size) and all(_maps_to_itself(g, elements) for elements in kept)]
    return found[1:]


def symmetries_of(group: Group) -> list[str]:
    """The names of those symmetries of a square grid, except e, that `group` contains."""
    square = Dihedral(4)
    inside = group.contains(square.components).tolist()
    return [name for name, is_in in zip(square.component_names, inside, strict=True) if is_in][1:]


def _maps(g: Tensor, size: tuple[int, int]) -> bool:
    """Whether g maps images of that size to the same size: a rotation by 90° swaps height and width."""
    return size[0] == size[1] or bool(g[0, 1] == 0)


def _maps_to_itself(g: Tensor, elements: Elements) -> bool:
    """Whether gE = E: each transported element equals an element of the same weight."""
    moved = elements.transport(g).matrices
    near = (moved[:, None] - elements.matrices).abs().amax((2, 3)) < 1e-4
    if elements.weights is not None:
        near &= elements.weights[:, None] == elements.weights
    return bool(near.any(1).all())
