"""`lift`: from a trained network of torch to the same one on a group."""

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

TOLERANCE = 1e-4  # of the answers' norm: what lifting may lose by rounding before it is wrong


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
    """The same network on a group, with the same weights.

    Every filter of the plain network is held by a `Grid` and moved by the elements h. At the start, on the whole group,
    the answer is the mean over h of what the plain network says of the image moved by h⁻¹; where quarter turns and
    mirrorings map the elements to themselves, it is invariant to these. With `partial="identity"` it is the plain
    network's own. What each layer keeps of the group, and what the elements of a layer have to say to each other,
    is then learned as in any network here.

    BatchNorm's statistics are those of the plain network for all elements, and its modes and dtype are kept. What has
    changed is measured on the example, and is the attribute `report`.

    Args:
        model: any that torch.export can trace, of the layers in docs/lifting.md. It is left as it is.
        group: as in `partialsym.group`.
        example: some images [batch, channels, height, width], normalised, as the model takes them.
        samples: elements of every layer; by default 8, or all of a finite group.
        partial: let every layer after the first learn what it keeps; False: keep the whole group; `identity`: e alone.
        resampling: `symmetric` moves strides and pools that do not lie symmetrically on their maps, as invariance
            needs it; `original` leaves them; `auto` is `original` for the identity alone, and `symmetric` otherwise.
        mixing: the order of a pointwise kernel on the group after each convolution, 0 at the start; None for none.
        margin: rings of zeros round every filter of more than a pixel: room for what turns off the quarter turns move
            over the edge of its window. See docs/lifting.md for what that is worth.
    Raises:
        TypeError: model or example is none.
        ValueError: an argument out of range, or operations that cannot be lifted, each with its place in the model.

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
        raise InputError("example must be images [batch, channels, height, width] with at least one.")
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
    """The network in the dtype and on the device of a tensor; torch's generator is left as it was."""
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(
            torch.promote_types(like.dtype, torch.float32)
        )  # constants cannot be widened afterwards
        with torch.random.fork_rng(devices=()), torch.device("cpu"):
            return make().to(like.device, like.dtype)
    finally:
        torch.set_default_dtype(default)


@torch.no_grad()
def _fill(network: Lifted, traced: Traced, margin: int) -> None:
    """Weights and statistics of the plain network."""
    for name, tensors in traced.tensors.items():
        layer = dict(network.layers.items()).get(name)  # steps may share one
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
    """What is said of the network; `plain` is it on the identity alone, with the original resampling.

    Raises:
        ValueError: `plain` gives other answers than the model.
    """
    with evaluating(model):
        expected = _only_tensor(model(example))
    with evaluating(plain):
        identity = _off(plain(example), expected)
        if not identity <= TOLERANCE:
            raise InputError(
                f"lifted, the model's answers differ by {100 * identity:.2g} % on the example: its graph does not hold "
                "all that it does. Does it change from call to call?"
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
    """Within it some layers resample symmetrically."""

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
    """The symmetries of the pixel grid in the network's group, by name, and how much its answers change by them."""
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
    """Maps moved by the i-th element of D_4: mirrored left-right from the fifth on, then turned counter-clockwise."""
    return (x if i < 4 else x.flip(3)).rot90(i % 4, (2, 3))


def _off(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).double().norm() / expected.double().norm().clamp(min=1e-30))


def _only_tensor(output: Any) -> Tensor:
    """The one tensor that a network gives, in whatever it is wrapped."""
    (tensor,) = (leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor))
    return tensor
