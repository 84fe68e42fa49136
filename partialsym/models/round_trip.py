"""Compares a network with the one that its record rebuilds, and names the first difference."""

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

TOLERANCE = 1e-4  # relative to the norm of the outputs: constants may be computed in another precision
PLAIN = (int, float, bool, str, NoneType)
# State of torch; the order in which a convolution sums; a number that the shape of the classifier shows.
UNCOMPARED = {"training", "path", "num_classes", *vars(nn.Module())}


def built_otherwise(given: nn.Module, other: nn.Module) -> str | None:
    """The first difference in structure, such as "norm1.eps is 1.0, and would come back as 1e-05", or None.

    It compares the types of all modules and groups, the name, shape and dtype of parameters and buffers, and all
    attributes of modules that are numbers or text, including those that only training uses.
    """
    return _first(_types(given), _types(other)) or _first(_state(given), _state(other)) or _plain(given, other)


def answers_otherwise(given: nn.Module, other: nn.Module, images: Tensor) -> str | None:
    """A description of how the outputs of the networks for `images` differ in eval mode, or None.

    Both are computed in float64 on the CPU, whatever the dtype and the device of the networks. Hooks are called.
    """
    expected = _answers(other, images)
    try:
        got = _answers(given, images)
    except Exception as error:  # an altered network may raise anything
        return f"its forward pass raises {type(error).__name__} ({' '.join(str(error).split())})"
    if not isinstance(got, Tensor) or got.shape != expected.shape:
        shape = list(got.shape) if isinstance(got, Tensor) else type(got).__name__
        return f"its answer to one image is {shape}, and would come back as {list(expected.shape)}"
    if torch.equal(got.nan_to_num(), expected.nan_to_num()):
        return None
    off, size = float((got - expected).norm()), float(got.norm())
    return None if off <= TOLERANCE * size else f"its answers would come back {100 * off / (size or 1):.2g} % off"


def _first(given: Mapping[str, str], other: Mapping[str, str]) -> str | None:
    """A description of the first key whose values differ, or None."""
    for key in dict.fromkeys([*given, *other]):
        if key not in other:
            return f"{key} is {given[key]}, and would not come back"
        if (own := given.get(key, "missing or shared")) != other[key]:
            return f"{key or 'it'} is {own}, and would come back as {other[key]}"
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
    """Descriptions of parameters and buffers by name. A tensor with two names appears only under the first."""
    kept = model.state_dict()
    parameters = {name: f"a parameter {described(p)}" for name, p in model.named_parameters()}
    buffers = {
        name: f"{'a buffer' if name in kept else 'a constant'} {described(b)}" for name, b in model.named_buffers()
    }
    return parameters | buffers


def described(values: Tensor) -> str:
    """The shape and dtype, such as "[2, 3] of float32"."""
    return f"{list(values.shape)} of {str(values.dtype).removeprefix('torch.')}"


def _plain(given: nn.Module, other: nn.Module) -> str | None:
    """The first number or text attribute that differs. Attributes that only `given` has were set by the user and do
    not count."""
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
                return f"{name}.{key} is {a!r}, and would come back as {b!r}".lstrip(".")
    return None


def learns_theta(density: Density) -> bool:
    """Whether θ is learned. If not, `set_proportional` changes nothing."""
    return any(True for _ in density.algebra.parameters())


def _answers(model: nn.Module, images: Tensor) -> Any:
    state = {name: _wide(value.detach()) for name, value in chain(model.named_parameters(), model.named_buffers())}
    # A functional call, because the model's own tensors must retain their dtype and device.
    eager, plain = torch.compiler.set_stance("force_eager"), torch.autocast("cpu", enabled=False)
    with torch.no_grad(), evaluating(model), eager, plain:
        return functional_call(model, state, (_wide(images),))


def _wide(values: Tensor) -> Tensor:
    return values.to("cpu", torch.float64 if values.is_floating_point() else values.dtype)
