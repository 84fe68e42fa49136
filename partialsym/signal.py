"""What flows between layers: values on R² × H, tied with the elements of H they were sampled on."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from partialsym._utils.torch_func import unwrapped
from partialsym._utils.torch_private import norm_bases, register_node
from partialsym.groups import T2, Group

LARGEST = 1e16  # of a pixel: features are some hundred times that, and their squares must be finite
_NORMS = (*norm_bases(), nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm)


@dataclass(frozen=True, eq=False)
class Elements:
    """n elements of a group, with the weight each has in every mean.

    Attributes:
        group: the group they belong to.
        matrices: [n, 2, 2].
        weights: [n], 0 for an element that was dropped and 1 otherwise; None where nothing can be dropped.
        tied: how many elements after one another were drawn or dropped as one, and so have one weight.
    """

    group: Group
    matrices: Tensor
    weights: Tensor | None = None
    tied: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.matrices, Tensor):  # pytrees rebuild with placeholders
            return
        if self.matrices.shape[1:] != (2, 2) or not len(self.matrices):
            raise ValueError(f"matrices has shape {tuple(self.matrices.shape)}: must be [n, 2, 2] with n ≥ 1.")
        if isinstance(self.weights, Tensor) and self.weights.shape != self.matrices.shape[:1]:
            raise ValueError(f"weights has shape {tuple(self.weights.shape)}: must be [{len(self.matrices)}].")
        if self.tied < 1 or len(self.matrices) % self.tied:
            raise ValueError(f"tied is {self.tied}: must be a divisor of {len(self.matrices)}, the elements.")

    def __len__(self) -> int:
        return len(self.matrices)

    def mean_weights(self) -> Tensor | None:
        """The weights scaled to sum to 1, [n]; None where all are alike."""
        return None if self.weights is None else self.weights / self.weights.sum()

    def transport(self, g: Tensor) -> "Elements":
        """{g·h_i} for g [2, 2]: the elements as a transformed input sees them."""
        return replace(self, matrices=g.to(self.matrices) @ self.matrices)


@dataclass(frozen=True, eq=False)
class Signal:
    """A feature map f : R² × H → R^C, known on pixels and on n elements.

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
            raise ValueError(
                f"values has shape {tuple(self.values.shape)}: must be [batch, channels, n, height, width]; "
                "an image batch becomes a Signal by `Signal.image(images)`."
            )
        if self.values.shape[2] != len(self.elements):
            raise ValueError(f"values hold {self.values.shape[2]} elements, but {len(self.elements)} are given.")

    @classmethod
    def image(cls, images: Tensor) -> "Signal":
        """Images [batch, channels, height, width] as a Signal on T(2), with the one element e."""
        if images.ndim != 4:
            raise ValueError(f"images has shape {tuple(images.shape)}: must be [batch, channels, height, width].")
        if not images.is_floating_point():
            raise ValueError(f"images are {images.dtype}: must be floating-point, normalised.")
        _check_range(images.detach())
        return cls(images.unsqueeze(2), Elements(T2(), torch.eye(2, device=images.device)[None]))

    @property
    def group(self) -> Group:
        return self.elements.group

    def map(self, fn: Callable[[Tensor], Tensor]) -> "Signal":
        """A pointwise function of the values (ReLU, dropout), on the same elements.

        Raises:
            TypeError: fn is a normalisation of torch: statistics over elements must be weighted.
            ValueError: fn changed the shape.
        """
        if isinstance(fn, _NORMS):
            raise TypeError(
                f"{type(fn).__name__} in `map` ignores the weights of the elements: call partialsym's BatchNorm or "
                "InstanceNorm on the Signal."
            )
        values = fn(self.values)
        if values.shape != self.values.shape:
            raise ValueError(
                f"map takes pointwise functions; this one turned {tuple(self.values.shape)} into {tuple(values.shape)}."
            )
        return replace(self, values=values)


def _check_range(images: Tensor) -> None:
    """Raise ValueError at an infinite pixel or one beyond ±LARGEST; NaN passes, and stays in its image.

    Not where looking would hold up a step on a GPU, or break a graph that is being made.
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
        raise ValueError(f"images reach {largest:.3g}: must lie within ±{most:.3g}, normalised.")


def autocasting(tensor: Tensor) -> str:
    """The device type whose autocast a tensor is under: that of its device; for `meta`, which has none, the CPU's."""
    return "cpu" if tensor.is_meta else tensor.device.type


def constant(values: Tensor) -> Tensor:
    """`values` as a layer that is being made holds them: in torch's default dtype, on its default device."""
    return values.to(torch.get_default_dtype()).to(torch.get_default_device())


def check_signal(f: object, channels: int | None = None) -> None:
    """Raise TypeError where f is no Signal, ValueError where it has other channels than a layer takes."""
    if not isinstance(f, Signal):
        raise TypeError(f"the input is a {type(f).__name__}: must be a Signal; images become one by `Signal.image`.")
    if channels is not None and f.values.shape[1] != channels:
        raise ValueError(f"the input has {f.values.shape[1]} channels, but this layer takes {channels}.")


def check_group(name: str, group: object) -> None:
    """Raise TypeError where `group` is no Group."""
    if not isinstance(group, Group):
        raise TypeError(f"{name} is {group!r}: must be a Group, such as partialsym.group('SE2').")


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
