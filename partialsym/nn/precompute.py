"""The elements and kernel features of all layers of a network, computed together before the first layer.

Each layer draws a few elements and computes the features of a small kernel. These are many small operations, which take
longer to start than to compute. None of them depends on the images, so layers of equal sizes can share each of them.

What was computed travels with the elements of the signals, until the network removes it from its last signal. A layer
uses it only if it is called on the draws for which it was computed.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from partialsym._utils.torch_func import transformed
from partialsym._utils.torch_private import hooks_on_all, in_forward_mode, runs_its_class
from partialsym.densities import Density, Uniform
from partialsym.densities.together import sample_together
from partialsym.nn.conv import GroupConv, Precomputed, coordinates
from partialsym.signal import Signal, autocasting

PARTS = ("partialsym.", "torch.nn.modules.")  # where the classes of a network's parts are defined
OVERRIDDEN = {"prepared", "factored_kernel", "_coordinates"}  # of a layer, for one instance
HELD = 2**24  # bytes of features, which are all in memory until the last layer has used its own


class Link(NamedTuple):
    """A GroupConv, or what has replaced it, with those that draw the elements of its input and of its output.

    `into` is None if the input is the image.
    """

    layer: Any
    into: Any
    out: Any


def chain(*layers: nn.Module, into: nn.Module | None = None) -> list[Link]:
    """The links of layers that follow each other and draw their own elements; the first one follows `into`."""
    return [Link(layer, before, layer) for before, layer in pairwise([into, *layers])]


def precompute(network: nn.Module, images: Any, links: Sequence[Link]) -> Any:
    """Images as a signal with what the layers of `links` need; what was given if that is not possible.

    It is possible only if nothing else can see or change what a layer computes. Every part of the network must be a
    module of this package or of torch.nn, with its class's `forward` and without hooks. Each layer must be used once,
    and all layers must be on one device and in one dtype. Compilers, tracers, transforms of torch.func, and processes
    that share statistics have each layer draw and compute for itself.
    """
    values = images.values if isinstance(images, Signal) else images
    if not (isinstance(values, Tensor) and _is_possible(network, values, links)):
        return images
    f = images if isinstance(images, Signal) else Signal.image(images)
    drawing = list(dict.fromkeys(link.out for link in links))
    drawn = dict(zip(drawing, sample_together([layer.codomain for layer in drawing]), strict=True))
    drawn[None] = f.elements
    found: dict[GroupConv, Precomputed] = {at.layer: Precomputed(drawn[at.into], drawn[at.out]) for at in links}
    alike: dict[Hashable, list[GroupConv]] = defaultdict(list)
    for layer, given in found.items():
        alike[_batch_key(layer, given)].append(layer)
    for key, layers in alike.items():
        if key is not None and len(layers) > 1 and _is_small(layers, found[layers[0]]):
            found |= _with_features(layers, [found[layer] for layer in layers])
    return replace(f, elements=replace(f.elements, precomputed=found))


def without_precomputed(f: Signal) -> Signal:
    """f, as it leaves a network."""
    return f if f.elements.precomputed is None else replace(f, elements=replace(f.elements, precomputed=None))


def _is_possible(network: nn.Module, values: Tensor, links: Sequence[Link]) -> bool:
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or transformed() or in_forward_mode():
        return False
    if torch.is_autocast_enabled(autocasting(values)) and values.dtype != torch.float32:
        return False  # layers may refuse the dtype
    if not links or hooks_on_all() or not all(_is_plain(part) for part in network.modules() if part is not network):
        return False
    layers, drawing = [at.layer for at in links], [at.out for at in links]
    if len(set(layers)) < len(layers):
        return False
    if any(type(layer) is not GroupConv or OVERRIDDEN & vars(layer).keys() for layer in (*layers, *drawing)):
        return False
    if not all(isinstance(layer.codomain, Density) for layer in drawing):
        return False
    held = [*(layer.taps for layer in layers), *(layer.codomain.components for layer in drawing)]
    return all((tensor.device, tensor.dtype) == (values.device, values.dtype) for tensor in held)


def _is_plain(part: nn.Module) -> bool:
    """Whether the part is ours or torch's, and nothing looks at it, in this process or in others."""
    if not (runs_its_class(part) and type(part).__module__.startswith(PARTS)):
        return False
    return not (isinstance(part, Uniform) and part.all_reduce is not None)


def _batch_key(layer: GroupConv, given: Precomputed) -> Hashable:
    """What layers must have in common for their features to be computed as one; None if these are computed alone."""
    if layer.kernel.batch_key is None:
        return None
    into, out = given.into, given.out
    return (
        *(type(layer.kernel), layer.kernel.batch_key, layer.domain, layer.group, layer.kernel_size),
        *(len(into), len(out), into.matrices.requires_grad or out.matrices.requires_grad),
    )


def _is_small(layers: Sequence[GroupConv], given: Precomputed) -> bool:
    """Whether the features of all layers may be held."""
    each = len(given.into) * len(given.out) * layers[0].disc.numel() * layers[0].kernel.linear.in_features
    return len(layers) * each * layers[0].taps.element_size() <= HELD


def _with_features(layers: Sequence[GroupConv], given: Sequence[Precomputed]) -> dict[GroupConv, Precomputed]:
    first, taps = layers[0], torch.stack([layer.taps for layer in layers])
    with torch.autocast(autocasting(taps), enabled=False):
        out = torch.stack([pair.out.matrices for pair in given])
        into = torch.stack([pair.into.matrices for pair in given])
        z = coordinates(first.domain, taps, out, into)
        phi = first.on_square(first.kernel.batched_features([layer.kernel for layer in layers], z))
    return {layer: pair._replace(phi=one) for layer, pair, one in zip(layers, given, phi.unbind(), strict=True)}
