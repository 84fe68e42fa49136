"""Convert a trained model to ordinary convolutions. Kernels are evaluated once, on the deterministic elements."""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from partialsym._utils.precision import double, full_precision
from partialsym._utils.torch_private import children_of
from partialsym.errors import InputError
from partialsym.export.trace import Input, Pairs, Taken, alone, in_float64, record, same, shown, tensors
from partialsym.models import Augerino, named_densities
from partialsym.nn.conv import GroupConv
from partialsym.nn.frozen import FrozenConv, FrozenElements, FrozenLocalConv, FrozenSpatialConv
from partialsym.nn.local import LocalConv
from partialsym.nn.separable import SeparableGroupConv
from partialsym.signal import Signal

__all__ = ["FrozenConv", "kept", "to_conv2d"]

SIZES = (32, 64, 128, 256)  # of the example image, if none was passed


@torch.no_grad()
def to_conv2d(model: nn.Module, example: Input | None = None) -> nn.Module:
    """Return a copy of `model` in eval mode with the same output, in which every GroupConv is an ordinary convolution.

    Kernels are evaluated once, in float64, on the deterministic elements. Elements of weight 0 are removed. If a
    BatchNorm is the only layer that reads the output of a convolution, it is folded into the convolution. An Augerino
    still transforms its images, by constant elements. The model's own `forward` is used, so that this works for any
    model built from the layers of this package. The copy is for evaluation: its parameters do not require gradients.

    Args:
        model: the model. The number of elements of a layer is a property of its density: see `set_proportional`.
        example: any input of the model that is not blank. The networks of this package do not need it.
    Raises:
        ValueError: the model is on `meta`; it has no GroupConv; a GroupConv is never called, or its elements change
            between calls; a layer between them depends on more than values and elements, so that the output of the copy
            would differ.

    >>> from partialsym import GResNet, to_conv2d
    >>> to_conv2d(GResNet("E2", width=4, kernel_size=3)).lifting
    FrozenConv(
      1 of T2 → 8 of E2
      (plain): Conv2d(1, 32, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
      (elements): FrozenElements(8 of E2)
    )
    """
    model = _copied(model).eval().requires_grad_(False)
    if not any(isinstance(module, GroupConv) for module in model.modules()):
        raise InputError("the model holds no GroupConv: there is nothing to convert.")
    if any(parameter.is_meta for parameter in model.parameters()):
        raise InputError("the model is on `meta`, where it has no numbers: there is nothing to convert.")
    with full_precision(model):
        example = _example(model) if example is None else example
        elements = _elements(model, example)
        return _plain(model, elements, _checked_pairs(model, example))


def _elements(model: nn.Module, example: Input) -> Taken:
    """The input and output elements of every GroupConv, after checking that they do not change between passes."""
    (_, calls), (_, again) = record(model, example), record(model, _blank(example))
    for name in (name for name, module in model.named_modules() if isinstance(module, GroupConv)):
        if name not in calls.elements or name not in again.elements:
            raise InputError(f"{shown(name)} is not called in every pass: remove it from the model before converting.")
        if not all(map(same, calls.elements[name], again.elements[name])):
            raise InputError(
                f"the elements of {shown(name)} differ between passes in eval mode: it cannot be converted."
            )
    return calls.elements


def _checked_pairs(model: nn.Module, example: Input) -> Pairs:
    """The BatchNorms to fold and their layers. Raise ValueError if the output of the converted model differs.

    The comparison is in float64, where a difference cannot be rounding. A model that does not run in float64, for
    example because it contains a float32 constant, is compared in its own dtype.
    """
    try:
        exact, given = in_float64(model, example)
        expected, calls = record(exact, given)
    except (RuntimeError, TypeError, ValueError):
        exact, given = copy.deepcopy(model), example
        expected, calls = record(exact, given)
    pairs = calls.pairs()
    if not alone(exact, pairs, given, expected):
        pairs = {conv: norm for conv, norm in pairs.items() if alone(exact, {conv: norm}, given, expected)}
    _check_same(expected, _plain(exact, calls.elements, pairs)(given))
    return pairs


def _plain(model: nn.Module, elements: Taken, pairs: Pairs) -> nn.Module:
    """Replace every GroupConv of `model`, in place."""
    layers: dict[str, Any] = dict(model.named_modules())
    norms = {conv: layers[norm] for conv, norm in pairs.items()}
    new: dict[nn.Module, nn.Module] = {norm: nn.Identity() for norm in norms.values()}
    draws: dict[tuple[int, int], FrozenElements] = {}  # layers that share a draw still share it
    for name, (into, out) in elements.items():
        held = draws.setdefault((id(out.matrices), id(out.weights)), FrozenElements(out))
        kind = FrozenLocalConv if isinstance(layers[name], LocalConv) else FrozenConv
        new[layers[name]] = kind(layers[name], into, held, norms.get(name))
        parent_name = name.rpartition(".")[0]
        parent = layers[parent_name]
        if isinstance(parent, SeparableGroupConv):
            spatial = f"{parent_name}.spatial".lstrip(".")
            new[layers[spatial]] = FrozenSpatialConv(layers[spatial], held, norms.get(spatial))
    wrappers = [module for module in model.modules() if isinstance(module, Augerino)]
    new |= {wrapper.density: FrozenElements(wrapper.density.deterministic()) for wrapper in wrappers}
    return _replaced(model, new).eval()


def kept(model: nn.Module) -> dict[str, tuple[int, int]]:
    """For every layer with a density: its number of elements in eval mode, and its `samples`."""
    counts = {}
    for name, density in named_densities(model):
        elements = density.deterministic()
        weights = elements.weights
        counts[name] = len(elements) if weights is None else int((weights != 0).sum()), density.samples
    return counts


def _copied(model: nn.Module) -> nn.Module:
    """A deep copy. It supports the computed weights of weight_norm and pruning, which torch does not copy."""
    left = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    return copy.deepcopy(model, {id(value): value.detach().clone() for value in left if not value.is_leaf})


def _replaced(model: nn.Module, new: dict[nn.Module, nn.Module]) -> nn.Module:
    for parent in list(model.modules()):
        for name, child in children_of(parent).items():
            if child in new:
                parent.register_module(name, new[child])
    return new.get(model, model)


def _example(model: nn.Module) -> Tensor:
    """An image that passes through one of our networks."""
    settings = getattr(model.model if isinstance(model, Augerino) else model, "settings", None)
    if not isinstance(settings, dict) or "in_channels" not in settings:
        raise InputError(
            f"converting a {type(model).__name__} needs an example of its input: to_conv2d(model, images)."
        )
    like = next(model.parameters())
    reason = ""
    for size in [settings["size"]] if "size" in settings else [(side, side) for side in SIZES]:
        noise = torch.rand(1, settings["in_channels"], *size, generator=torch.Generator().manual_seed(0), device="cpu")
        try:
            model(noise.to(like))
        except ValueError as error:  # too small
            reason = str(error)
        else:
            return noise.to(like)
    raise InputError(f"no example image was found, pass one: to_conv2d(model, images). The last one failed: {reason}")


def _blank(example: Input) -> Input:
    if isinstance(example, Signal):
        return replace(example, values=torch.zeros_like(example.values))
    return torch.zeros_like(example)


def _check_same(expected: object, found: object) -> None:
    """Raise ValueError if the outputs differ by much more than rounding.

    In float64 the tolerance is that of a module that computes in float32.
    """
    for a, b in zip(tensors(expected), tensors(found), strict=True):
        difference = float((double(a) - double(b)).abs().max()) if a.shape == b.shape else float("inf")
        size = max(float(a.abs().max()), 1e-2)
        rounding = size * (1e-6 if a.dtype == torch.float64 else torch.finfo(a.dtype).eps ** 0.5)
        if not difference <= rounding:
            raise InputError(
                f"the output of the converted model differs by {difference:.2g} on the example: one of the layers "
                "depends on more than the values and the elements of a Signal."
            )
