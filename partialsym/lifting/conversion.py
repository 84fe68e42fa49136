"""`lift` converts a trained network of torch to the same network on a group."""

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
from partialsym.nn.conv import GroupConv
from partialsym.nn.norm import BatchNorm

TOLERANCE = 1e-4  # relative change of the output that counts as rounding


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
    """Convert a plain network to the same network on a group, with the same weights.

    A `Grid` represents each filter of the plain network, and the elements h move it. On the whole group, the initial
    output is the mean over h of the plain network's outputs for the image moved by h⁻¹. If quarter turns or mirrorings
    map the elements to themselves, the output is invariant to these. With `partial="identity"`, the output is the plain
    network's. Training then learns which part of the group each layer keeps, and how the elements of a layer are mixed.

    All elements share the BatchNorm statistics of the plain network. The result has the model's mode, dtype and device.
    Its attribute `report` is a `LiftReport`, measured on the example.

    Args:
        model: a network that torch.export can trace, with layers listed in docs/lifting.md. It is not modified.
        group: name of the group, as in `partialsym.group`.
        example: images [batch, channels, height, width], normalised as the model requires; at least one.
        samples: elements of every layer; by default 8, or all of a finite group.
        partial: True lets every layer after the first learn its part of the group; False keeps the whole group in all
            layers; `identity` keeps only e.
        resampling: `symmetric` shifts strides and pools that do not lie symmetrically on their maps, as invariance
            requires; `original` does not; `auto` is `original` if partial is `identity`, and `symmetric` otherwise.
        mixing: order of the `Grid` of a pointwise convolution that follows each convolution and is 0 at the start;
            None for no such convolution.
        margin: pixels of zeros around every filter larger than one pixel. Elements between the quarter turns move parts
            of a filter beyond its window, and the margin retains them. docs/lifting.md has measurements.
    Returns:
        The network on the group.
    Raises:
        TypeError: model is not a module of torch.
        ValueError: an argument is out of range, or the model has operations that cannot be lifted; the message has all
            of them, with their places in the model.

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
    on_group = next((name for name, m in model.named_modules() if isinstance(m, GroupConv)), None)
    if on_group is not None:
        raise InputError(f"the model is on a group already, as its layer {on_group!r} shows: lift the plain network.")
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
    """Make a network in the dtype and on the device of a tensor, without advancing torch's random generator."""
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(
            torch.promote_types(like.dtype, torch.float32)
        )  # .to() would not restore the constants' lost digits
        with torch.random.fork_rng(devices=()), torch.device("cpu"):
            return make().to(like.device, like.dtype)
    finally:
        torch.set_default_dtype(default)


@torch.no_grad()
def _fill(network: Lifted, traced: Traced, margin: int) -> None:
    """Copy the weights and statistics of the plain network."""
    for name, tensors in traced.tensors.items():
        layer = dict(network.layers.items()).get(name)  # several steps may share a layer
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
    """The report about `network`; `plain` is the same network on e alone, with the original resampling.

    Raises:
        ValueError: the output of `plain` differs from the model's.
    """
    with evaluating(model):
        expected = _only_tensor(model(example))
    with evaluating(plain):
        identity = _off(plain(example), expected)
        if not identity <= TOLERANCE:
            raise InputError(
                f"the lifted network's output differs from the model's by {100 * identity:.2g} % on the example: the "
                "traced graph does not contain all that the model computes. The model must compute the same function "
                "in every call."
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
    """Context in which some layers resample symmetrically."""

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
    """The symmetries of the pixel grid in the network's group, and the largest change of its output under them."""
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
    """Maps moved by the i-th element of D_4: mirrored left-right if i ≥ 4, then rotated by i quarter turns."""
    return (x if i < 4 else x.flip(3)).rot90(i % 4, (2, 3))


def _off(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).double().norm() / expected.double().norm().clamp(min=1e-30))


def _only_tensor(output: Any) -> Tensor:
    """The only tensor in a network's output, which may be a tuple or dict."""
    (tensor,) = (leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor))
    return tensor
