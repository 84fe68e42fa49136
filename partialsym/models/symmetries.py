"""The symmetries of the pixel grid to which a network's output is exactly invariant, according to its layers."""

import torch
from torch import Tensor, nn

from partialsym.densities import Density
from partialsym.errors import InputTypeError
from partialsym.groups import Dihedral, Group
from partialsym.nn.pool import LinearPool
from partialsym.signal import Elements


@torch.no_grad()
def exact_symmetries(model: nn.Module, size: tuple[int, int]) -> list[str]:
    """The symmetries of the pixel grid other than e that leave the output of `model` unchanged, up to rounding.

    A symmetry g is in this list if g preserves the size of the images, if g maps the deterministic elements E of every
    density to themselves (gE = E, with equal weights), and if no layer weights elements separately or has windows that
    are not symmetric. The convolutions, norms and pools of this package then commute with g at any size. The function
    does not examine other layers of the model.

    Args:
        model: a network from images to an output without spatial axes, such as logits.
        size: height and width of the images.
    Raises:
        TypeError: size is one number.
    Returns:
        Names as in `Group.component_names`: `90°`, `m` (left-right reflection), `90°·m` (reflection, then rotation), …

    >>> from partialsym import GResNet
    >>> exact_symmetries(GResNet("SE2", partial=False, samples=4, width=2, kernel_size=3), (28, 28))
    ['90°', '180°', '270°']
    >>> exact_symmetries(GResNet("SE2", partial=False, samples=4, width=2, kernel_size=3), (28, 32))
    ['180°']
    """
    if isinstance(size, int):
        raise InputTypeError(f"size is {size}: must be (height, width).")
    if any(isinstance(m, LinearPool) or getattr(m, "symmetric", True) is False for m in model.modules()):
        return []
    kept = [module.deterministic() for module in model.modules() if isinstance(module, Density)]
    square = Dihedral(4)
    named = zip(square.component_names, square.components, strict=True)
    found = [name for name, g in named if _maps(g, size) and all(_maps_to_itself(g, elements) for elements in kept)]
    return found[1:]


def symmetries_of(group: Group) -> list[str]:
    """The names of the symmetries of a square pixel grid, other than e, that are in `group`."""
    square = Dihedral(4)
    inside = group.contains(square.components).tolist()
    return [name for name, is_in in zip(square.component_names, inside, strict=True) if is_in][1:]


def _maps(g: Tensor, size: tuple[int, int]) -> bool:
    """Whether g preserves the size of images; quarter turns swap height and width."""
    return size[0] == size[1] or bool(g[0, 1] == 0)


def _maps_to_itself(g: Tensor, elements: Elements) -> bool:
    """Whether gE = E: every moved element coincides with an element of the same weight."""
    moved = elements.transport(g).matrices
    near = (moved[:, None] - elements.matrices).abs().amax((2, 3)) < 1e-4
    if elements.weights is not None:
        near &= elements.weights[:, None] == elements.weights
    return bool(near.any(1).all())
