"""The group convolutions of the networks, from shared options, and checks of arguments."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial as bind
from typing import Any, Literal, TypedDict

from partialsym.densities import Density, Sampling, haar, learned
from partialsym.errors import InputError, InputTypeError
from partialsym.groups import T2, Group, group as group_named
from partialsym.nn.conv import GroupConv
from partialsym.nn.separable import SeparableGroupConv
from partialsym.registry import KERNELS

LEARNED_LAYERS = ("all", "last")  # layers whose densities are learned
_GIVEN = ("dim", "out_channels", "in_channels", "hidden", "kernel_size", "bias")  # set by the network itself


class LayerOptions(TypedDict, total=False):
    """Options of the group convolutions that all networks accept; the default values are those of `Layers`.

    Attributes:
        partial: learn densities (default), or keep the whole group in every layer.
        learned_layers: layers whose densities are learned: `all` except lifting (default), or only the `last` one.
        samples: elements of every layer; by default 8, or all of a finite group.
        kernel_size: odd number of pixels of all convolutions, except pointwise ones.
        kernel: name of the kernel network, by default `SIREN`.
        hidden: features of the kernel network; pointwise convolutions have half as many. A `Grid` ignores it.
        kernel_options: other arguments of the kernel network.
        sampling: `systematic` (default) or `iid`.
        proportional: in eval mode, use ⌈rθ⌉ rotations per component instead of r.
    """

    partial: bool
    learned_layers: Literal["all", "last"]
    samples: int | None
    kernel_size: int
    kernel: str
    hidden: int
    kernel_options: Mapping[str, Any] | None
    sampling: Sampling
    proportional: bool


class Layers:
    """Factory for the group convolutions of a network: one base group, one kind of density, one kind of kernel.

    Args:
        group: name of the base group, as in `partialsym.group`.
        others: see `LayerOptions`. The attribute `options` has all of them, defaults included.
    Raises:
        TypeError: group is not a string, or partial not a bool.
        ValueError: an argument is out of range, or the group, the kernel or one of its options is unknown.
    """

    def __init__(
        self,
        group: str,
        *,
        partial: bool = True,
        learned_layers: Literal["all", "last"] = "all",
        samples: int | None = None,
        kernel_size: int = 7,
        kernel: str = "SIREN",
        hidden: int = 32,
        kernel_options: Mapping[str, Any] | None = None,
        sampling: Sampling = "systematic",
        proportional: bool = False,
    ) -> None:
        self.options: LayerOptions = {
            "partial": partial,
            "learned_layers": learned_layers,
            "samples": samples,
            "kernel_size": kernel_size,
            "kernel": kernel,
            "hidden": hidden,
            "kernel_options": kernel_options,
            "sampling": sampling,
            "proportional": proportional,
        }
        check_at_least_one(hidden=hidden)
        _check_kernel(kernel, kernel_options or {})
        if not isinstance(partial, bool):
            raise InputTypeError(f"partial is {partial!r}: must be True or False.")
        if learned_layers not in LEARNED_LAYERS:
            raise InputError(f"learned_layers is {learned_layers!r}: must be one of {', '.join(LEARNED_LAYERS)}.")
        self.group = h = group_named(group)
        samples = (8 if h.dim else len(h.components)) if samples is None else samples
        self.whole = bind(haar, h, samples, sampling=sampling)
        part = bind(learned, h, samples, sampling=sampling, proportional=proportional)
        self.last = part if partial else self.whole
        self.inner = part if partial and learned_layers == "all" else self.whole
        self.kernel_size, self.hidden = kernel_size, hidden
        self.kernel = bind(KERNELS[kernel], **(kernel_options or {}))
        taken = inspect.signature(KERNELS[kernel]).parameters.keys() & {"hidden", "kernel_size"}
        self.kernel_takes = taken or {"hidden"}

    def lifting(self, in_channels: int, out_channels: int, **rest: Any) -> GroupConv:
        """A lifting convolution, from images to the whole group."""
        return self._conv(in_channels, out_channels, self.whole(), domain=T2(), **rest)

    def conv(
        self, in_channels: int, out_channels: int, density: Callable[[], Density] | None = None, **rest: Any
    ) -> GroupConv:
        """A group convolution whose density is made by `density`, by default as for the inner layers."""
        return self._conv(in_channels, out_channels, (density or self.inner)(), **rest)

    def given(self, in_channels: int, out_channels: int, **rest: Any) -> GroupConv:
        """A group convolution without a density; calls must pass `elements`."""
        return self._conv(in_channels, out_channels, self.group, **rest)

    def shortcut(self, in_channels: int, out_channels: int, **rest: Any) -> GroupConv:
        """A pointwise group convolution without bias and without a density; calls must pass `elements`."""
        return self.given(in_channels, out_channels, size=1, bias=False, **rest)

    def separable(self, in_channels: int, out_channels: int, **rest: Any) -> SeparableGroupConv:
        """A separable group convolution without a density; calls must pass `elements`."""
        kernel = bind(self.kernel, hidden=self.hidden)
        return SeparableGroupConv(
            in_channels, out_channels, codomain=self.group, kernel_size=self.kernel_size, kernel=kernel, **rest
        )

    def _conv(
        self,
        in_channels: int,
        out_channels: int,
        codomain: Density | Group,
        *,
        domain: Group | None = None,
        size: int | None = None,
        **rest: Any,
    ) -> GroupConv:
        size = self.kernel_size if size is None else size
        return GroupConv(
            in_channels,
            out_channels,
            domain=self.group if domain is None else domain,
            codomain=codomain,
            kernel_size=size,
            kernel=bind(self.kernel, **self._size(size)),
            **rest,
        )

    def _size(self, size: int) -> dict[str, int]:
        """The arguments `hidden` and `kernel_size` of a kernel with `size` pixels, as far as its class has them."""
        sizes = {"hidden": self.hidden if size > 1 else max(1, self.hidden // 2), "kernel_size": size}
        return {name: sizes[name] for name in sizes if name in self.kernel_takes}


def check_at_least_one(**counts: int) -> None:
    """Raise ValueError if a count is below 1."""
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"{name} is {value}: must be at least 1.")


def check_dropout(dropout: float) -> None:
    if not 0 <= dropout < 1:
        raise InputError(f"dropout is {dropout}: must be in [0, 1).")


def _check_kernel(kernel: str, given: Mapping[str, Any]) -> None:
    if kernel not in KERNELS:
        raise InputError(f"kernel is {kernel!r}: must be one of {', '.join(KERNELS)}.")
    options = [name for name in inspect.signature(KERNELS[kernel]).parameters if name not in _GIVEN]
    if unknown := [name for name in given if name not in options]:
        raise InputError(f"kernel_options has {unknown[0]!r}: the options of {kernel} are {', '.join(options)}.")
