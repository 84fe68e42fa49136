"""Conversion of a network of torch to the steps of a `Lifted` network, from its graph by torch.export."""

import math
import operator
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from partialsym.errors import InputError
from partialsym.lifting.layers import POINTWISE
from partialsym.lifting.network import IMAGE
from partialsym.nn.windows import Windows

KNOWN = (
    "Conv2d, BatchNorm2d, pointwise activations, maximum, average and adaptive pools, dropout, sums, products and "
    "concatenations of maps, flatten and Linear"
)
_NOTHING = {"clone", "contiguous", "alias", "detach", "lift_fresh_copy"}  # these do not change values
_RESHAPES = {"flatten", "view", "reshape", "_unsafe_view", "squeeze", "unsqueeze"}
_PADDINGS = {"constant": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


class Unliftable(Exception):
    """The graph has an operation without a counterpart on the group; the message describes it."""


@dataclass(frozen=True)
class Value:
    """The result of a node of the graph: the maps of a step, which may be flattened to vectors.

    step: name of the step.
    shape: channels, height and width of the maps.
    draw: number of the draw of elements that the maps lie on; None for the image.
    flat: the maps are flattened.
    """

    step: str
    shape: tuple[int, int, int]
    draw: int | None = None
    flat: bool = False


@dataclass
class Traced:
    """A network of torch as arguments and weights of a `Lifted` network.

    steps, output: arguments of `Lifted`.
    tensors: step → initial tensors of its layer.
    windows: step → name in the network of torch, windows, and height and width of the input.
    """

    steps: list[dict[str, Any]]
    output: str
    tensors: dict[str, dict[str, Tensor | None]]
    windows: dict[str, tuple[str, Windows, tuple[int, int]]]


def trace(model: nn.Module, example: Tensor) -> Traced:
    """Trace `model` in eval mode.

    Args:
        model: a network of torch.
        example: images [batch, channels, height, width].
    Raises:
        ValueError: torch cannot trace it, or it has operations that cannot be lifted; the message has all of them.
    """
    images = example[:1].expand(2, -1, -1, -1).contiguous()  # two, so that operations across a batch are recognised
    try:
        with _eval_mode(model), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(model, (images,))
    except Exception as error:  # a user's network may raise anything
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"the model cannot be lifted, because torch cannot trace it: {said}") from error
    channels, height, width = images.shape[1:]
    return _Reader(model, program).read((channels, height, width))


@dataclass
class _Reader:
    """Converts the nodes of a graph to steps, in one pass."""

    model: nn.Module
    program: torch.export.ExportedProgram
    values: dict[fx.Node, Value] = field(default_factory=dict)
    parameters: dict[fx.Node, str] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    tensors: dict[str, dict[str, Tensor | None]] = field(default_factory=dict)
    windows: dict[str, tuple[str, Windows, tuple[int, int]]] = field(default_factory=dict)
    layers: dict[Any, tuple[str, dict[str, Any]]] = field(default_factory=dict)  # weight → step and options
    draws: list[int] = field(default_factory=list)  # union-find: draws that must be one
    pads: dict[str, tuple[Value, int, int]] = field(default_factory=dict)  # zeros that the next convolution pads
    wrong: dict[str, None] = field(default_factory=dict)
    function: str = "vector"

    def read(self, shape: tuple[int, int, int]) -> Traced:
        self._name_inputs(shape)
        for node in self.program.graph.nodes:
            if node.op == "call_function":
                self._node(node)
        if self.wrong:
            listed = "; ".join(self.wrong)
            raise InputError(f"the model cannot be lifted: {listed}. Supported are {KNOWN}.")
        out = self._output()
        kept = self._reached(out.step)
        for step in kept:
            if "draw" in step:
                step["draw"] = self._root(step["draw"])
        output = "maps" if not out.flat else self.function
        return Traced(kept, output, self.tensors, self.windows)

    def _name_inputs(self, shape: tuple[int, int, int]) -> None:
        signature = self.program.graph_signature
        named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        images = set(signature.user_inputs)
        for node in self.program.graph.nodes:
            if node.op == "placeholder" and node.name in named:
                self.parameters[node] = named[node.name]
            elif node.op == "placeholder" and node.name in images:
                self.values[node] = Value(IMAGE, shape)

    def _node(self, node: fx.Node) -> None:
        if node.target is operator.getitem:  # of a pool that also returns indices
            source, index = node.args
            if source in self.values and index == 0:
                self.values[node] = self.values[source]  # type: ignore[index]
            return
        schema: Any = getattr(node.target, "_schema", None)
        name = "" if schema is None else schema.name.partition("::")[2]
        if name.startswith("_assert") or not any(a in self.values for a in node.all_input_nodes):
            return  # a constant: an operation that combines it with maps is refused
        given = {
            a.name: node.args[i] if i < len(node.args) else node.kwargs.get(a.name, a.default_value)
            for i, a in enumerate(schema.arguments)
        }
        plain = name.removesuffix("_")
        try:
            if (found := self._lifted(plain, given, node)) is None:
                raise Unliftable(plain or str(node.target))
        except Unliftable as error:
            self.wrong[f"{self._place(node)}: {error}"] = None
            self.values[node] = self._stand_in(node)
            return
        self.values[node] = found
        if name != plain and isinstance(first := node.args[0], fx.Node):
            self.values[first] = found  # in place: later nodes read the old name

    def _lifted(self, op: str, given: dict[str, Any], node: fx.Node) -> Value | None:
        """Add the step of a node and return its value; None if the operation is unknown."""
        if op in _NOTHING:
            return self._value(given["self"])
        if op in _RESHAPES:
            return self._reshape(self._value(given["self"]), _shape(node))
        if op in POINTWISE:
            return self._activation(op, given, node)
        known: dict[str, Callable[[dict[str, Any], fx.Node], Value]] = {
            "conv2d": self._conv,
            "linear": self._linear,
            "batch_norm": self._norm,
            "max_pool2d": self._pool,
            "avg_pool2d": self._pool,
            "adaptive_avg_pool2d": self._adaptive,
            "adaptive_max_pool2d": self._adaptive,
            "mean": self._mean,
            "amax": self._mean,
            "dropout": self._dropout,
            "feature_dropout": self._dropout,
            "cat": self._cat,
            "pad": self._pad,
            "softmax": self._softmax,
            "log_softmax": self._softmax,
            **dict.fromkeys(("add", "sub", "mul", "div"), self._arithmetic),
        }
        return known[op](given, node) if op in known else None

    # One method per operation.

    def _conv(self, given: dict[str, Any], node: fx.Node) -> Value:
        f, weight = self._value(given["input"]), self._parameter(given["weight"])
        if f.flat:
            raise Unliftable("a conv2d of vectors")
        stride, dilation = _one(given["stride"], "stride"), _one(given["dilation"], "dilation")
        size = max(weight.shape[2:])
        spare = [size - side for side in weight.shape[2:]]
        padding = given["padding"]
        if isinstance(padding, str):
            total = [dilation * (side - 1) if padding == "same" else 0 for side in weight.shape[2:]]
            sides = [(t // 2, t - t // 2) for t in total]
        else:
            sides = [(p, p) for p in (padding * 2 if len(padding) == 1 else padding)]
        if any(rest % 2 for rest in spare):
            raise Unliftable(
                f"conv2d with a kernel of {weight.shape[2]}×{weight.shape[3]}, which cannot be padded to a square"
            )
        rows, columns = ((a + dilation * r // 2, b + dilation * r // 2) for (a, b), r in zip(sides, spare, strict=True))
        if rows != columns:
            raise Unliftable(f"conv2d with kernel {list(weight.shape[2:])} and padding {padding}: must be square")
        f, before, after = self.pads.get(f.step, (f, 0, 0))
        around = [spare[1] // 2] * 2 + [spare[0] // 2] * 2
        options = {
            "in_channels": f.shape[0],
            "out_channels": len(weight),
            "kernel_size": size,
            "padding": [rows[0] + before, rows[1] + after],
            "stride": stride,
            "dilation": dilation,
            "groups": given["groups"],
        }
        tensors = {"weight": torch.nn.functional.pad(weight, around)}
        return self._convolution(f, options, tensors, given, node, replace(f, shape=_shape(node)))

    def _linear(self, given: dict[str, Any], node: fx.Node) -> Value:
        f, weight = self._value(given["input"]), self._parameter(given["weight"])
        channels, height, width = f.shape
        if not f.flat:
            raise Unliftable("linear on maps that are not flattened")
        if height != width:
            raise Unliftable(f"linear on flattened maps of {height}×{width} pixels: must be square, for quarter turns")
        options = {
            "in_channels": channels,
            "out_channels": len(weight),
            "kernel_size": height,
            "whole": True,
        }
        tensors = {"weight": weight.unflatten(1, (channels, height, width))}
        return self._convolution(f, options, tensors, given, node, replace(f, shape=(len(weight), 1, 1)))

    def _convolution(
        self,
        f: Value,
        options: dict[str, Any],
        tensors: dict[str, Any],
        given: dict[str, Any],
        node: fx.Node,
        out: Value,
    ) -> Value:
        tensors["bias"] = None if given["bias"] is None else self._parameter(given["bias"])
        options["bias"] = given["bias"] is not None
        draw = f.draw
        if not options.get("whole") or draw is None:  # a linear layer uses its input's elements
            draw = len(self.draws)
            self.draws.append(draw)
        step = self._step("conv", [f], node, options, owner=given["weight"], draw=draw)
        self.tensors[step] = tensors
        if not options.get("whole"):
            extent = options["dilation"] * (options["kernel_size"] - 1) + 1
            windows = Windows(extent, options["stride"], *options["padding"])
            self.windows[step] = self._place(node), windows, f.shape[1:]
        return replace(out, step=step, draw=draw)

    def _norm(self, given: dict[str, Any], node: fx.Node) -> Value:
        f = self._value(given["input"])
        if given["training"] or given["running_mean"] is None:
            raise Unliftable("a batch_norm without running statistics")
        if f.flat and f.shape[1:] != (1, 1):
            raise Unliftable("a batch_norm of flattened maps")
        names = ("weight", "bias", "running_mean", "running_var")
        tensors = {name: None if given[name] is None else self._parameter(given[name]) for name in names}
        owner = self.model.get_submodule(self.parameters[given["running_mean"]].rpartition(".")[0])
        affine = tensors["weight"] is not None
        momentum = getattr(owner, "momentum", given["momentum"])
        options = {"channels": f.shape[0], "eps": given["eps"], "momentum": momentum, "affine": affine}
        step = self._step("norm", [f], node, options, owner=given["running_mean"])
        self.tensors[step] = {**tensors, "num_batches": getattr(owner, "num_batches_tracked", None)}
        return replace(f, step=step)

    def _activation(self, op: str, given: dict[str, Any], node: fx.Node) -> Value:
        f = self._value(given.pop("self"))
        options: dict[str, Any] = {"fn": op}
        renamed = {"hardtanh": {"min_val": "min_val", "max_val": "max_val"}, "elu": {"alpha": "alpha"}}
        taken = renamed.get(op, {"negative_slope": "negative_slope", "approximate": "approximate"})
        taken = {"beta": "beta", "threshold": "threshold"} if op == "softplus" else taken
        if numbers := {taken[name]: value for name, value in given.items() if name in taken}:
            options["numbers"] = numbers
        return replace(f, step=self._step("activation", [f], node, options))

    def _pool(self, given: dict[str, Any], node: fx.Node) -> Value:
        f = self._value(given["self"])
        if f.flat:
            raise Unliftable("a pool of vectors")
        size = _one(given["kernel_size"], "kernel_size")
        options = {
            "kernel_size": size,
            "stride": _one(given["stride"], "stride") if given["stride"] else size,
            "padding": _one(given["padding"], "padding"),
            "ceil": given["ceil_mode"],
        }
        if "dilation" in given:
            if _one(given["dilation"], "dilation") != 1:
                raise Unliftable("a max_pool2d with a dilation")
            options["mode"] = "max"
        else:
            if given["divisor_override"] is not None:
                raise Unliftable("an avg_pool2d with divisor_override")
            options |= {"mode": "mean", "count_padding": given["count_include_pad"]}
        step = self._step("pool", [f], node, options)
        windows = Windows(size, options["stride"], options["padding"], options["padding"], options["ceil"])
        self.windows[step] = self._place(node), windows, f.shape[1:]
        return replace(f, step=step, shape=_shape(node))

    def _adaptive(self, given: dict[str, Any], node: fx.Node) -> Value:
        f = self._value(given["self"])
        height, width = given["output_size"]
        if height != width or f.flat:
            raise Unliftable(f"an adaptive pool to {height}×{width}: must be square, of maps that are not flattened")
        mode = "mean" if "avg" in str(node.target) else "max"
        step = self._step("adaptive", [f], node, {"size": height, "mode": mode})
        return replace(f, step=step, shape=(f.shape[0], height, width))

    def _mean(self, given: dict[str, Any], node: fx.Node) -> Value:
        f = self._value(given["self"])
        if f.flat or sorted(d % 4 for d in given["dim"] or ()) != [2, 3]:
            raise Unliftable(f"a mean or maximum over the axes {given['dim']}: must be over height and width")
        mode = "mean" if "mean" in str(node.target) else "max"
        step = self._step("adaptive", [f], node, {"size": 1, "mode": mode})
        return replace(f, step=step, shape=(f.shape[0], 1, 1), flat=not given["keepdim"])

    def _dropout(self, given: dict[str, Any], node: fx.Node) -> Value:
        f = self._value(given["input"])
        options = {"p": given["p"], "channels": "feature" in str(node.target) and not f.flat}
        return replace(f, step=self._step("dropout", [f], node, options))

    def _cat(self, given: dict[str, Any], node: fx.Node) -> Value:
        parts = [self._value(part) for part in given["tensors"]]
        first = parts[0]
        if given["dim"] % len(_whole(node)) != 1 or any(
            (p.flat, p.shape[1:]) != (first.flat, first.shape[1:]) for p in parts
        ):
            raise Unliftable("a concatenation along another axis than the channels")
        draw = self._together(parts)
        step = self._step("cat", parts, node)
        return replace(first, step=step, shape=(sum(p.shape[0] for p in parts), *first.shape[1:]), draw=draw)

    def _arithmetic(self, given: dict[str, Any], node: fx.Node) -> Value:
        op = str(node.target).split(".")[1].removesuffix("_")
        a, b = given["self"], given["other"]
        if given.get("alpha", 1) != 1 or given.get("rounding_mode") is not None:
            raise Unliftable(f"{op} with alpha or rounding_mode")
        if isinstance(b, int | float) and not isinstance(b, bool):
            f = self._value(a)
            return replace(f, step=self._step(op, [f], node, {"number": b}))
        parts = [self._value(part) for part in (a, b)]
        if parts[0].shape != parts[1].shape or parts[0].flat != parts[1].flat:
            raise Unliftable(f"{op} of maps of different shapes")
        draw = self._together(parts)
        return replace(parts[0], step=self._step(op, parts, node), draw=draw)

    def _pad(self, given: dict[str, Any], node: fx.Node) -> Value:
        f, pads, mode = self._value(given["self"]), given["pad"], given["mode"]
        if len(pads) != 4 or mode not in _PADDINGS or f.flat:
            raise Unliftable(f"pad by {pads} in mode {mode}")
        left, right, top, bottom = pads
        zeros = mode == "constant" and not given["value"]
        of_conv = all(user.target in _CONVOLUTIONS for user in node.users)
        if zeros and of_conv and (left, right) == (top, bottom) and min(pads) >= 0:
            name = self._free(node.name)  # only a name, because the convolution pads
            self.pads[name] = f, left, right
            return replace(f, step=name, shape=_shape(node))
        if len(set(pads)) > 1 or left < 0:
            raise Unliftable(f"a pad by {pads}, which is not the same on all sides")
        options = {"pixels": left, "mode": mode, "value": float(given["value"] or 0.0)}
        return replace(f, step=self._step("pad", [f], node, options), shape=_shape(node))

    def _softmax(self, given: dict[str, Any], node: fx.Node) -> Value:
        f = self._value(given["self"])
        last = all(user.op == "output" for user in node.users)
        if not (f.flat and last and given["dim"] % 2 == 1):
            raise Unliftable("a softmax that is not the model's output")
        self.function = "log_softmax" if "log" in str(node.target) else "softmax"
        return f

    def _reshape(self, f: Value, shape: Sequence[int]) -> Value:
        rest = tuple(shape)
        if rest == f.shape:
            return replace(f, flat=False)
        if rest == (math.prod(f.shape),):
            return replace(f, flat=True)
        if f.shape[1:] == (1, 1) and rest[0] == f.shape[0] and set(rest[1:]) == {1}:
            return f
        raise Unliftable(f"a reshape to {list(rest)}: must flatten channels, height and width, but not the batch")

    # Shared helpers.

    def _value(self, node: object) -> Value:
        if isinstance(node, fx.Node) and node in self.values:
            return self.values[node]
        raise Unliftable("an operation with a tensor that is not a feature map")

    def _parameter(self, node: object) -> Tensor:
        if isinstance(node, fx.Node) and node in self.parameters:
            return self.program.state_dict[self.parameters[node]].detach()
        raise Unliftable("a weight that is computed: must be a parameter; remove its parametrisation first")

    def _step(
        self,
        op: str,
        of: list[Value],
        node: fx.Node,
        options: dict[str, Any] | None = None,
        *,
        owner: fx.Node | None = None,
        draw: int | None = None,
    ) -> str:
        """Add a step, named after its layer in the network of torch."""
        for f in of:
            if f.step in self.pads:
                raise Unliftable("zero padding that is not the input of a convolution")
        place = self._path(node) if owner is None else self.parameters[owner].rpartition(".")[0]
        name = self._free((place or node.name).replace(".", "_"))
        step: dict[str, Any] = {"name": name, "op": op, "of": [f.step for f in of]}
        if options:
            step["options"] = options
        if owner is not None:
            key = op, self.parameters[owner], of[0].draw is None
            first, before = self.layers.setdefault(key, (name, options or {}))
            if before != options:
                raise Unliftable(f"a second use of the weight of {place} with other options")
            if first != name:
                step["layer"] = first
        if draw is not None:
            step["draw"] = draw
        self.steps.append(step)
        return name

    def _free(self, name: str) -> str:
        taken = {step["name"] for step in self.steps} | {IMAGE} | self.pads.keys()
        free, count = name, 1
        while free in taken or hasattr(nn.ModuleDict, free):
            count += 1
            free = f"{name}_{count}"
        return free

    def _together(self, parts: list[Value]) -> int | None:
        """Merge the draws of several values into one and return it."""
        draws = [part.draw for part in parts]
        if all(draw is None for draw in draws):
            return None
        if any(draw is None for draw in draws):
            raise Unliftable("the image combined with feature maps: it has no elements of the group")
        roots = sorted(self._root(draw) for draw in draws if draw is not None)
        for root in roots:
            self.draws[root] = roots[0]
        return roots[0]

    def _root(self, draw: int) -> int:
        while self.draws[draw] != draw:
            draw = self.draws[draw]
        return draw

    def _output(self) -> Value:
        (node,) = (node for node in self.program.graph.nodes if node.op == "output")
        found = [out for out in node.all_input_nodes if out in self.values]
        if len(found) != 1 or len(node.all_input_nodes) != 1:
            raise InputError(
                f"the model returns {len(node.all_input_nodes)} tensors: must be one that depends on the images. Wrap "
                "the model in a module that returns only that one."
            )
        return self.values[found[0]]

    def _reached(self, output: str) -> list[dict[str, Any]]:
        """The steps on which the output depends, in order; the last one is the output."""
        wanted, kept = {output}, []
        for step in reversed(self.steps):
            if step["name"] in wanted:
                kept.append(step)
                wanted.update(step["of"])
        return kept[::-1]

    def _stand_in(self, node: fx.Node) -> Value:
        """A placeholder for an operation that cannot be lifted, so that later operations are examined, too."""
        shape = _whole(node)
        channels, height, width = (*shape[1:], 1, 1, 1)[:3] if len(shape) > 1 else (1, 1, 1)
        return Value(IMAGE, (channels, height, width), None if not self.draws else 0, flat=len(shape) == 2)

    def _path(self, node: fx.Node) -> str:
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        return stack[-1][0] if stack else ""

    def _place(self, node: fx.Node) -> str:
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path, kind = stack[-1] if stack else ("", type(self.model).__name__)
        kind = kind.rpartition(".")[2] if isinstance(kind, str) else kind.__name__
        return f"{path or 'the model'} ({kind})"


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """A context with the model in eval mode.

    `evaluating` cannot be used: it sets full precision, after which torch.export cannot read cuDNN's `allow_tf32`.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


_CONVOLUTIONS = (torch.ops.aten.conv2d.default, torch.ops.aten.conv2d.padding)


def _whole(node: fx.Node) -> tuple[int, ...]:
    found = node.meta.get("val")
    found = found[0] if isinstance(found, tuple | list) else found
    return tuple(int(side) for side in found.shape) if isinstance(found, Tensor) else ()


def _shape(node: fx.Node) -> Any:
    return _whole(node)[1:]


def _one(values: int | Sequence[int], name: str) -> int:
    """The common value of both axes."""
    values = [values] if isinstance(values, int) else list(values)
    if len(set(values)) != 1:
        raise Unliftable(f"{name} {values}, which differs between height and width")
    return int(values[0])
