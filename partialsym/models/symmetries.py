"""Which symmetries of the pixel grid a network's answer is exactly invariant to, read off its layers."""

import torch
from torch import Tensor, nn

from partialsym.densities import Density
from partialsym.groups import Dihedral, Group
from partialsym.nn.pool import LinearPool
from partialsym.signal import Elements


@torch.no_grad()
def exact_symmetries(model: nn.Module, size: tuple[int, int]) -> list[str]:
    """The symmetries of the pixel grid other than e that leave the answer of `model` as it is, but for rounding.

    g is one where it maps images of `size` to themselves, the deterministic elements E of every density to
    themselves (gE = E, with their weights), and no layer weighs single elements or has windows where torch's plain
    layers put them. The convolutions, norms and pools of this package then commute with it at any size. Other layers of
    the model are not looked at.

    Args:
        model: images → an answer without place, such as logits.
        size: height and width of the images.
    Returns:
        Names as in `Group.component_names`: `90°`, `m` (mirror left-right), `90°·m` (mirror, then turn), …

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
    """The symmetries of a square grid other than e that are in `group`, by name."""
    square = Dihedral(4)
    inside = group.contains(square.components).tolist()
    return [name for name, is_in in zip(square.component_names, inside, strict=True) if is_in][1:]


def _maps(g: Tensor, size: tuple[int, int]) -> bool:
    """Whether g maps images of that size to themselves: a quarter turn swaps height and width."""
    return size[0] == size[1] or bool(g[0, 1] == 0)


def _maps_to_itself(g: Tensor, elements: Elements) -> bool:
    """Whether gE = E: every moved element lies on one of the same weight."""
    moved = elements.transport(g).matrices
    near = (moved[:, None] - elements.matrices).abs().amax((2, 3)) < 1e-4
    if elements.weights is not None:
        near &= elements.weights[:, None] == elements.weights
    return bool(near.any(1).all())
