"""The feature map between layers: values on R² × H, together with the elements of H where they were sampled."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Never

import torch
from torch import Tensor, nn

from partialsym._utils.torch_func import unwrapped
from partialsym._utils.torch_private import in_forward_mode, norm_bases, register_node
from partialsym.errors import InputError, InputTypeError
from partialsym.groups import T2, Group

LARGEST = 1e16  # of a pixel: features can be hundreds of times larger, and their squares must be finite
_NORMS = (*norm_bases(), nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm)
_INSTEAD = {  # what replaces a function of torch, found by a part of its name
    "cat": "partialsym.cat",
    "norm": "partialsym.BatchNorm or InstanceNorm",
    "dropout": "partialsym.Dropout",
    "pool": "partialsym.SpatialPool, AdaptivePool or GlobalPool",
    "conv": "partialsym.GroupConv, or partialsym.project before a layer of torch",
    "interpolate": "partialsym.Upsample",
    "upsample": "partialsym.Upsample",
    "relu": "partialsym.ReLU",
    "flatten": "partialsym.GlobalPool",
    "loss": "partialsym.GlobalPool or project before the loss",
    "entropy": "partialsym.GlobalPool or project before the loss",
    "linear": "partialsym.GlobalPool before the linear layer, or a GroupConv with kernel_size=1",
}


class _Shares(torch.autograd.Function):
    """p = w/Σw for weights w [n]. A gradient g becomes (g − ⟨g, p⟩)/Σw."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weights: Tensor) -> Tensor:
        return weights / weights.sum()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        weights, shares = ctx.saved_tensors
        return (grad - torch.dot(grad, shares)) / weights.sum()


@dataclass(frozen=True, eq=False)
class Elements:
    """n elements of a group, with their weights in every mean over the elements.

    Attributes:
        group: the group they belong to.
        matrices: [n, 2, 2].
        weights: [n], 0 for an element that was dropped and 1 otherwise; None if no element can be dropped.
        tied: number of consecutive elements that are drawn or dropped together and therefore share one weight.
        precomputed: what a network has computed for its layers, within its forward pass: see
            `partialsym.nn.precompute`.
    """

    group: Group
    matrices: Tensor
    weights: Tensor | None = None
    tied: int = 1
    precomputed: Mapping[Any, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.matrices, Tensor):  # pytrees rebuild with placeholders
            return
        if self.matrices.shape[1:] != (2, 2) or not len(self.matrices):
            raise InputError(f"matrices has shape {tuple(self.matrices.shape)}: must be [n, 2, 2] with n ≥ 1.")
        if isinstance(self.weights, Tensor) and self.weights.shape != self.matrices.shape[:1]:
            raise InputError(f"weights has shape {tuple(self.weights.shape)}: must be [{len(self.matrices)}].")
        if self.tied < 1 or len(self.matrices) % self.tied:
            raise InputError(f"tied is {self.tied}: must be a divisor of {len(self.matrices)}, the elements.")

    def __len__(self) -> int:
        return len(self.matrices)

    def mean_weights(self) -> Tensor | None:
        """The weights divided by their sum, [n]; None if all weights are equal."""
        if self.weights is None:
            return None
        if not torch.compiler.is_compiling() and in_forward_mode():  # dynamo compiles no function with a tangent
            return self.weights / self.weights.sum()
        return _Shares.apply(self.weights)

    def transport(self, g: Tensor) -> "Elements":
        """The elements {g·h_i} for g [2, 2], which correspond to an input transformed by g."""
        return replace(self, matrices=g.to(self.matrices) @ self.matrices, precomputed=None)

    def same_draw(self, other: "Elements") -> bool:
        """Whether both hold the tensors of the same draw. On T(2), whose only element is e, this is always true.

        Equal values are not enough: two layers whose elements happen to be equal will draw different ones later.
        Comparing values would also synchronise with the GPU.
        """
        if self.group != other.group:
            return False
        if self.group.name == "T2":
            return self.weights is other.weights and len(self) == len(other)
        return self.matrices is other.matrices and self.weights is other.weights


@dataclass(frozen=True, eq=False)
class Signal:
    """A feature map f : R² × H → R^C, sampled on pixels and on n elements.

    Signals on the same draw of elements can be added, subtracted, multiplied and divided pointwise, as in `f + g`, and
    concatenated by `cat`. One operand may be a number or a tensor with one entry, as in `0.5 * f`.

    Attributes:
        values: [batch, channels, n, height, width].
        elements: the n elements.
    """

    values: Tensor
    elements: Elements

    def __post_init__(self) -> None:
        if not isinstance(self.values, Tensor):
            return
        if self.values.ndim != 5:
            raise InputError(
                f"values has shape {tuple(self.values.shape)}: must be [batch, channels, n, height, width]; "
                "an image batch becomes a Signal by `Signal.image(images)`."
            )
        if self.values.shape[2] != len(self.elements):
            raise InputError(f"values have {self.values.shape[2]} elements, but elements has {len(self.elements)}.")

    @classmethod
    def image(cls, images: Tensor) -> "Signal":
        """Convert images [batch, channels, height, width] to a Signal on T(2), whose only element is e."""
        if images.ndim != 4:
            raise InputError(f"images has shape {tuple(images.shape)}: must be [batch, channels, height, width].")
        if not images.is_floating_point():
            raise InputError(f"images are {images.dtype}: must be floating-point, normalised.")
        _check_range(images.detach())
        return cls(images.unsqueeze(2), Elements(T2(), torch.eye(2, device=images.device)[None]))

    @property
    def group(self) -> Group:
        return self.elements.group

    def map(self, fn: Callable[[Tensor], Tensor]) -> "Signal":
        """Apply a pointwise function, such as ReLU or dropout, to the values. The elements stay the same.

        Raises:
            TypeError: fn is a normalisation of torch, which ignores the weights of the elements.
            ValueError: fn changed the shape.
        """
        check_pointwise(fn)
        values = fn(self.values)
        if values.shape != self.values.shape:
            raise InputError(
                f"map takes pointwise functions; this one turned {tuple(self.values.shape)} into {tuple(values.shape)}."
            )
        return replace(self, values=values)

    def __add__(self, other: "Signal | float | Tensor") -> "Signal":
        return self._combined(torch.add, other)

    def __sub__(self, other: "Signal | float | Tensor") -> "Signal":
        return self._combined(torch.sub, other)

    def __mul__(self, other: "Signal | float | Tensor") -> "Signal":
        return self._combined(torch.mul, other)

    def __truediv__(self, other: "Signal | float | Tensor") -> "Signal":
        return self._combined(torch.div, other)

    def __radd__(self, other: float | Tensor) -> "Signal":
        return self + other

    def __rsub__(self, other: float | Tensor) -> "Signal":
        return -self + other

    def __rmul__(self, other: float | Tensor) -> "Signal":
        return self * other

    def __neg__(self) -> "Signal":
        return replace(self, values=-self.values)

    def _combined(self, fn: Callable[[Tensor, Any], Tensor], other: object) -> "Signal":
        """Apply fn pointwise to the values of both operands.

        Raises:
            TypeError: other is not a signal, a number or a tensor with one entry.
            ValueError: other is a signal on another draw or of another shape.
        """
        if isinstance(other, Signal):
            check_same_draw([self, other])
            if self.values.shape != other.values.shape:
                raise InputError(
                    f"the signals have shapes {tuple(self.values.shape)} and {tuple(other.values.shape)}: must be "
                    "equal. A GroupConv with kernel_size=1 changes the channels, Upsample and SpatialPool the size."
                )
            return replace(self, values=fn(self.values, other.values))
        if isinstance(other, Tensor) and other.numel() != 1:
            raise InputTypeError(
                f"a Signal is combined with a tensor of shape {tuple(other.shape)}: must be a Signal, or one number. "
                "Use `Signal.map` for other tensors."
            )
        if not isinstance(other, int | float | Tensor):
            raise InputTypeError(f"a Signal is combined with {other!r}: must be a Signal, or one number.")
        return self.map(lambda values: fn(values, other.reshape(()) if isinstance(other, Tensor) else other))

    @classmethod
    def __torch_function__(cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Never:
        """Raise TypeError, because functions of torch ignore the elements."""
        name = getattr(func, "__name__", str(func)).strip("_")
        instead = next((way for part, way in _INSTEAD.items() if part in name), "partialsym.Activation")
        raise InputTypeError(
            f"torch's {name} takes tensors, but was given a Signal: use {instead}, or, for a pointwise function, "
            "`Signal.map`."
        )

    def __getattr__(self, name: str) -> Never:
        if hasattr(Tensor, name) and not name.startswith("_"):
            raise AttributeError(
                f"a Signal is not a tensor and has no `{name}`: if a layer of torch received a Signal, use that of "
                "partialsym instead (BatchNorm, InstanceNorm, GlobalPool, …), or pass `Signal.values`."
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def cat(signals: Sequence[Signal]) -> Signal:
    """Concatenate signals on the same draw along the channels: [batch, ΣC, n, height, width].

    Raises:
        TypeError: an entry is not a Signal.
        ValueError: there are no signals, their draws differ, or their batch, height or width differ.

    >>> f = Signal.image(torch.zeros(1, 3, 8, 8))
    >>> cat([f, f]).values.shape
    torch.Size([1, 6, 1, 8, 8])
    """
    signals = list(signals)
    if not signals:
        raise InputError("cat received no signals: must be at least one.")
    for f in signals:
        check_signal(f)
    check_same_draw(signals)
    first, *rest = (tuple(f.values.shape) for f in signals)
    for other in rest:
        if (first[0], *first[2:]) != (other[0], *other[2:]):
            raise InputError(
                f"the signals have shapes {first} and {other}: must be equal except for the channels. Upsample "
                "accepts a size: `up(f, size=g.values.shape[-2:])`."
            )
    return replace(signals[0], values=torch.cat([f.values for f in signals], 1))


def check_same_draw(signals: Sequence[Signal]) -> None:
    """Raise ValueError if the signals do not all lie on the same draw of elements."""
    first = signals[0].elements
    for f in signals[1:]:
        if first.group != f.group:
            raise InputError(
                f"one signal is on {first.group}, another on {f.group}: map one of them to the elements of the "
                "other with a GroupConv."
            )
        if not first.same_draw(f.elements):
            raise InputError(
                f"the signals lie on different elements of {f.group}: each GroupConv draws its own. Let one layer "
                "draw, and pass its elements to the other: `b = conv_b(f, elements=a.elements)`."
            )


def transported(draws: Iterable[Elements], move: Callable[[Elements], Elements]) -> list[Elements]:
    """Apply `move` to each of `draws`. Entries that share a draw still share one afterwards."""
    known: dict[tuple[int, int], Elements] = {}
    held = list(draws)  # keeps the objects alive, so that no id is used twice
    return [known.setdefault((id(e.matrices), id(e.weights)), move(e)) for e in held]


def _check_range(images: Tensor) -> None:
    """Raise ValueError if a pixel is infinite or beyond ±LARGEST. NaN is allowed; it affects only its own image.

    The check is skipped where it would synchronise a training step with the GPU or break a graph during capture.
    """
    if torch.compiler.is_compiling():
        return
    images = unwrapped(images)
    if images.is_meta:
        return
    if images.is_cuda and (torch.is_grad_enabled() or torch.cuda.is_current_stream_capturing()):
        return
    most = min(LARGEST, torch.finfo(images.dtype).max)
    if bool((images.abs() > most).any()):
        largest = float(images.nan_to_num(0, torch.inf, -torch.inf).abs().max())
        raise InputError(f"images reach {largest:.3g}: must lie within ±{most:.3g}, normalised.")


def autocasting(tensor: Tensor) -> str:
    """The device type whose autocast applies to the tensor. `meta` has no autocast, so it uses the CPU's."""
    return "cpu" if tensor.is_meta else tensor.device.type


def constant(values: Tensor) -> Tensor:
    """Convert `values` to torch's default dtype and device, as a new layer stores them."""
    return values.to(torch.get_default_dtype()).to(torch.get_default_device())


def check_pointwise(fn: object) -> None:
    """Raise TypeError if fn is a normalisation of torch."""
    if isinstance(fn, _NORMS):
        raise InputTypeError(
            f"{type(fn).__name__} in `map` ignores the weights of the elements: call partialsym's BatchNorm or "
            "InstanceNorm on the Signal."
        )


def as_signal(f: object, group: Group, channels: int | None = None) -> Signal:
    """The input of a layer, checked by `check_signal`. If the layer's domain is T(2), plain images become a Signal."""
    if isinstance(f, Tensor) and group.name != "T2":
        raise InputTypeError(
            f"the input is a Tensor: must be a Signal on {group}. The layer that takes the images has "
            "domain=partialsym.T2()."
        )
    f = Signal.image(f) if isinstance(f, Tensor) else f
    check_signal(f, channels)
    assert isinstance(f, Signal)
    return f


def check_signal(f: object, channels: int | None = None) -> None:
    """Raise TypeError if f is not a Signal, and ValueError if its number of channels does not fit the layer."""
    if not isinstance(f, Signal):
        raise InputTypeError(
            f"the input is a {type(f).__name__}: must be a Signal; images become one by `Signal.image`."
        )
    if channels is not None and f.values.shape[1] != channels:
        raise InputError(f"the input has {f.values.shape[1]} channels, but this layer expects {channels}.")


def check_elements(elements: object, group: Group) -> None:
    """Raise TypeError if `elements` are not Elements, and ValueError if they are of another group. None passes."""
    if elements is None:
        return
    if not isinstance(elements, Elements):
        raise InputTypeError(f"elements is a {type(elements).__name__}: must be Elements, such as `f.elements`.")
    if elements.group != group:
        raise InputError(f"elements are of {elements.group}, but this layer's codomain is {group}.")


def check_group(name: str, group: object) -> None:
    """Raise TypeError if `group` is not a Group."""
    if not isinstance(group, Group):
        raise InputTypeError(f"{name} is {group!r}: must be a Group, such as partialsym.group('SE2').")


register_node(
    Elements,
    (
        lambda e: ([e.matrices, e.weights], (e.group, e.tied)),
        lambda children, rest: replace(Elements(rest[0], *children), tied=rest[1]),
    ),
    "partialsym.Elements",
)
register_node(
    Signal,
    (lambda s: ([s.values, s.elements], None), lambda children, _: Signal(*children)),
    "partialsym.Signal",
)
