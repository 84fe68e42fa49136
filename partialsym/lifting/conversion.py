"""`lift`, which converts a trained network of torch to a network on a group."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialsym._utils.torch_private import tree_leaves
from partialsym.errors import InputError, InputTypeError
from partialsym.groups import Dihedral
from partialsym.inference import evaluating
from partialsym.lifting.layers import LiftedConv, WindowPool
from partialsym.lifting.network import Lifted, Partial, Resampling
from partialsym.lifting.report import Change, LiftReport
from partialsym.lifting.tracing import Traced, trace
from partialsym.nn.norm import BatchNorm

TOLERANCE = 1e-4  # largest relative error of the outputs that rounding explains


def lift(
    model: nn.Module,
    group: str = "SE2",
    *,
    example: Tensor,
    samples: int | None = None,
    partial: Partial = True,
    resampling: Resampling = "auto",
    mixing: int | None = 1,
    margin: int = 0,
) -> Lifted:
    """Convert a trained network of torch to a network on a group with the same weights.

    A `Grid` stores each filter of the plain network, and every element h transforms the filter. On the whole group, the
    initial output is the mean over h of the plain network's outputs for the image transformed by h⁻¹. If a rotation by
    90° or a reflection maps the set of elements to itself, the output is invariant to it. With `partial="identity"` the
    output is that of the plain network. Training can then learn which elements each layer retains, and how the elements
    of a layer interact, as in every network of this package.

    All elements use the running statistics of the plain network's BatchNorms. The lifted network has the mode (train or
    eval) and the dtype of the model. Its attribute `report` states what lifting changed, measured on the example.

    Args:
        model: a network that torch.export can trace, with the layers listed in docs/lifting.md. It is not modified.
        group: name of the group, as in `partialsym.group`.
        example: at least one image [batch, channels, height, width], normalised as for the model.
        samples: number of elements in every layer; by default 8, or all of a finite group.
        partial: True: every layer after the first learns which elements it retains. False: all layers use the whole
            group. `identity`: all layers use only e.
        resampling: `symmetric` moves the windows of strided layers and pools to symmetric positions on their maps,
            which invariance requires; `original` does not; `auto` is `original` if partial is `identity`, and otherwise
            `symmetric`.
        mixing: order of a pointwise kernel on the group after each convolution, whose weights start at 0; None adds no
            such kernel.
        margin: rings of zeros around every filter larger than one pixel. They have room for weights that a rotation by
            other angles than multiples of 90° moves out of the window; docs/lifting.md shows their effect.
    Raises:
        TypeError: model is not a module of torch.
        ValueError: example is not a batch of images, an argument is out of range, or operations cannot be lifted. The
            message names all such operations with their places in the model.

    >>> from torch import nn
    >>> layers = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)]
    >>> images = torch.randn(2, 1, 8, 8)
    >>> network = lift(nn.Sequential(*layers), "C4", example=images, partial=False)
    >>> torch.allclose(network(images), network(images.rot90(1, (2, 3))), atol=1e-5)
    True
    """
    if not isinstance(model, nn.Module):
        raise InputTypeError(f"model is a {type(model).__name__}: must be a module of torch.")
    if not isinstance(example, Tensor) or example.ndim != 4 or not len(example):
        raise InputError("example must be a batch of at least one image, [batch, channels, height, width].")
    like = next((p for p in model.parameters() if p.is_floating_point()), None)
    if like is None or like.is_meta:
        raise InputError("the model has no weights: there is nothing to lift.")
    traced = trace(model, example)

    def made(name: str, margin: int = 0, **options: Any) -> Lifted:
        network = _like(
            like,
            lambda: Lifted(
                name,
                in_channels=example.shape[1],
                size=tuple(example.shape[2:]),
                steps=traced.steps,
                output=traced.output,
                margin=margin,
                **options,
            ),
        )
        _fill(network, traced, margin)
        return network

    network = made(
        group,
        samples=samples,
        partial=partial,
        resampling=resampling,
        mixing=mixing,
        margin=margin,
    )
    network.report = _measured(model, network, made("T2", partial="identity", resampling="original"), traced, example)
    return network.train(model.training)


def _like(like: Tensor, make: Callable[[], Lifted]) -> Lifted:
    """Make the network with the dtype and the device of a tensor, without changing the state of torch's generator."""
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(
            torch.promote_types(like.dtype, torch.float32)
        )  # constants cannot regain lost precision
        with torch.random.fork_rng(devices=()), torch.device("cpu"):
            return make().to(like.device, like.dtype)
    finally:
        torch.set_default_dtype(default)


@torch.no_grad()
def _fill(network: Lifted, traced: Traced, margin: int) -> None:
    """Copy the weights and statistics of the plain network."""
    for name, tensors in traced.tensors.items():
        layer = dict(network.layers.items()).get(name)  # None if the step shares a layer
        if isinstance(layer, LiftedConv):
            weight, bias = tensors["weight"], tensors["bias"]
            assert weight is not None
            ring = margin if weight.shape[2] > 1 else 0
            layer.local.kernel.set_filter(F.pad(weight, [ring] * 4))
            if layer.local.bias is not None and bias is not None:
                layer.local.bias.copy_(bias)
        elif isinstance(layer, BatchNorm):
            for key, tensor in tensors.items():
                if tensor is not None:
                    held: Tensor = getattr(layer, key)
                    held.copy_(tensor)


@torch.no_grad()
def _measured(model: nn.Module, network: Lifted, plain: Lifted, traced: Traced, example: Tensor) -> LiftReport:
    """The report on the network. `plain` is the same network on the identity, with the original resampling.

    Raises:
        ValueError: the outputs of `plain` differ from those of the model.
    """
    with evaluating(model):
        expected = _only_tensor(model(example))
    with evaluating(plain):
        identity = _off(plain(example), expected)
        if not identity <= TOLERANCE:
            raise InputError(
                f"the lifted network's outputs differ from the model's by {100 * identity:.2g} % on the example: the "
                "graph that torch traced does not contain everything that the model does. Do its outputs change from "
                "call to call?"
            )
        moved = [name for name, (_, windows, size) in traced.windows.items() if any(map(windows.shift, size))]
        moved = [name for name in moved if name in plain.layers]
        changes = []
        for name in moved:
            place, windows, (height, width) = traced.windows[name]
            with _Moved(plain, [name]):
                difference = _off(plain(example), expected)
            shift = windows.shift(height), windows.shift(width)
            changes.append(Change(place, (height, width), shift, difference))
        with _Moved(plain, moved):
            symmetric = _off(plain(example), expected)
    named, invariance = _invariance(network, example)
    return LiftReport(tuple(changes), identity, symmetric, tuple(named), invariance)


class _Moved:
    """A context in which the named layers resample symmetrically."""

    def __init__(self, network: Lifted, names: list[str]) -> None:
        held = [network.layers[name] for name in names]
        self.layers = [layer.local if isinstance(layer, LiftedConv) else layer for layer in held]

    def __enter__(self) -> None:
        self._set(True)

    def __exit__(self, *_: object) -> None:
        self._set(False)

    def _set(self, symmetric: bool) -> None:
        for layer in self.layers:
            assert isinstance(layer, WindowPool) or hasattr(layer, "symmetric")
            layer.symmetric = symmetric  # type: ignore[assignment]


def _invariance(network: Lifted, example: Tensor) -> tuple[list[str], float]:
    """The names of the symmetries of the pixel grid in the network's group, and the largest relative change of its
    outputs under them."""
    square, largest, named = Dihedral(4), 0.0, []
    inside = network.group.contains(square.components).tolist()
    with evaluating(network):
        before = network(example)
        for i, (name, g) in enumerate(zip(square.component_names, square.components, strict=True)):
            if i == 0 or not inside[i] or (example.shape[2] != example.shape[3] and bool(g[0, 1] != 0)):
                continue
            after = network(_acted(example, i))
            wanted = _acted(before, i) if before.ndim == 4 else before
            named.append(name)
            largest = max(largest, _off(after, wanted))
    return named, largest


def _acted(x: Tensor, i: int) -> Tensor:
    """Maps transformed by element i of D₄: a left-right reflection for i ≥ 4, then a counter-clockwise rotation."""
    return (x if i < 4 else x.flip(3)).rot90(i % 4, (2, 3))


def _off(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).double().norm() / expected.double().norm().clamp(min=1e-30))


def _only_tensor(output: Any) -> Tensor:
    """The one tensor in the output of a network, such as a tuple or a dict."""
    (tensor,) = (leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor))
    return tensor
