"""The network that `lift` returns: a list of steps, each of which applies a layer to the results of earlier steps."""

import math
import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial as bind
from typing import Any, Literal

import torch
from torch import Tensor, nn

from partialsym.densities import Density, set_proportional
from partialsym.errors import InputError
from partialsym.groups import T2, group as group_named
from partialsym.lifting.densities import identity, part, whole
from partialsym.lifting.layers import POINTWISE, LiftedConv, PadMaps, WindowPool
from partialsym.lifting.report import LiftReport
from partialsym.nn.activation import Activation, Dropout
from partialsym.nn.local import LocalConv, nearness
from partialsym.nn.norm import BatchNorm
from partialsym.nn.pool import project
from partialsym.nn.resampling import AdaptivePool
from partialsym.signal import Elements, Signal, cat

Partial = bool | Literal["identity"]
Resampling = Literal["auto", "original", "symmetric"]
IMAGE = "image"  # name of the input among the steps
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
}
_LAYERS: dict[str, Callable[..., nn.Module]] = {
    "norm": BatchNorm,
    "adaptive": AdaptivePool,
    "dropout": Dropout,
    "pad": PadMaps,
}


_BEHIND = {"pool", "adaptive", "activation", "dropout"}  # ops that may follow the last layer with weights


class Lifted(nn.Module):
    """A convolutional network on a group, with steps that `partialsym.lift` reads from a network of torch.

    Layers whose outputs are added or concatenated share one draw of elements; the first of them has its density.

    Args:
        group: name of the group, as in `partialsym.group`.
        in_channels: channels of the images.
        size: height and width of the images for which the network was lifted.
        steps: dicts of plain values, with these keys:
            `name`: unique text without a dot.
            `op`: `conv`, `norm`, `activation`, `pool`, `adaptive`, `dropout`, `pad`, `add`, `sub`, `mul`, `div`, `cat`.
            `of`: names of the steps whose results it reads; `image` is the input.
            `layer`: name of an earlier step whose layer it shares.
            `draw`: of a convolution, the number of its draw of elements.
            `options`: arguments of its layer.
        output: `maps`, `vector`, or a function of the vector, `softmax` or `log_softmax`.
        samples, partial, resampling, mixing, margin: as in `partialsym.lift`.
        proportional: in eval mode, use ⌈rθ⌉ rotations per component instead of r.
    Raises:
        ValueError: an argument is out of range, or steps are invalid.
    """

    def __init__(
        self,
        group: str,
        *,
        in_channels: int,
        size: Sequence[int],
        steps: Sequence[Mapping[str, Any]],
        output: str = "vector",
        samples: int | None = None,
        partial: Partial = True,
        resampling: Resampling = "auto",
        mixing: int | None = 1,
        margin: int = 0,
        proportional: bool = False,
    ) -> None:
        super().__init__()
        _check(partial, resampling, mixing, margin, output)
        self.group = h = group_named(group)
        samples = (8 if h.dim else len(h.components)) if samples is None else samples
        resampling = ("original" if partial == "identity" else "symmetric") if resampling == "auto" else resampling
        self.in_channels, self.output = in_channels, output
        self.settings: dict[str, Any] = {
            "group": group,
            "in_channels": in_channels,
            "size": list(size),
            "steps": [dict(step) for step in steps],
            "output": output,
            "samples": samples,
            "partial": partial,
            "resampling": resampling,
            "mixing": mixing,
            "margin": margin,
            "proportional": proportional,
        }
        self.steps = _checked(self.settings["steps"])
        self.last = {
            name: i for i, step in enumerate(self.steps) for name in step["of"]
        }  # index of the last reader of each step
        self.report: LiftReport | None = None  # set by `lift`
        self.layers = nn.ModuleDict()
        first, later = {True: (whole, part), False: (whole, whole), "identity": (identity, identity)}[partial]
        self._first, self._later = bind(first, h, samples), bind(later, h, samples)
        self._conv: dict[str, Any] = {
            "symmetric": resampling == "symmetric",
            "nearness": nearness(h, samples),
            "mixing": None if h.name == "T2" else mixing,
        }
        self._fill(margin)
        set_proportional(self, proportional)

    def with_head(self, num_classes: int) -> "Lifted":
        """A copy of the network with another number of classes: the last convolution or linear layer has new weights.

        The copy returns logits, even if this network ends in a softmax.

        Raises:
            ValueError: the output is maps, or other operations than pools, activations and dropout follow that layer.
        """
        steps = [{**step, "options": dict(step.get("options", {}))} for step in self.steps]
        named, read = {step["name"]: step for step in steps}, Counter(of for step in steps for of in step["of"])
        shared = Counter(step.get("layer", step["name"]) for step in steps)
        head = steps[-1]
        while head["op"] in _BEHIND and read[head["of"][0]] == 1 and head["of"][0] in named:
            head = named[head["of"][0]]
        whole = head["op"] == "conv" and shared[head.get("layer", head["name"])] == 1 and self.output != "maps"
        if not whole or head["options"].get("groups", 1) != 1:
            raise InputError(
                f"the lifted network does not end in one layer of its own for the classes, but in the step "
                f"{head['name']!r}: replace that layer in the plain network, then lift the plain network again."
            )
        head["options"]["out_channels"] = num_classes
        like = next(self.parameters())
        other = Lifted(**{**self.settings, "steps": steps, "output": "vector"}).to(like.device, like.dtype)
        layer = other.layers[head["name"]]
        assert isinstance(layer, LiftedConv)
        _reset(layer.local)
        fresh = tuple(f"layers.{head['name']}.{part}" for part in ("local.kernel.", "local.bias", "mixing."))
        kept = {key: value for key, value in self.state_dict().items() if not key.startswith(fresh)}
        other.load_state_dict(other.state_dict() | kept)
        return other.train(self.training)

    def _fill(self, margin: int) -> None:
        """Create the layers of the steps."""
        on_group, drawn = {IMAGE: False}, set[int]()
        for step in self.steps:
            name, op, options = step["name"], step["op"], step.get("options", {})
            on_group[name] = op == "conv" or any(on_group[of] for of in step["of"])
            draw = self._draw(step)
            if name in self.layers or step.get("layer", name) != name:
                continue
            if op == "conv":
                self.layers[name] = self._lifted(options, margin, on_group[step["of"][0]], draw, drawn)
                drawn.add(draw)
            elif op == "pool":
                self.layers[name] = WindowPool(**options, symmetric=self._conv["symmetric"])
            elif op == "activation":
                self.layers[name] = Activation(bind(POINTWISE[options["fn"]], **options.get("numbers", {})))
            elif op in _LAYERS:
                self.layers[name] = _LAYERS[op](**options)

    def _lifted(
        self, options: Mapping[str, Any], margin: int, on_group: bool, draw: int, drawn: set[int]
    ) -> LiftedConv:
        wide = margin if options["kernel_size"] > 1 else 0
        reach = wide * options.get("dilation", 1)
        before, after = options.get("padding", (0, 0))
        size = {"kernel_size": options["kernel_size"] + 2 * wide, "padding": (before + reach, after + reach)}
        density: Callable[[], Density] = self._later if drawn else self._first  # the first layer keeps the whole group
        mixing = None if options.get("whole") else self._conv["mixing"]
        return LiftedConv(
            **{**options, **size, **self._conv, "mixing": mixing},
            domain=self.group if on_group else T2(),
            codomain=self.group if draw in drawn else density(),
        )

    def _draw(self, step: Mapping[str, Any]) -> int:
        """The number of a convolution's draw of elements; 0 for all, unless the layers learn their densities."""
        return step.get("draw", 0) if self.settings["partial"] is True else 0

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [batch, in_channels, height, width] → the mean of `features` over H.

        Its shape is that of the network of torch.
        """
        f = self.features(images)
        out = project(f, "mean")
        if self.output == "maps":
            return out
        out = out.flatten(1)
        return out if self.output == "vector" else getattr(torch, self.output)(out, 1)

    def features(self, images: Tensor) -> Signal:
        """The signal before the mean over the group, [batch, channels, n, h, w]; after a linear layer h = w = 1."""
        held: dict[str, Signal] = {IMAGE: Signal.image(images)}
        draws: dict[int, Elements] = {}
        for i, step in enumerate(self.steps):
            taken = [held[of] for of in step["of"]]
            held[step["name"]] = f = self._run(step, taken, draws)
            for of in step["of"]:
                if self.last[of] == i:
                    held.pop(of, None)
        return f

    def _run(self, step: Mapping[str, Any], taken: list[Signal], draws: dict[int, Elements]) -> Signal:
        op = step["op"]
        if op == "cat":
            return cat(taken)
        if op in _ARITHMETIC:
            return _ARITHMETIC[op](taken[0], taken[1] if len(taken) > 1 else step["options"]["number"])
        layer = self.layers[step.get("layer", step["name"])]
        if op != "conv":
            return layer(*taken)
        draw = self._draw(step)
        out = layer(taken[0], elements=draws.get(draw))
        draws[draw] = out.elements
        return out


@torch.no_grad()
def _reset(layer: LocalConv) -> None:
    """Draw new weights from the distribution of torch's own layers."""
    shape = layer.out_channels, layer.in_channels // layer.groups, layer.kernel_size, layer.kernel_size
    bound = math.prod(shape[1:]) ** -0.5
    weight = layer.kernel.linear.weight
    layer.kernel.set_filter(torch.empty(shape, dtype=weight.dtype, device=weight.device).uniform_(-bound, bound))
    if layer.bias is not None:
        layer.bias.uniform_(-bound, bound)


OPS = {"conv", "pool", "activation", "cat", *_LAYERS, *_ARITHMETIC}


def _check(partial: object, resampling: str, mixing: int | None, margin: int, output: str) -> None:
    if not isinstance(partial, bool) and partial != "identity":
        raise InputError(f"partial is {partial!r}: must be True, False or 'identity'.")
    if resampling not in ("auto", "original", "symmetric"):
        raise InputError(f"resampling is {resampling!r}: must be 'auto', 'original' or 'symmetric'.")
    if mixing is not None and mixing < 0:
        raise InputError(f"mixing is {mixing}: must be at least 0, or None.")
    if margin < 0:
        raise InputError(f"margin is {margin}: must be at least 0.")
    if output not in ("maps", "vector", "softmax", "log_softmax"):
        raise InputError(f"output is {output!r}: must be maps, vector, softmax or log_softmax.")


def _checked(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`steps`, unchanged; raises ValueError if they are invalid."""
    known = {IMAGE}
    if not any(step.get("op") == "conv" for step in steps):
        raise InputError("steps contain no convolution and no linear layer: there is nothing to lift.")
    for step in steps:
        name, op, of = step.get("name"), step.get("op"), step.get("of")
        if op not in OPS:
            raise InputError(f"a step has the op {op!r}: must be one of {', '.join(sorted(OPS))}.")
        if not isinstance(name, str) or not name or "." in name or name in known or hasattr(nn.ModuleDict, name):
            raise InputError(f"a step has the name {name!r}: must be unique text without a dot.")
        if not isinstance(of, list) or not of or not {*of} <= known:
            raise InputError(f"the step {name!r} reads {of!r}: must be names of earlier steps, or {IMAGE!r}.")
        known.add(name)
    return steps
