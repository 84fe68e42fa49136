"""Comparison of two networks: whether they are the same, and where they first differ."""

from collections.abc import Mapping
from itertools import chain
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from partialsym.densities import Density
from partialsym.groups import Group
from partialsym.inference import evaluating

TOLERANCE = 1e-4  # relative difference of outputs, for constants that were computed in another precision
PLAIN = (int, float, bool, str, NoneType)
# How torch runs a module; the order in which a convolution sums; a number that the shape of the head's weights has.
UNCOMPARED = {"training", "path", "num_classes", *vars(nn.Module())}


def built_otherwise(given: nn.Module, other: nn.Module) -> str | None:
    """The first difference in construction, such as "norm1.eps is 1.0, and would be loaded as 1e-05"; None without one.

    The comparison includes the types of all modules and groups, the names, shapes and dtypes of parameters and buffers,
    and the modules' attributes that are numbers or text, even those that only training uses.
    """
    return _first(_types(given), _types(other)) or _first(_state(given), _state(other)) or _plain(given, other)


def answers_otherwise(given: nn.Module, other: nn.Module, images: Tensor) -> str | None:
    """How the outputs of the two networks for `images` differ in eval mode, in words; None if they do not.

    Both are computed in float64 on the CPU, for networks of any dtype and device. Hooks are called.
    """
    expected = _answers(other, images)
    try:
        got = _answers(given, images)
    except Exception as error:  # a changed network may raise anything
        return f"its forward pass raises {type(error).__name__} ({' '.join(str(error).split())})"
    if not isinstance(got, Tensor) or got.shape != expected.shape:
        shape = list(got.shape) if isinstance(got, Tensor) else type(got).__name__
        return f"its output for one image is {shape}, and would be {list(expected.shape)} after loading"
    if torch.equal(got.nan_to_num(), expected.nan_to_num()):
        return None
    off, size = float((got - expected).norm()), float(got.norm())
    return (
        None if off <= TOLERANCE * size else f"its output would differ by {100 * off / (size or 1):.2g} % after loading"
    )


def _first(given: Mapping[str, str], other: Mapping[str, str]) -> str | None:
    """A description of the first key whose values differ, or None."""
    for key in dict.fromkeys([*given, *other]):
        if key not in other:
            return f"{key} is {given[key]}, and would be missing after loading"
        if (own := given.get(key, "missing or shared")) != other[key]:
            return f"{key or 'it'} is {own}, and would be loaded as {other[key]}"
    return None


def _types(model: nn.Module) -> dict[str, str]:
    """The types of all modules and of their groups, by name."""
    found = {}
    for name, module in model.named_modules():
        found[name] = _type(module)
        found |= {f"{name}.{k}": f"{v} ({_type(v)})" for k, v in vars(module).items() if isinstance(v, Group)}
    return found


def _type(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _state(model: nn.Module) -> dict[str, str]:
    """Descriptions of parameters and buffers by name; a tensor with two names appears under the first one."""
    kept = model.state_dict()
    parameters = {name: f"a parameter {described(p)}" for name, p in model.named_parameters()}
    buffers = {
        name: f"{'a buffer' if name in kept else 'a constant'} {described(b)}" for name, b in model.named_buffers()
    }
    return parameters | buffers


def described(values: Tensor) -> str:
    """Shape and dtype, such as "[2, 3] of float32"."""
    return f"{list(values.shape)} of {str(values.dtype).removeprefix('torch.')}"


def _plain(given: nn.Module, other: nn.Module) -> str | None:
    """The first plain attribute that differs; attributes that `other` lacks are the user's own and are ignored."""
    twins = dict(other.named_modules())
    for name, module in given.named_modules():
        twin = twins[name]
        for key in dict.fromkeys([*vars(twin), *vars(module)]):
            if key in UNCOMPARED or not hasattr(twin, key):
                continue
            if key == "proportional" and isinstance(module, Density) and not learns_theta(module):
                continue
            a, b = getattr(module, key, None), getattr(twin, key)
            if isinstance(a, PLAIN) and isinstance(b, PLAIN) and a != b:
                return f"{name}.{key} is {a!r}, and would be loaded as {b!r}".lstrip(".")
    return None


def learns_theta(density: Density) -> bool:
    """Whether a density learns θ; if not, θ is 1, or 0 with one element, and `set_proportional` has no effect."""
    return any(True for _ in density.algebra.parameters())


def _answers(model: nn.Module, images: Tensor) -> Any:
    state = {name: _wide(value.detach()) for name, value in chain(model.named_parameters(), model.named_buffers())}
    # functional_call leaves the model's own tensors unchanged.
    eager, plain = torch.compiler.set_stance("force_eager"), torch.autocast("cpu", enabled=False)
    with torch.no_grad(), evaluating(model), eager, plain:
        return functional_call(model, state, (_wide(images),))


def _wide(values: Tensor) -> Tensor:
    return values.to("cpu", torch.float64 if values.is_floating_point() else values.dtype)
