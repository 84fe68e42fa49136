"""The group convolution: one layer that lifts, convolves on the group, mixes pointwise and projects."""

from collections.abc import Callable
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from partialsym.densities import Density
from partialsym.groups import Group
from partialsym.kernels import SIREN, Kernel
from partialsym.signal import Elements, Signal, check_group, check_signal

HAAR_ROTATIONS = 16  # of the quadrature that scales the kernel at construction


class GroupConv(nn.Module):
    """Monte-Carlo group convolution with a continuous kernel (Finzi et al. 2020; Romero & Lohit 2022, section 4):

        (k ⋆ f)(x, h) = Σ_j w_j Σ_y k(h⁻¹(y − x), h⁻¹h_j) f(y, h_j) / Σ_j w_j + b.

    Lifting is domain T(2), a projection is codomain `dirac(T2())`, a pointwise convolution is kernel size 1.

    Args:
        in_channels, out_channels: channels per element.
        domain: the group of the input signal: T(2), or one that includes the codomain's.
        codomain: density the output elements are drawn from; or a group, if `at` always gives them.
        kernel_size: odd; the kernel lives on the disc of that many pixels in diameter.
        kernel: (dim, out_channels, in_channels) → Kernel, such as `functools.partial(SIREN, hidden=8)`.
        padding: `same` (zeros) or `valid`.
        bias: add a bias per channel.
    Raises:
        ValueError: an argument out of range, or a domain that does not include the codomain's group.
    """

    taps: Tensor
    inside: Tensor
    domain_grid: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        domain: Group,
        codomain: Density | Group,
        kernel_size: int,
        kernel: Callable[[int, int, int], Kernel] = SIREN,
        padding: Literal["same", "valid"] = "same",
        bias: bool = True,
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size is {kernel_size}: must be odd and positive, so that the kernel has a centre."
            )
        if padding not in ("same", "valid"):
            raise ValueError(f"padding is {padding!r}: must be 'same' or 'valid'.")
        group = codomain.group if isinstance(codomain, Density) else codomain
        check_group("domain", domain)
        check_group("codomain", group)
        if domain.name != "T2" and not domain.includes(group):
            raise ValueError(f"domain {domain} does not include the codomain's group {group}.")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.domain, self.group, self.padding = domain, group, padding
        self.codomain = codomain if isinstance(codomain, Density) else None
        self.kernel = kernel(2 + domain.embed_dim, out_channels, in_channels)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        taps, inside = disc(kernel_size)
        dtype = torch.get_default_dtype()
        self.register_buffer("taps", taps.to(dtype), persistent=False)
        self.register_buffer("inside", inside, persistent=False)
        self.register_buffer("domain_grid", domain.grid(HAAR_ROTATIONS).to(dtype), persistent=False)
        with torch.no_grad():
            square = self._mean_square(group.grid(HAAR_ROTATIONS).to(dtype))
        self.kernel.rescale(float(square / out_channels) ** -0.5)

    def forward(self, f: Signal, at: Elements | None = None) -> Signal:
        """Convolve.

        Args:
            f: [batch, in_channels, n_in, height, width] on the domain.
            at: output elements given, not drawn.
        Returns:
            [batch, out_channels, n_out, height, width]; `valid` takes kernel_size − 1 off height and width.
        Raises:
            ValueError: f or at is on another group, f has the wrong channels, or is smaller than the kernel
                of a `valid` layer, or there is neither a density nor `at`.
        """
        self._check(f, at)
        out = at if at is not None else self._density().sample()
        weight = self.filters(out, f.elements)
        bias = None if self.bias is None else self.bias.repeat_interleave(len(out))
        values = F.conv2d(f.values.flatten(1, 2), weight, bias, padding=self.padding)  # [batch, (channels n), h, w]
        return Signal(values.unflatten(1, (self.out_channels, len(out))), out)

    def filters(self, out: Elements, into: Elements) -> Tensor:
        """The plain convolution's weight [(out_channels n_out), (in_channels n_in), k, k], means included."""
        with torch.autocast(self.taps.device.type, enabled=False):
            k = self.kernel(self._coordinates(out.matrices, into.matrices))  # [n_out, n_in, taps, out, in]
            mean = into.mean_weights()
            k = k / len(into) if mean is None else k * mean[:, None, None, None]
            weight = rearrange(k, "n_out n_in t o i -> (o n_out) (i n_in) t")
            if len(self.inside) < self.kernel_size**2:
                weight = weight.new_zeros(*weight.shape[:2], self.kernel_size**2).index_copy(2, self.inside, weight)
            return weight.unflatten(2, (self.kernel_size, self.kernel_size))

    def kernel_norm(self) -> Tensor:
        """‖k‖₂ + ‖b‖₂: the regulariser of the paper's appendix, on the codomain's deterministic elements (without a
        density: on its Haar grid).

        ‖k‖₂² sums over channels and disc and is the mean over elements, so that it does not depend on their number;
        it starts at 1 per output channel where the whole codomain is kept. No gradient flows to the density.
        """
        if self.codomain is None:
            matrices = self.group.grid(HAAR_ROTATIONS).to(self.taps)
        else:
            matrices = self.codomain.deterministic().matrices.detach()
        norm = self._mean_square(matrices).sqrt()
        return norm if self.bias is None else norm + self.bias.norm()

    def _mean_square(self, out: Tensor) -> Tensor:
        """Mean over `out` and the Haar grid of the domain of Σ over channels and disc of k²."""
        with torch.autocast(self.taps.device.type, enabled=False):
            z = self._coordinates(out, self.domain_grid)
            return self.kernel.squared_norm(z) / (z.shape[0] * z.shape[1])

    def _coordinates(self, out: Tensor, into: Tensor) -> Tensor:
        """(h⁻¹(y − x), embedded h⁻¹h̃) for every pair of elements and tap: [n_out, n_in, taps, 2 + e]."""
        inverse = self.domain.inverse(out)
        position = self.domain.act(inverse[:, None], self.taps)  # [n_out, taps, 2]
        relative = self.domain.embed(inverse[:, None] @ into)  # [n_out, n_in, e]
        shape = (len(out), len(into), len(self.taps))
        return torch.cat([position[:, None].expand(*shape, -1), relative[:, :, None].expand(*shape, -1)], -1)

    def _density(self) -> Density:
        if self.codomain is None:
            raise ValueError(f"this layer has no density on {self.group}: give its output elements with `at=`.")
        return self.codomain

    def _check(self, f: Signal, at: Elements | None) -> None:
        check_signal(f, self.in_channels)
        if f.group != self.domain:
            raise ValueError(f"the input is a signal on {f.group}, but this layer's domain is {self.domain}.")
        if at is not None and at.group != self.group:
            raise ValueError(f"at holds elements of {at.group}, but this layer's codomain is {self.group}.")
        height, width = f.values.shape[-2:]
        if self.padding == "valid" and min(height, width) < self.kernel_size:
            k = self.kernel_size
            raise ValueError(f"the input of {height}×{width} pixels is smaller than the {k}×{k} kernel.")

    def extra_repr(self) -> str:
        channels = f"{self.in_channels}, {self.out_channels}"
        return f"{channels}, {self.domain} → {self.group}, kernel_size={self.kernel_size}"


def disc(kernel_size: int) -> tuple[Tensor, Tensor]:
    """Pixel offsets (i − (k − 1)/2)/(k/2) inside the unit disc: 1, 9, 21, 37 taps for k = 1, 3, 5, 7.

    Returns:
        taps [t, 2] float64 (x right, y up) and their indices [t] in the flattened k×k grid.
    """
    offset = (torch.arange(kernel_size, dtype=torch.float64) - (kernel_size - 1) / 2) / (kernel_size / 2)
    grid = torch.stack(torch.meshgrid(offset, -offset, indexing="xy"), -1).flatten(0, 1)
    inside = (grid.norm(dim=1) <= 1).nonzero().squeeze(1)
    return grid[inside], inside
