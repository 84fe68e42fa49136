"""Layers that only lifted networks use."""

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
    """A lifted plain convolution: its filter on every element by a LocalConv, then an interaction of the elements,

        f ↦ g + m ⋆ g,    g = LocalConv(f).

    m is a pointwise GroupConv whose kernel, a Grid, starts at 0. At first the elements therefore do not interact, and
    each one computes what the plain network computes for a transformed image.

    Args:
        in_channels, out_channels: channels per element.
        domain: group of the input signal, T(2) for images.
        codomain: density of the output elements; or a group, if the caller always passes `elements`.
        mixing: order of m's Grid; None omits m.
        whole: the filter covers the whole map, like that of a linear layer on flattened maps.
        groups: groups of channels, as in `torch.nn.Conv2d`.
        options: other options of the LocalConv.
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
            ValueError: as in `GroupConv`, or the filter does not cover the whole map although `whole` is True.
        """
        check_signal(f)
        out = self.local(f, elements=elements)
        if self.whole and out.values.shape[-2:] != (1, 1):
            height, width = f.values.shape[-2:]
            side = self.local.windows.extent - sum(self.local.zeros)
            raise InputError(
                f"a linear layer of the network was lifted for maps of {side}×{side} pixels, but this map has "
                f"{height}×{width}: the images must be as large as the example."
            )
        return out if self.mixing is None else out + self.mixing(out, elements=out.elements)


class WindowPool(nn.Module):
    """Pooling of each element's maps as by torch's pools, or with the same number of windows at symmetric positions.

    Args:
        kernel_size, stride, padding: in pixels, the same for both sides.
        mode: `max` or `mean`.
        ceil: include a last window that is not full, like torch's `ceil_mode`.
        count_padding: include the padding in means, like torch's `count_include_pad`.
        symmetric: place windows symmetrically on the image. If that is between pixels, each is one pixel wider.
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
                "0, and the padding at most half the size."
            )
        self.kernel_size, self.stride, self.padding, self.mode = kernel_size, stride, padding, mode
        self.ceil, self.count_padding, self.symmetric = ceil, count_padding, symmetric

    @property
    def windows(self) -> Windows:
        """The positions of the windows."""
        return Windows(self.kernel_size, self.stride, self.padding, self.padding, self.ceil, self.symmetric)

    def forward(self, f: Signal) -> Signal:
        """f [batch, channels, n, h, w] → [batch, channels, n, h', w']."""
        check_signal(f)
        values = pooled(f.values.flatten(1, 2), self.windows, self.mode, self.count_padding)
        return Signal(values.unflatten(1, f.values.shape[1:3]), f.elements)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}, mode={self.mode!r}"


class PadMaps(nn.Module):
    """Pads maps by the same number of pixels on every side.

    Args:
        pixels: number of pixels, at least 0.
        mode: `constant`, `reflect`, `replicate` or `circular`, as in `torch.nn.functional.pad`.
        value: value of the padding for `constant`.
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


POINTWISE: dict[str, Callable[..., Tensor]] = {  # by the names of torch's operators
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
