"""A public checker of exact equivariance. It transforms the input and the sampled elements together."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from partialsym._utils.precision import full_float32
from partialsym.errors import InputError
from partialsym.groups import Dihedral, Group
from partialsym.nn.conv import GroupConv
from partialsym.signal import Elements, Signal, transported

Field = TypeVar("Field", Tensor, Signal)


def grid_symmetries(group: Group | None = None) -> Tensor:
    """The symmetries of the pixel grid that are in `group`: [k, 2, 2] float64, e first.

    Without a group it returns all 8: the 4 rotations, then each of them composed with a left-right reflection.

    >>> from partialsym import SE2
    >>> len(grid_symmetries()), len(grid_symmetries(SE2()))
    (8, 4)
    """
    every = Dihedral(4).components
    return every if group is None else every[group.contains(every)]


def transform(f: Field, g: Tensor) -> Field:
    """L_g f with (L_g f)(x, h) = f(g⁻¹x, g⁻¹h): the values move on the pixel grid, the elements become g·h_i.

    Args:
        f: images [..., height, width], or a Signal. The element of a signal on T(2) remains e.
        g: [2, 2], one of `grid_symmetries()` (x right, y up).
    Raises:
        ValueError: g is not a symmetry of the grid, or not in the signal's group.

    >>> transform(torch.tensor([[1, 2], [3, 4]]), grid_symmetries()[1])  # a quarter turn, counter-clockwise
    tensor([[2, 4],
            [1, 3]])
    """
    if isinstance(f, Signal):
        return Signal(transform(f.values, g), _transport(f.elements, g))
    distance, index = (grid_symmetries() - g.detach().cpu().double()).abs().amax((1, 2)).min(0)
    if distance > 1e-9:
        raise InputError(f"g is {g.tolist()}: must be a symmetry of the pixel grid, one of grid_symmetries().")
    mirroring, quarters = divmod(int(index), 4)
    return torch.rot90(f.flip(-1) if mirroring else f, quarters, (-2, -1))


def equivariance_error(module: nn.Module, x: Field, g: Tensor, *, transport: bool = True) -> float:
    """Largest difference between `module(L_g x)` and `L_g module(x)`, over the largest magnitude of the latter.

    Arguments and errors as for `assert_equivariant`, for one g [2, 2].
    """
    moved = transform(x, g)
    _check_not_vacuous(x, moved, g)
    drawn: list[Elements]
    with torch.no_grad(), full_float32():
        with _recorded(module) as drawn:
            before = module(x)
        given: list[Elements] = []
        if transport:  # elements of the same draw, including those of x, must still share one draw
            given = [x.elements, *drawn] if isinstance(x, Signal) else drawn
            given = transported(given, lambda elements: _transport(elements, g))
            if isinstance(moved, Signal):
                moved, given = replace(moved, elements=given[0]), given[1:]
        with _replayed(module, given):
            after = module(moved)
    if isinstance(before, Signal):
        expected = transform(before, g)
        order = _order(expected.elements, after.elements)
        wanted, got = expected.values, after.values[:, :, order]
    else:
        wanted, got = before if before.ndim < 4 else transform(before, g), after
    if wanted.shape != got.shape:
        return math.inf
    return float((wanted - got).abs().max() / wanted.abs().max().clamp(min=torch.finfo(wanted.dtype).tiny))


def assert_equivariant(
    module: nn.Module, x: Field, under: Group | Tensor, *, atol: float = 1e-12, transport: bool = True
) -> None:
    """Assert that `module(L_g x)` is `L_g module(x)` for symmetries g of the pixel grid.

    Every GroupConv in the module draws once, on x. For L_g x it uses those elements multiplied by g. There is then no
    Monte-Carlo error: the difference is 0 in exact arithmetic for any elements. Therefore run it in float64.

    Args:
        module: maps x to a Signal, to images [batch, channels, height, width], or to values [batch, channels], which
            must be invariant.
        x: images or a Signal that have no symmetry themselves, such as random values.
        under: a group, for all its grid symmetries, or matrices [2, 2] or [k, 2, 2].
        atol: largest allowed difference, relative to the largest output.
        transport: with False, the layers choose their own elements. In eval mode, this checks the network itself.
    Raises:
        AssertionError: the difference is larger, or g does not map the elements to each other.
        ValueError: x is itself invariant to g, or g is not a symmetry of the grid.
    """
    matrices = grid_symmetries(under) if isinstance(under, Group) else under.reshape(-1, 2, 2)
    for g in matrices:
        error = equivariance_error(module, x, g, transport=transport)
        if not error <= atol:
            raise AssertionError(
                f"not equivariant under {g.tolist()}: relative error {error:.3g} > {atol:.3g}.{_rounding(x)}"
            )


def _rounding(x: Field) -> str:
    dtype = x.values.dtype if isinstance(x, Signal) else x.dtype
    if dtype == torch.float64:
        return ""
    name = str(dtype).removeprefix("torch.")
    return f" It contains the rounding of {name}: check in float64, with module.double() and x.double()."


def _check_not_vacuous(x: Field, moved: Field, g: Tensor) -> None:
    if torch.equal(g.cpu().double(), torch.eye(2, dtype=torch.float64)):
        return
    a, b = (f.values if isinstance(f, Signal) else f for f in (x, moved))
    if a.shape == b.shape and torch.equal(a, b):
        raise InputError(f"x is unchanged by g = {g.tolist()}, which checks nothing: use random values.")


def _transport(elements: Elements, g: Tensor) -> Elements:
    """{g·h_i}. On T(2) it is e, because g acts only on the positions there."""
    if elements.group.name == "T2":
        return elements
    if not elements.group.contains(g.cpu().double()):
        raise InputError(f"g is {g.tolist()}: must be in the signal's group {elements.group}.")
    return elements.transport(g)


def _order(wanted: Elements, got: Elements) -> Tensor:
    """For each element of `wanted`, its index in `got`."""
    if len(wanted) != len(got):
        raise AssertionError(f"{len(wanted)} elements became {len(got)}.")
    distance = (wanted.matrices[:, None] - got.matrices).abs().amax((2, 3))
    identity = torch.arange(len(wanted))
    nearest = identity if float(distance.diagonal().max()) < 1e-6 else distance.argmin(1)
    if float(distance[identity, nearest].max()) > 1e-6 or not torch.equal(nearest.sort().values, identity):
        raise AssertionError("the elements do not go over into each other: no symmetry of the set.")
    if wanted.weights is not None and got.weights is not None and not torch.equal(wanted.weights, got.weights[nearest]):
        raise AssertionError("the weights of the elements do not go over into each other.")
    return nearest


@contextmanager
def _recorded(module: nn.Module) -> Iterator[list[Elements]]:
    """The output elements of every GroupConv, in the order of the calls."""
    drawn: list[Elements] = []
    convs = [m for m in module.modules() if isinstance(m, GroupConv)]
    handles = [conv.register_forward_hook(lambda _m, _a, out: drawn.append(out.elements)) for conv in convs]
    try:
        yield drawn
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _replayed(module: nn.Module, elements: list[Elements]) -> Iterator[None]:
    """Pass these output elements to the GroupConvs, in the order of the calls. If empty, the layers draw their own."""
    rest = iter(elements)

    def give(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args[:1], {**kwargs, "elements": next(rest)}

    convs = [m for m in module.modules() if elements and isinstance(m, GroupConv)]
    handles = [conv.register_forward_pre_hook(give, with_kwargs=True) for conv in convs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
