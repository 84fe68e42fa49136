"""What the networks share: checks of their arguments, and layers that differ in little but their channels."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial as bind
from typing import Any

from partialsym.densities import Density, Sampling, haar, learned
from partialsym.groups import T2, Group, group as group_named
from partialsym.nn.conv import GroupConv
from partialsym.registry import KERNELS

LEARNED_LAYERS = ("all", "last")  # layers whose densities are learned
_GIVEN = ("dim", "out_channels", "in_channels", "hidden")  # by the network itself


class Layers:
    """Makes the group convolutions of a network: one base group, one kind of density, one kind of kernel.

    Args:
        group: name of the base group, as in `partialsym.group`.
        partial: learn densities, or keep the whole group in every layer.
        learned_layers: which densities, those of `all` layers but lifting, or of the `last` layer alone.
        samples: elements of every layer; None for 8, or all of a finite group.
        kernel_size: of all convolutions but the pointwise shortcuts.
        kernel: name of the kernel network; `hidden` its features (half as many in pointwise convolutions);
            `kernel_options` its other arguments.
        sampling: `systematic` or `iid`.
        proportional: in eval mode take ⌈rθ⌉ rotations a component instead of r.
    Raises:
        ValueError: an unknown group, or `learned_layers`.
    """

    def __init__(
        self,
        group: str,
        *,
        partial: bool,
        learned_layers: str,
        samples: int | None,
        kernel_size: int,
        kernel: str,
        hidden: int,
        kernel_options: Mapping[str, Any] | None,
        sampling: Sampling,
        proportional: bool,
    ) -> None:
        if learned_layers not in LEARNED_LAYERS:
            raise ValueError(f"learned_layers is {learned_layers!r}: must be one of {', '.join(LEARNED_LAYERS)}.")
        self.group = h = group_named(group)
        samples = (8 if h.dim else len(h.components)) if samples is None else samples
        self.whole = bind(haar, h, samples, sampling=sampling)
        part = bind(learned, h, samples, sampling=sampling, proportional=proportional)
        self.last = part if partial else self.whole
        self.inner = part if partial and learned_layers == "all" else self.whole
        self.kernel_size, self.hidden = kernel_size, hidden
        self.kernel = bind(KERNELS[kernel], **(kernel_options or {}))

    def lifting(self, in_channels: int, out_channels: int) -> GroupConv:
        """From images onto the whole group."""
        return self._conv(in_channels, out_channels, self.whole(), domain=T2())

    def conv(
        self, in_channels: int, out_channels: int, density: Callable[[], Density] | None = None, **rest: Any
    ) -> GroupConv:
        """On the group, onto the part of it that `density` keeps, by default that of the inner layers."""
        return self._conv(in_channels, out_channels, (density or self.inner)(), **rest)

    def shortcut(self, in_channels: int, out_channels: int) -> GroupConv:
        """Pointwise, onto elements it is given; without bias."""
        return self._conv(in_channels, out_channels, self.group, size=1, bias=False)

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
            kernel=bind(self.kernel, hidden=self.hidden if size > 1 else max(1, self.hidden // 2)),
            **rest,
        )


def check_arguments(
    *, kernel: str, kernel_options: Mapping[str, Any] | None, dropout: float, **at_least_one: int
) -> None:
    """Raise ValueError at the first argument of a network that is out of range."""
    for name, value in at_least_one.items():
        if value < 1:
            raise ValueError(f"{name} is {value}: must be at least 1.")
    if kernel not in KERNELS:
        raise ValueError(f"kernel is {kernel!r}: must be one of {', '.join(KERNELS)}.")
    options = [name for name in inspect.signature(KERNELS[kernel]).parameters if name not in _GIVEN]
    if unknown := [name for name in kernel_options or {} if name not in options]:
        raise ValueError(f"kernel_options names {unknown[0]!r}: {kernel} takes {', '.join(options)}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}: must be in [0, 1).")
