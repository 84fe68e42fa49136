"""Record a pass of a model: the elements of each layer, and the layers that read its output."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from partialsym._utils.precision import double
from partialsym._utils.torch_private import tree_leaves, tree_map_only
from partialsym.densities import Density
from partialsym.errors import InputError
from partialsym.nn.conv import GroupConv
from partialsym.nn.norm import BatchNorm
from partialsym.nn.separable import SpatialConv
from partialsym.signal import Elements, Signal, as_signal

Input = Tensor | Signal
Taken = dict[str, tuple[Elements, Elements]]  # by name of a GroupConv: its input and output elements
Pairs = dict[str, str]  # a GroupConv and the BatchNorm to fold into it, by name


@dataclass
class Calls:
    """Recorded calls, by name of the layer.

    These are the input and output elements of each GroupConv, the outputs of GroupConvs and SpatialConvs, and the
    inputs of each BatchNorm.
    """

    elements: Taken = field(default_factory=dict)
    outputs: dict[str, list[Signal]] = field(default_factory=dict)
    inputs: dict[str, list[Any]] = field(default_factory=dict)

    def pairs(self) -> Pairs:
        """Convolutions that are called once, each with the BatchNorm that is called once, on its output."""
        source = {id(given[0]): conv for conv, given in self.outputs.items() if len(given) == 1}
        once = [(norm, id(taken[0])) for norm, taken in self.inputs.items() if len(taken) == 1]
        return {source[key]: norm for norm, key in once if key in source}


def in_float64(model: nn.Module, example: Input) -> tuple[nn.Module, Input]:
    """A copy of both in float64, on the CPU if the device has no float64.

    The elements are those of the original dtype, because ⌈rθ⌉ may be rounded differently in float64.
    """
    exact = copy.deepcopy(model)
    exact = (exact.cpu() if next(model.parameters()).device.type == "mps" else exact).double()
    for own, other in zip(model.modules(), exact.modules(), strict=True):
        if isinstance(own, Density) and isinstance(other, Density):
            held = _in_float64(own.deterministic())
            other.deterministic = lambda held=held: held  # type: ignore[method-assign, misc]
    return exact, _in_float64(example)


def _in_float64(tree: Any) -> Any:
    return tree_map_only(Tensor, lambda t: double(t) if t.is_floating_point() else t, tree)


def record(model: nn.Module, example: Input) -> tuple[Any, Calls]:
    """One pass: the model's output, and the calls in it.

    Raises:
        ValueError: a GroupConv is called twice on different elements.
    """
    calls, names = Calls(), {module: name for name, module in model.named_modules()}

    def after_conv(conv: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Signal) -> None:
        taken = as_signal(args[0] if args else kwargs["f"], conv.domain)
        seen, name = (taken.elements, out.elements), names[conv]
        if not all(map(same, calls.elements.setdefault(name, seen), seen)):
            raise InputError(f"{shown(name)} is called twice on different elements: it cannot be converted.")
        calls.outputs.setdefault(name, []).append(out)

    def after_spatial(conv: Any, _: object, out: Signal) -> None:
        calls.outputs.setdefault(names[conv], []).append(out)

    def after_norm(norm: Any, args: tuple[Any, ...], _: object) -> None:
        calls.inputs.setdefault(names[norm], []).append(args[0] if args else None)

    hooks = [m.register_forward_hook(after_conv, with_kwargs=True) for m in names if isinstance(m, GroupConv)]
    hooks += [m.register_forward_hook(after_spatial) for m in names if isinstance(m, SpatialConv)]
    norms = [m for m in names if isinstance(m, BatchNorm) and m.running_mean is not None]
    hooks += [norm.register_forward_hook(after_norm) for norm in norms]
    return _hooked(model, example, hooks), calls


def alone(model: nn.Module, pairs: Pairs, example: Input, expected: object) -> bool:
    """Whether each norm is the only layer that reads the output of its convolution.

    All other readers receive NaN instead. The output must not change.
    """
    norms = {model.get_submodule(conv): model.get_submodule(norm) for conv, norm in pairs.items()}
    given: dict[nn.Module, tuple[Signal, Signal]] = {}

    def after_conv(conv: Any, _: object, out: Signal) -> Signal:
        given[norms[conv]] = out, out.map(lambda values: torch.full_like(values, torch.nan))
        return given[norms[conv]][1]

    def before_norm(norm: Any, args: tuple[Any, ...]) -> Any:
        out, nan = given[norm]
        return (out,) if args and args[0] is nan else None

    hooks: list[Any] = [conv.register_forward_hook(after_conv) for conv in norms]
    hooks += [norm.register_forward_pre_hook(before_norm) for norm in norms.values()]
    found, expected = list(tensors(_hooked(model, example, hooks))), list(tensors(expected))
    return bool(expected) and all(torch.allclose(*both) for both in zip(expected, found, strict=True))


def _hooked(model: nn.Module, example: Input, hooks: list[Any]) -> Any:
    try:
        return model(example)
    finally:
        for hook in hooks:
            hook.remove()


def shown(name: str) -> str:
    return name or "the model"


def same(a: Elements, b: Elements) -> bool:
    """Whether two sets of elements are equal, in order and in their weights."""
    if a.group != b.group or (a.weights is None) != (b.weights is None):
        return False
    leaves = zip(tree_leaves(a), tree_leaves(b), strict=True)
    return all(torch.equal(*both) for both in leaves if both[0] is not None)


def tensors(output: object) -> Iterator[Tensor]:
    """The tensors in an output. For a Signal, these are the values on the elements with weight 1."""
    for leaf in tree_leaves(output, is_leaf=lambda node: isinstance(node, Signal)):
        if isinstance(leaf, Signal):
            weights = leaf.elements.weights
            yield leaf.values if weights is None else leaf.values[:, :, weights != 0]
        elif isinstance(leaf, Tensor):
            yield leaf
