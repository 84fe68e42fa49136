"""The elements and kernel features of a network's layers, computed together before its first layer.

Each layer draws a few elements and computes the features of a small kernel. These are many small operations, which take
longer to start than to compute. None of them depends on the images, so layers of equal sizes can share each of them.

What was computed travels with the elements of the signals. A layer uses it only if it is called on the elements for
which it was computed, so it changes the time of a network, and nothing else.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import nn

from partialsym._utils.torch_func import transformed
from partialsym._utils.torch_private import has_hooks, hooks_on_all, in_forward_mode
from partialsym.densities import Density
from partialsym.densities.together import sample_together
from partialsym.nn.conv import Ahead, GroupConv, coordinates
from partialsym.signal import Signal, autocasting

OVERRIDDEN = {"forward", "prepared", "factored_kernel", "_coordinates"}  # of a layer, for one instance


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


def ahead(f: Signal, links: Sequence[Link]) -> Signal:
    """f, with what the layers of `links` need, computed together.

    Compilers, transforms of torch.func and hooks see every layer draw and compute for itself, and f is returned as it
    is.
    """
    if not _possible(links):
        return f
    with torch.autocast(autocasting(f.values), enabled=False):
        drawing = list(dict.fromkeys(link.out for link in links))
        drawn = dict(zip(drawing, sample_together([layer.codomain for layer in drawing]), strict=True))
        drawn[None] = f.elements
        found: dict[GroupConv, Ahead] = {at.layer: Ahead(drawn[at.into], drawn[at.out]) for at in links}
        kinds: dict[Hashable, list[GroupConv]] = defaultdict(list)
        for layer, given in found.items():
            kinds[_kind(layer, given)].append(layer)
        for kind, layers in kinds.items():
            if kind is not None and len(layers) > 1:
                found |= _with_features(layers, [found[layer] for layer in layers])
    return replace(f, elements=replace(f.elements, ahead=found))


def _possible(links: Sequence[Link]) -> bool:
    """Whether the layers may be computed together: nothing looks at them, and all are ours."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or transformed() or in_forward_mode():
        return False
    layers, drawing = [at.layer for at in links], [at.out for at in links]
    if not links or hooks_on_all() or any(type(layer) is not GroupConv for layer in (*layers, *drawing)):
        return False
    if not all(isinstance(layer.codomain, Density) for layer in drawing):
        return False
    if any(OVERRIDDEN & vars(layer).keys() for layer in layers):
        return False
    return not any(has_hooks(module) for layer in layers for module in layer.modules())


def _kind(layer: GroupConv, given: Ahead) -> Hashable:
    """What layers must have in common for their features to be computed as one; None if these are computed alone."""
    if layer.kernel.kind is None:
        return None
    into, out = given.into, given.out
    return (
        *(layer.kernel.kind, layer.domain, layer.group, layer.kernel_size, layer.taps.dtype, layer.taps.device),
        *(len(into), len(out), into.matrices.requires_grad or out.matrices.requires_grad),
    )


def _with_features(layers: Sequence[GroupConv], given: Sequence[Ahead]) -> dict[GroupConv, Ahead]:
    first, taps = layers[0], torch.stack([layer.taps for layer in layers])
    out = torch.stack([pair.out.matrices for pair in given])
    into = torch.stack([pair.into.matrices for pair in given])
    z = coordinates(first.domain, taps, out, into)
    phi = first.kernel.together([layer.kernel for layer in layers], z)
    parts = zip(layers, given, first.on_square(phi).unbind(), strict=True)
    return {layer: pair._replace(phi=one) for layer, pair, one in parts}
