"""What a lifted network is made of beside the layers that every network has."""

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
    """A plain convolution on the group: its filter on every element, then all that elements have to say to each other:

        f ↦ g + m ⋆ g,    g = the LocalConv of f.

    m is a pointwise GroupConv whose Grid is 0 at the start, so that at first every element goes its own way and sees
    what the plain network sees of the image moved there.

    Args:
        domain: the group of the input signal, T(2) for images.
        codomain: density of the output elements; or a group, if `elements` always gives them.
        mixing: order of m's Grid; None for none.
        whole: the filter covers the whole map, as that of a linear layer of flattened maps does.
        options: of the LocalConv.
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
            ValueError: as in `GroupConv`; the filter is to cover the whole map, and does not.
        """
        check_signal(f)
        out = self.local(f, elements=elements)
        if self.whole and out.values.shape[-2:] != (1, 1):
            height, width = f.values.shape[-2:]
            side = self.local.windows.extent - sum(self.local.zeros)
            raise InputError(
                f"a linear layer of the network was lifted for maps of {side}×{side} pixels, and was given "
                f"{height}×{width}: the images must be as large as the example was."
            )
        return out if self.mixing is None else out + self.mixing(out, elements=out.elements)


class WindowPool(nn.Module):
    """Windows of every element pooled as torch's pools do; or moved so that they lie symmetrically, as many of them.

    Args:
        kernel_size, stride, padding: of both sides, in pixels.
        mode: `max` or `mean`.
        ceil: a last window that is not full counts, too.
        count_padding: a mean counts the padding.
        symmetric: windows lie symmetrically on the image, each one pixel wider where that is between pixels.
    Raises:
        ValueError: an argument out of range.
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
        """Where they lie."""
        return Windows(self.kernel_size, self.stride, self.padding, self.padding, self.ceil, self.symmetric)

    def forward(self, f: Signal) -> Signal:
        """f [batch, channels, n, h, w] → [batch, channels, n, h', w']."""
        check_signal(f)
        values = pooled(f.values.flatten(1, 2), self.windows, self.mode, self.count_padding)
        return Signal(values.unflatten(1, f.values.shape[1:3]), f.elements)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}, mode={self.mode!r}"


class PadMaps(nn.Module):
    """Maps with so many more pixels on every side.

    Args:
        pixels: at least 0.
        mode: `constant`, `reflect`, `replicate` or `circular`.
        value: of the constant.
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


POINTWISE: dict[str, Callable[..., Tensor]] = {  # by torch's names of the operators; with their numbers as arguments
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
