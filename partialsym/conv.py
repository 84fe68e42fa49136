"""The group convolution: one layer that lifts, convolves on the group, mixes pointwise and projects."""

from collections.abc import Callable
from typing import Literal, Never

import torch
from einops import einsum
from torch import Tensor, nn

from partialsym.densities import Density
from partialsym.groups import Group
from partialsym.kernels import SIREN, Kernel
from partialsym.ops import PATHS, FactoredKernel, convolve
from partialsym.signal import Elements, Signal, autocasting, check_group, check_signal, constant

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
        path: `dense` forms the whole kernel, `factored` convolves with its features and mixes channels afterwards,
            `spectral` multiplies in the frequency domain; `auto` takes the fastest for the shapes at hand. The function
            is the same.
    Raises:
        ValueError: an argument out of range, or a domain that does not include the codomain's group.
    """

    taps: Tensor
    disc: Tensor
    inside: Tensor
    domain_grid: Tensor
    group_grid: Tensor | None  # where no density says which elements the output is on

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
        path: Literal["auto", "dense", "factored", "spectral"] = "auto",
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size is {kernel_size}: must be odd and positive, so that the kernel has a centre."
            )
        if padding not in ("same", "valid"):
            raise ValueError(f"padding is {padding!r}: must be 'same' or 'valid'.")
        if path not in PATHS:
            raise ValueError(f"path is {path!r}: must be one of {', '.join(PATHS)}.")
        group = codomain.group if isinstance(codomain, Density) else codomain
        check_group("domain", domain)
        check_group("codomain", group)
        if domain.name != "T2" and not domain.includes(group):
            raise ValueError(f"domain {domain} does not include the codomain's group {group}.")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.domain, self.group, self.padding, self.path = domain, group, padding, path
        self.codomain = codomain if isinstance(codomain, Density) else None
        self.kernel = kernel(2 + domain.embed_dim, out_channels, in_channels)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        taps, mask = disc(kernel_size)
        inside = mask.flatten().nonzero().squeeze(1)
        grid = constant(group.grid(HAAR_ROTATIONS))
        self.register_buffer("taps", constant(taps), persistent=False)
        self.register_buffer("disc", constant(mask), persistent=False)
        self.register_buffer("inside", inside.to(self.taps.device), persistent=False)
        self.register_buffer("domain_grid", constant(domain.grid(HAAR_ROTATIONS)), persistent=False)
        self.register_buffer("group_grid", grid if self.codomain is None else None, persistent=False)
        with torch.no_grad():
            square = self._mean_square(grid)
        if not square.is_meta:  # where there are no numbers
            self.kernel.rescale(float(square / out_channels) ** -0.5)

    def forward(self, f: Signal, at: Elements | None = None) -> Signal:
        """Convolve.

        Args:
            f: [batch, in_channels, n_in, height, width] on the domain.
            at: output elements given, not drawn.
        Returns:
            [batch, out_channels, n_out, height, width]; `valid` takes kernel_size − 1 off height and width.
        Raises:
            ValueError: f or at is on another group, f has the wrong channels or (but for autocast) another dtype than
                the layer, or is smaller than the kernel of a `valid` layer, or there is neither a density nor `at`.
        """
        self._check(f, at)
        values = self._computed_in(f.values)
        out = at if at is not None else self._density().sample()
        padding = self.kernel_size // 2 if self.padding == "same" else 0
        kernel = self.factored_kernel(out, f.elements)
        return Signal(convolve(values, kernel, self.bias, padding, self.path), out)

    def filters(self, out: Elements, into: Elements) -> Tensor:
        """The plain convolution's weight [(out_channels n_out), (in_channels n_in), k, k], means included."""
        k = self.factored_kernel(out, into)
        with torch.autocast(autocasting(self.taps), enabled=False):
            kernel = einsum(k.weight, k.phi, "o i f, m f n y x -> o m i n y x")
            bias = einsum(k.bias, k.mean, k.disc, "o i, n, y x -> o i n y x")
            return (kernel + bias[:, None]).flatten(2, 3).flatten(0, 1)

    def factored_kernel(self, out: Elements, into: Elements) -> FactoredKernel:
        """The kernel on two sets of elements as a sum of features, means included; never in reduced precision."""
        with torch.autocast(autocasting(self.taps), enabled=False):
            phi = self.kernel.features(self._coordinates(out.matrices, into.matrices))  # [n_out, n_in, taps, features]
            weight, bias = (part.unflatten(0, (self.out_channels, self.in_channels)) for part in self.kernel.last(phi))
            mean = into.mean_weights()
            if mean is None:
                mean = phi.new_full((len(into),), 1 / len(into))
            mean = mean.to(phi.dtype)
            phi = (phi * mean[:, None, None]).permute(0, 3, 1, 2)
            if phi.shape[3] < self.disc.numel():
                phi = phi.new_zeros(*phi.shape[:3], self.disc.numel()).index_copy(3, self.inside, phi)
            phi = phi.unflatten(3, self.disc.shape)
        return FactoredKernel(weight, bias, phi, mean, self.disc)

    def _computed_in(self, values: Tensor) -> Tensor:
        """`values` in the precision to convolve in: autocast's, or that of the layer."""
        device, own = autocasting(values), self.taps.dtype
        if torch.is_autocast_enabled(device) and torch.float64 not in (values.dtype, own):
            low = torch.get_autocast_dtype(device)
            if own not in (torch.float32, low):
                raise ValueError(f"this layer is {own}, under autocast to {low}: convert it to that, or to float32.")
            return values.to(low)
        if values.dtype != own:
            raise ValueError(f"the input is {values.dtype}, but this layer is {own}: convert one of them.")
        return values

    def __prepare_scriptable__(self) -> Never:
        raise NotImplementedError(
            "torch.jit.script does not know a group convolution: freeze the model, partialsym.freeze, and trace that."
        )

    def kernel_norm(self) -> Tensor:
        """‖k‖₂ + ‖b‖₂: the regulariser of the paper's appendix, on the codomain's deterministic elements (without a
        density: on its Haar grid).

        ‖k‖₂² sums over channels and disc and is the mean over elements, so that it does not depend on their number;
        it starts at 1 per output channel where the whole codomain is kept. No gradient flows to the density.
        """
        matrices = self.group_grid if self.codomain is None else self.codomain.deterministic().matrices.detach()
        assert matrices is not None
        norm = self._mean_square(matrices).sqrt()
        return norm if self.bias is None else norm + self.bias.norm()

    def _mean_square(self, out: Tensor) -> Tensor:
        """Mean over `out` and the Haar grid of the domain of Σ over channels and disc of k²."""
        with torch.autocast(autocasting(self.taps), enabled=False):
            z = self._coordinates(out, self.domain_grid)
            return self.kernel.squared_norm(z) / (z.shape[0] * z.shape[1])

    def _coordinates(self, out: Tensor, into: Tensor) -> Tensor:
        """(h⁻¹(y − x), embedded h⁻¹h̃) for every pair of elements and tap: [n_out, n_in, taps, 2 + e].

        In the layer's dtype, whatever that of the elements.
        """
        out, into = out.to(self.taps.dtype), into.to(self.taps.dtype)
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
        taps [t, 2] float64 (x right, y up), and the disc [k, k] of 0 and 1.
    """
    offset = (torch.arange(kernel_size, dtype=torch.float64, device="cpu") - (kernel_size - 1) / 2) / (kernel_size / 2)
    grid = torch.stack(torch.meshgrid(offset, -offset, indexing="xy"), -1)
    mask = grid.norm(dim=2) <= 1
    return grid[mask], mask
