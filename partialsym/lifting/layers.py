"""Layers that only lifted networks have."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialsym.densities import Density
from partialsym.errors import InputError
from partialsym.groups import Group
from partialsym.kernels import Grid
from partialsym.nn.conv import GroupConv
from partialsym.nn.local import LocalConv
from partialsym.nn.pool import check_mode
from partialsym.nn.windows import Windows, pooled
from partialsym.signal import Elements, Signal, check_signal


class LiftedConv(nn.Module):
    """A plain convolution on the group: the same filter on every element, then a mixing of elements:

        f ↦ g + m ⋆ g, with g the LocalConv of f and m ⋆ g a pointwise GroupConv of g.

    The kernel m is a `Grid` that is 0 at the start. Initially, the values on h are therefore those of the plain network
    for the image moved by h⁻¹.

    Args:
        in_channels, out_channels, groups: as for `GroupConv`.
        domain: group of the input signal, T(2) for images.
        codomain: density of the output elements; or a group, if every call passes `elements`.
        mixing: order of m; None for no mixing.
        whole: the filter covers the whole map, as for a linear layer on flattened maps.
        options: other arguments of `LocalConv`.
    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        domain: Group,
        codomain: Density | Group,
        mixing: int | None = 1,
        whole: bool = False,
        groups: int = 1,
        **options: Any,
    ) -> None:
        super().__init__()
        self.whole = whole
        self.local = LocalConv(in_channels, out_channels, domain=domain, codomain=codomain, groups=groups, **options)
        self.mixing: GroupConv | None = None
        if mixing is not None:
            kernel = partial(Grid, kernel_size=1, order=mixing)
            h = self.local.group
            self.mixing = GroupConv(
                out_channels, out_channels, codomain=h, kernel_size=1, kernel=kernel, groups=groups, bias=False
            )
            nn.init.zeros_(self.mixing.kernel.linear.weight)

    def forward(self, f: Signal, elements: Elements | None = None) -> Signal:
        """f [batch, in_channels, n, h, w] → [batch, out_channels, n_out, h', w'].

        Raises:
            ValueError: as in `GroupConv`; or the filter must cover the whole map (`whole`) and does not.
        """
        check_signal(f)
        out = self.local(f, elements=elements)
        if self.whole and out.values.shape[-2:] != (1, 1):
            height, width = f.values.shape[-2:]
            side = self.local.windows.extent - sum(self.local.zeros)
            raise InputError(
                f"a linear layer was lifted for maps of {side}×{side} pixels, but its input has {height}×{width}: the "
                "images must be as large as the example of `lift`."
            )
        return out if self.mixing is None else out + self.mixing(out, elements=out.elements)


class WindowPool(nn.Module):
    """Spatial pooling in the windows of torch's pools, or in as many windows that lie symmetrically on the image.

    Args:
        kernel_size, stride, padding: in pixels, for both axes.
        mode: `max` or `mean`.
        ceil: count a last window that is not full, as torch's `ceil_mode` does.
        count_padding: a mean counts the padding, as with torch's `count_include_pad`.
        symmetric: shift the windows so that they lie symmetrically. Windows between pixels are one pixel wider.
    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        kernel_size: int,
        stride: int,
        padding: int = 0,
        *,
        mode: str = "max",
        ceil: bool = False,
        count_padding: bool = True,
        symmetric: bool = True,
    ) -> None:
        super().__init__()
        check_mode(mode)
        if kernel_size < 1 or stride < 1 or not 0 <= 2 * padding <= kernel_size:
            raise InputError(
                f"kernel_size, stride and padding are {kernel_size}, {stride} and {padding}: must be at least 1, 1 and "
                "0, and the padding at most half of kernel_size."
            )
        self.kernel_size, self.stride, self.padding, self.mode = kernel_size, stride, padding, mode
        self.ceil, self.count_padding, self.symmetric = ceil, count_padding, symmetric

    @property
    def windows(self) -> Windows:
        """The windows of the input."""
        return Windows(self.kernel_size, self.stride, self.padding, self.padding, self.ceil, self.symmetric)

    def forward(self, f: Signal) -> Signal:
        """f [batch, channels, n, h, w] → [batch, channels, n, h', w']."""
        check_signal(f)
        values = pooled(f.values.flatten(1, 2), self.windows, self.mode, self.count_padding)
        return Signal(values.unflatten(1, f.values.shape[1:3]), f.elements)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}, mode={self.mode!r}"


class PadMaps(nn.Module):
    """Padding of maps by the same number of pixels on every side.

    Args:
        pixels: at least 0.
        mode: `constant`, `reflect`, `replicate` or `circular`.
        value: value of the padding if mode is `constant`.
    Raises:
        ValueError: pixels is negative.
    """

    def __init__(self, pixels: int, mode: str = "constant", value: float = 0.0) -> None:
        super().__init__()
        if pixels < 0:
            raise InputError(f"pixels is {pixels}: must be at least 0.")
        self.pixels, self.mode, self.value = pixels, mode, value

    def forward(self, f: Signal) -> Signal:
        """f [batch, channels, n, h, w] → [batch, channels, n, h + 2·pixels, w + 2·pixels]."""
        check_signal(f)
        value = self.value if self.mode == "constant" else None
        padded: Tensor = F.pad(f.values.flatten(1, 2), [self.pixels] * 4, self.mode, value)
        return Signal(padded.unflatten(1, f.values.shape[1:3]), f.elements)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    return F.gelu(x, approximate=approximate)


POINTWISE: dict[
    str, Callable[..., Tensor]
] = {  # torch's name of the operator → function, with its numbers as arguments
    "relu": torch.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "gelu": gelu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardtanh": F.hardtanh,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "mish": F.mish,
    "softplus": F.softplus,
}
