"""Record the outputs of a model's layers as functions on the plane, on their own elements or on given ones."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from partialsym._utils.precision import double
from partialsym._utils.torch_private import conv_bases
from partialsym.data import Preprocessing, as_float
from partialsym.data.base import Images
from partialsym.densities import Density
from partialsym.inference import evaluating
from partialsym.measure.predictions import place
from partialsym.measure.transforms import Motion, inscribed
from partialsym.models import Augerino
from partialsym.nn.conv import GroupConv
from partialsym.signal import Elements, Signal, transported

OUTPUT = "output"
CONVOLUTIONS = conv_bases()
BATCH = 64  # number of images; the maps of all layers are in memory
Maps = dict[str, Tensor]
Given = Callable[[GroupConv, bool], Elements | None]


def plane(out: Tensor | Signal) -> Tensor:
    """The weighted mean of a signal over H, [batch, channels, height, width]. A tensor is returned unchanged."""
    if not isinstance(out, Signal):
        return out
    mean = out.elements.mean_weights()
    return out.values.mean(2) if mean is None else torch.einsum("bcnhw,n->bchw", out.values, mean.to(out.values))


class Probe:
    """Record the output of every GroupConv, and of the model, as functions on the plane.

    For an Augerino, the layers are those of the wrapped network, on untransformed images.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.inside: nn.Module = model.model if isinstance(model, Augerino) else model
        self.names = {m: name for name, m in self.inside.named_modules() if isinstance(m, GroupConv)}
        self.movable = bool(self.names) and not any(isinstance(m, CONVOLUTIONS) for m in self.inside.modules())

    def own(self, x: Tensor, factor: int = 1) -> tuple[Maps, list[Elements]]:
        """A pass on the layers' own elements, or `factor` times as many rotations: maps, and elements of each call."""

        def given(conv: GroupConv, told: bool) -> Elements | None:
            density = conv.codomain
            if factor == 1 or told or density is None or not density.group.dim or not density.algebra.theta():
                return None
            return _denser(density, factor)

        maps, elements = self._pass(x, given)
        if self.inside is not self.model:
            maps[OUTPUT] = plane(self.model(x))
        return maps, elements

    def on(self, x: Tensor, elements: Sequence[Elements]) -> Maps:
        """A pass on given elements, one set per call. There are no maps if equivariance does not depend on elements."""
        if not self.movable:
            return {}
        rest = iter(elements)
        maps, _ = self._pass(x, lambda _conv, _told: next(rest))
        if self.inside is not self.model:
            del maps[OUTPUT]  # the elements do not include an Augerino's copies
        return maps

    def returned(
        self, moved: Tensor, motion: Motion, elements: Sequence[Elements], factor: int = 1
    ) -> tuple[Maps, Maps]:
        """g⁻¹·f(g·x) from g·x, on the layers' own elements and on the transported ones {g·h_i}."""
        carried = self.on(moved, transported(elements, lambda e: e.transport(motion.matrix())))
        return _undone(self.own(moved, factor)[0], motion), _undone(carried, motion)

    def _pass(self, x: Tensor, given: Given) -> tuple[Maps, list[Elements]]:
        maps: Maps = {}
        seen: list[Elements] = []
        calls: dict[GroupConv, int] = defaultdict(int)

        def before(conv: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
            at = given(conv, len(args) > 1 or kwargs.get("elements") is not None)
            return None if at is None else (args[:1], {**kwargs, "elements": at})

        def after(conv: Any, _: object, out: Signal) -> None:
            calls[conv] += 1
            name = self.names[conv] if calls[conv] == 1 else f"{self.names[conv]} ({calls[conv]})"
            maps[name] = plane(out)
            seen.append(out.elements)

        with _hooks(self.names, before, after):
            maps[OUTPUT] = plane(self.inside(x))
        return maps, seen


def prepared(x: Tensor, motion: Motion, preprocess: Preprocessing) -> Tensor:
    """The model's input: g·x, black outside the inscribed disc, normalised."""
    # The disc is applied last, so that all transformed images have the same edge and no corner appears or disappears.
    return preprocess(motion(x, "border") * inscribed(x))


@contextmanager
def batches(model: nn.Module, images: Images) -> Iterator[Iterator[Tensor]]:
    """Batches of images in [0, 1], on the model's device and in its dtype. Within this context it is in eval mode."""
    device, dtype = place(model)
    with torch.no_grad(), evaluating(model):
        yield (as_float(batch).to(device, dtype) for batch in images.split(BATCH))


class Norms:
    """Sums of squares, per key, of everything that was added. Only the inscribed disc of maps counts."""

    def __init__(self) -> None:
        self.squares: dict[Any, float] = defaultdict(float)
        self.counts: dict[Any, float] = defaultdict(float)
        self.products: dict[Any, float] = defaultdict(float)

    def add(self, key: Any, values: Tensor) -> None:
        """Add maps [batch, channels, height, width], or values of any other shape, which all count."""
        inside = inscribed(values) if values.ndim == 4 else values.new_ones(())
        self.squares[key] += float(double(values * inside).square().sum())
        self.counts[key] += values.numel() * float(inside.mean())

    def add_part(self, key: Any, part: Tensor, total: Tensor) -> None:
        """Add one term of a sum, and its inner product with the sum."""
        self.add(key, part)
        inside = inscribed(part) if part.ndim == 4 else part.new_ones(())
        self.products[key] += float((double(part * inside) * double(total)).sum())

    def share(self, key: Any, total: Any) -> float | None:
        """Σ ⟨part, total⟩ / Σ total²; None if nothing was added or the total is 0."""
        if key not in self.products or not self.squares[total]:
            return None
        return self.products[key] / self.squares[total]

    def mean_square(self, key: Any) -> float:
        """The mean of the squares added."""
        return self.squares[key] / self.counts[key]

    def ratio(self, key: Any, reference: Any) -> float | None:
        """√(Σ key² / Σ reference²); 0 if both are 0, and None if nothing was added."""
        if key not in self.squares:
            return None
        above, below = self.squares[key], self.squares[reference]
        return (above / below) ** 0.5 if below else (0.0 if not above else float("inf"))


def _undone(maps: Maps, motion: Motion) -> Maps:
    return {key: motion.undo(values, "border") if values.ndim == 4 else values for key, values in maps.items()}


def _denser(density: Density, factor: int) -> Elements:
    """The deterministic elements with `factor` times as many rotations per component."""
    denser = copy(density)  # a shallow copy shares the parameters
    denser.samples = density.samples * factor
    return denser.deterministic()


@contextmanager
def _hooks(convs: dict[GroupConv, str], before: Callable[..., Any], after: Callable[..., Any]) -> Iterator[None]:
    handles = [conv.register_forward_pre_hook(before, with_kwargs=True) for conv in convs]
    handles += [conv.register_forward_hook(after) for conv in convs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
