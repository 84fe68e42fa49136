"""Freezing: a trained model as plain convolutions, its kernels evaluated once on the deterministic elements."""

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from partialsym.conv import GroupConv
from partialsym.freezing.calls import alone, record, same, tensors
from partialsym.freezing.plain import FrozenConv, FrozenElements
from partialsym.models import Augerino, named_densities
from partialsym.signal import Signal

__all__ = ["FrozenConv", "freeze", "kept"]

SIZES = (32, 64, 128, 256)  # of the example image, where none is given


@torch.no_grad()
def freeze(model: nn.Module, example: Tensor | Signal | None = None) -> nn.Module:
    """A copy of `model` in eval mode that gives the same, every GroupConv in it a plain convolution.

    Kernels are evaluated once, in float64, on the deterministic elements. Elements of weight 0 are gone. A BatchNorm
    that alone reads what a convolution gives is folded into it. An Augerino goes on transforming its images, by
    constant elements. The model's own `forward` is kept, so that this holds
    for any model of our layers. The copy is for evaluation: none of its parameters asks for a gradient.

    Args:
        model: how many elements a layer takes is a property of its density: see `set_proportional`.
        example: any input of the model, not blank; our own networks do without.
    Raises:
        ValueError: the model is on `meta`; there is no GroupConv; one is never called, or takes or gives other elements
            from call to call; a layer between them reads more than values and elements, so that the copy would not give
            the same.

    >>> from partialsym import GResNet, freeze
    >>> freeze(GResNet("E2", width=4, kernel_size=3)).lifting
    FrozenConv(
      1 of T2 → 8 of E2
      (plain): Conv2d(1, 32, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    )
    """
    model = _copied(model).eval().requires_grad_(False)
    names = {conv: name or "the model" for name, conv in model.named_modules() if isinstance(conv, GroupConv)}
    if not names:
        raise ValueError("the model holds no GroupConv: there is nothing to freeze.")
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ValueError("the model is on `meta`, where it has no numbers: there is nothing to freeze.")
    example = _example(model) if example is None else example
    expected, calls = record(model, example, names)
    _, again = record(model, _blank(example), names)
    for conv, name in names.items():
        if conv not in calls.elements or conv not in again.elements:
            raise ValueError(f"{name} is not called in every pass: take it out of the model before freezing.")
        if not all(map(same, calls.elements[conv], again.elements[conv])):
            raise ValueError(f"the elements of {name} differ from pass to pass in eval mode: it cannot be frozen.")
    pairs = calls.pairs()
    if not alone(model, pairs, example, expected):
        pairs = {conv: norm for conv, norm in pairs.items() if alone(model, {conv: norm}, example, expected)}
    new: dict[nn.Module, nn.Module] = {norm: nn.Identity() for norm in pairs.values()}
    new |= {conv: FrozenConv(conv, *calls.elements[conv], pairs.get(conv)) for conv in names}
    wrappers = [module for module in model.modules() if isinstance(module, Augerino)]
    new |= {wrapper.density: FrozenElements(wrapper.density.deterministic()) for wrapper in wrappers}
    frozen = _replaced(model, new).eval()
    _check_same(expected, frozen(example))
    return frozen


def kept(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Of every layer with a density: the elements it takes in eval mode, and the n it was made with."""
    counts = {}
    for name, density in named_densities(model):
        elements = density.deterministic()
        weights = elements.weights
        counts[name] = len(elements) if weights is None else int((weights != 0).sum()), density.samples
    return counts


def _copied(model: nn.Module) -> nn.Module:
    """A deep copy, also where a weight_norm or pruning has left a computed weight behind, which torch does not copy."""
    left = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    return copy.deepcopy(model, {id(value): value.detach().clone() for value in left if not value.is_leaf})


def _replaced(model: nn.Module, new: dict[nn.Module, nn.Module]) -> nn.Module:
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child in new:
                parent._modules[name] = new[child]
    return new.get(model, model)


def _example(model: nn.Module) -> Tensor:
    """An image that passes through one of our networks."""
    settings = getattr(model.model if isinstance(model, Augerino) else model, "settings", None)
    if not isinstance(settings, dict) or "in_channels" not in settings:
        raise ValueError(f"freezing a {type(model).__name__} needs an example of its input: freeze(model, images).")
    like = next(model.parameters())
    reason = ""
    for size in SIZES:
        noise = torch.rand(
            1, settings["in_channels"], size, size, generator=torch.Generator().manual_seed(0), device="cpu"
        )
        try:
            model(noise.to(like))
        except ValueError as error:  # too small
            reason = str(error)
        else:
            return noise.to(like)
    raise ValueError(f"no example image was found, give one: freeze(model, images). The last was refused: {reason}")


def _blank(example: Tensor | Signal) -> Tensor | Signal:
    if isinstance(example, Signal):
        return replace(example, values=torch.zeros_like(example.values))
    return torch.zeros_like(example)


def _check_same(expected: object, found: object) -> None:
    """Raise ValueError where the outputs differ by far more than rounding."""
    for a, b in zip(tensors(expected), tensors(found), strict=True):
        difference = float((a.double() - b.double()).abs().max()) if a.shape == b.shape else float("inf")
        size = max(float(a.abs().max()), 1e-2)
        rounding = size * max(torch.finfo(a.dtype).eps, torch.finfo(torch.float32).eps) ** 0.5
        if not difference <= rounding:
            raise ValueError(
                f"frozen, the model's output differs by {difference:.2g} on the example: one of its layers reads more "
                "than the values and the elements of a Signal."
            )
