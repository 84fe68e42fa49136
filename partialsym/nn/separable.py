"""The separable group convolution: first pointwise over channels and H, then depthwise in space."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialsym.densities import Density
from partialsym.groups import Group
from partialsym.kernels import SIREN, Kernel
from partialsym.nn.conv import HAAR_ROTATIONS, GroupConv, check_kernel, check_size, check_window, disc, shown_options
from partialsym.nn.grid import PaddingMode, sampled
from partialsym.signal import Elements, Signal, autocasting, check_signal, constant


class SeparableGroupConv(nn.Module):
    """A group convolution whose kernel is a product, k(x, h) = s(x)·k_H(h) (Knigge, Romero & Bekkers 2022):

        f ↦ Σ_y s_c(h⁻¹(y − x)) Σ_j w_j Σ_i k_{c,i}(h⁻¹h_j) f_i(y, h_j) / Σ_j w_j + b_c.

    From n to m elements, a pixel costs in·out·n·m + out·m·k² multiplications instead of a GroupConv's in·out·n·m·k².
    Equivariance, draws and strides are those of GroupConv.

    Args:
        kernel: (dim, out_channels, in_channels) → Kernel, used for both factors. k_H is (2 + e, out, in), with e the
            size of an embedded element, and is evaluated at position 0; s is (2, out, 1).
        others: as for `GroupConv`; stride, dilation and padding apply to s.
    Raises:
        ValueError: as in GroupConv.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        domain: Group | None = None,
        codomain: Density | Group,
        kernel_size: int,
        kernel: Callable[[int, int, int], Kernel] = SIREN,
        padding: Literal["same", "valid"] = "same",
        stride: int = 1,
        dilation: int = 1,
        padding_mode: PaddingMode = "zeros",
        bias: bool = True,
        path: Literal["auto", "dense", "factored"] = "auto",
    ) -> None:
        super().__init__()
        self.pointwise = GroupConv(
            in_channels,
            out_channels,
            domain=domain,
            codomain=codomain,
            kernel_size=1,
            kernel=kernel,
            bias=False,
            path=path,
        )
        self.spatial = SpatialConv(
            out_channels,
            group=self.pointwise.group,
            kernel_size=kernel_size,
            kernel=kernel,
            padding=padding,
            stride=stride,
            dilation=dilation,
            padding_mode=padding_mode,
            bias=bias,
        )

    def forward(self, f: Signal | Tensor, elements: Elements | None = None) -> Signal:
        """f [batch, in_channels, n_in, h, w] → [batch, out_channels, n_out, ⌈h / stride⌉, ⌈w / stride⌉].

        Arguments and errors are those of `GroupConv`.
        """
        return self.spatial(self.pointwise(f, elements=elements))


class SpatialConv(nn.Module):
    """A depthwise convolution in space on every element, with the kernel moved by the element:

        f_c(x, h) ↦ Σ_y s_c(h⁻¹(y − x)) f_c(y, h) + b_c.

    Args:
        channels: channels of the signal.
        group: group of its elements.
        others: as for `GroupConv`.
    Raises:
        ValueError: as in GroupConv.
    """

    taps: Tensor
    inside: Tensor
    group_grid: Tensor

    def __init__(
        self,
        channels: int,
        *,
        group: Group,
        kernel_size: int,
        kernel: Callable[[int, int, int], Kernel],
        padding: str,
        stride: int,
        dilation: int,
        padding_mode: PaddingMode,
        bias: bool,
    ) -> None:
        super().__init__()
        check_window(kernel_size, padding, padding_mode, stride=stride, dilation=dilation)
        check_kernel(kernel)
        self.channels, self.group, self.kernel_size, self.padding = channels, group, kernel_size, padding
        self.stride, self.dilation, self.padding_mode = stride, dilation, padding_mode
        self.kernel = kernel(2, channels, 1)
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        taps, mask = disc(kernel_size)
        self.register_buffer("taps", constant(taps), persistent=False)
        inside = mask.flatten().nonzero().squeeze(1)
        self.register_buffer("inside", inside.to(self.taps.device), persistent=False)
        self.register_buffer("group_grid", constant(group.grid(HAAR_ROTATIONS)), persistent=False)
        with torch.no_grad():
            square = self._mean_square()
        if not square.is_meta:
            self.kernel.rescale(float(square / channels) ** -0.5)

    @property
    def reach(self) -> int:
        """Pixels that the kernel reaches beyond its centre."""
        return self.dilation * (self.kernel_size // 2)

    def forward(self, f: Signal) -> Signal:
        """f [batch, channels, n, h, w] → [batch, channels, n, ⌈h / stride⌉, ⌈w / stride⌉] on the same elements.

        Raises:
            ValueError: as in `GroupConv`.
        """
        check_signal(f, self.channels)
        check_size(self, f)
        read, padding = sampled(
            f.values.flatten(1, 2), self.reach, self.stride, self.padding == "same", self.padding_mode
        )
        weight = self.filters(f.elements).to(read.dtype)
        bias = None if self.bias is None else self.bias.repeat_interleave(len(f.elements)).to(read.dtype)
        with torch.autocast(autocasting(read), enabled=False):
            values = F.conv2d(read, weight, bias, self.stride, padding, self.dilation, len(weight))
        return Signal(values.unflatten(1, f.values.shape[1:3]), f.elements)

    def filters(self, elements: Elements) -> Tensor:
        """The weight of the equivalent plain depthwise convolution, [(channels n), 1, k, k].

        It is never computed in reduced precision.
        """
        with torch.autocast(autocasting(self.taps), enabled=False):
            values = self.kernel(self._coordinates(elements.matrices)).squeeze(3)  # [n, taps, channels]
            values = values.permute(2, 0, 1).flatten(0, 1)
            if len(self.taps) < self.kernel_size**2:
                values = values.new_zeros(len(values), self.kernel_size**2).index_copy(1, self.inside, values)
            return values.view(-1, 1, self.kernel_size, self.kernel_size)

    def kernel_norm(self) -> Tensor:
        """‖s‖₂ + ‖b‖₂, with ‖s‖₂² averaged over a Haar grid, as in `GroupConv.kernel_norm`."""
        norm = self._mean_square().sqrt()
        return norm if self.bias is None else norm + self.bias.norm()

    def _mean_square(self) -> Tensor:
        """Σ s² over channels and disc, averaged over the Haar grid."""
        with torch.autocast(autocasting(self.taps), enabled=False):
            return self.kernel.squared_norm(self._coordinates(self.group_grid)) / len(self.group_grid)

    def _coordinates(self, matrices: Tensor) -> Tensor:
        """h⁻¹(y − x) for every element and tap: [n, taps, 2]."""
        return self.taps @ self.group.inverse(matrices.to(self.taps.dtype)).mT

    def extra_repr(self) -> str:
        return f"{self.channels}, {self.group}, kernel_size={self.kernel_size}{shown_options(self)}"
