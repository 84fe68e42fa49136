"""A group convolution that is local on H and has the filter of a plain convolution."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialsym.densities import Density
from partialsym.errors import InputError
from partialsym.groups import Group
from partialsym.kernels import Grid
from partialsym.nn.conv import GroupConv
from partialsym.nn.windows import Windows, read
from partialsym.ops import FactoredKernel
from partialsym.signal import Elements, Signal, as_signal, autocasting, constant

NEIGHBOUR = 16.0  # −log of the weight of the second nearest element of a whole draw, relative to the nearest


class LocalConv(GroupConv):
    """A convolution by the filter s, transformed by each output element h, of the input at the element nearest to h:

        f ↦ Σ_y s(h⁻¹(y − x)) Σ_j u_j(h) f(y, h_j) + b,
        u_j(h) ∝ w_j exp(−κ|embed(h⁻¹h_j) − embed(e)|²/2), Σ_j u_j(h) = 1.

    For each element it is a plain convolution with the transformed filter, independent of the other elements. As in a
    GroupConv, the sum over j depends only on relative elements. If input and output have the same elements, the sum has
    one term. The gradient for the weight of a component is the difference of the output with and without the component.

    Args:
        in_channels, out_channels, domain, codomain, dilation, groups, bias: as for `GroupConv`.
        kernel_size: pixels per side of the square filter, even or odd.
        padding: numbers of zeros before and after each side.
        stride: distance in pixels between outputs.
        symmetric: place outputs symmetrically on the image; otherwise at the positions of torch's own convolution.
        nearness: κ, at least 0.
        path: `auto` convolves each element separately; `dense`, `factored` and `spectral` are as in `GroupConv`.
    Raises:
        ValueError: an argument is out of range.
    """

    kernel: Grid

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        domain: Group,
        codomain: Density | Group,
        kernel_size: int,
        padding: tuple[int, int] = (0, 0),
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        symmetric: bool = True,
        nearness: float = 0.0,
        path: Literal["auto", "dense", "factored", "spectral"] = "auto",
    ) -> None:
        nn.Module.__init__(self)  # not GroupConv's: it needs an odd kernel and one on H
        _check(kernel_size, padding, stride=stride, dilation=dilation, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise InputError(
                f"groups is {groups}: must be a divisor of {in_channels} and {out_channels}, the numbers of channels."
            )
        if not 0 <= nearness < math.inf:
            raise InputError(f"nearness is {nearness}: must be at least 0 and finite.")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.domain, self.path, self.nearness = domain, path, nearness
        self.group = codomain.group if isinstance(codomain, Density) else codomain
        self.codomain = codomain if isinstance(codomain, Density) else None
        self.stride, self.dilation, self.groups, self.symmetric = stride, dilation, groups, symmetric
        self.zeros = padding
        self.kernel = Grid(2, out_channels, in_channels // groups, kernel_size=kernel_size, order=0)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        line = (torch.arange(kernel_size, dtype=torch.float64, device="cpu") - (kernel_size - 1) / 2) * (
            2 / kernel_size
        )
        taps = torch.stack(torch.meshgrid(line, -line, indexing="xy"), -1).flatten(0, 1)
        self.register_buffer("taps", constant(taps), persistent=False)
        self.register_buffer("disc", torch.ones(kernel_size, kernel_size, dtype=torch.bool), persistent=False)
        self.register_buffer("domain_grid", torch.eye(2)[None], persistent=False)  # s is constant on H
        self.register_buffer("group_grid", constant(self.group.grid(1)), persistent=False)

    @property
    def windows(self) -> Windows:
        """The positions of the windows."""
        return Windows(self.dilation * (self.kernel_size - 1) + 1, self.stride, *self.zeros, symmetric=self.symmetric)

    def read(self, x: Tensor) -> tuple[Tensor, int]:
        """The maps to convolve, [batch, channels, height', width'], and the zeros still to pad on each side."""
        return read(x, self.windows)

    def forward(self, f: Signal | Tensor, elements: Elements | None = None) -> Signal:
        """Convolve.

        Args:
            f: [batch, in_channels, n_in, height, width] on the domain; for T(2) also images [batch, in_channels,
                height, width].
            elements: output elements, instead of drawing them.
        Returns:
            [batch, out_channels, n_out, height', width'].
        Raises:
            ValueError: as in `GroupConv`.
        """
        f = as_signal(f, self.domain, self.in_channels)
        self._check(f, elements)
        out = elements if elements is not None else self._density().sample()
        if self.path != "auto":
            return super().forward(f, out)
        values = self._computed_in(f.values)
        with torch.autocast(autocasting(values), enabled=False):
            shares = self.shares(out, f.elements)
            weight = self.moved(out.matrices).to(values.dtype)
            bias = None if self.bias is None else self.bias.to(values.dtype)
            if shares is not None:
                values = torch.einsum("bcjhw,ij->bcihw", values, shares.to(values.dtype))
            x, padding = self.read(values.flatten(1, 2))
            x, rest = x.unflatten(1, values.shape[1:3]), (self.stride, padding, self.dilation)
            values = each_by_itself(x, weight, bias, rest, self.groups)
        return Signal(values.expand(-1, -1, len(out), -1, -1), out)

    def moved(self, out: Tensor) -> Tensor:
        """The filter transformed by elements [n, 2, 2]: [n, out_channels, in_channels / groups, k, k].

        For k = 1 it is the same for all elements, and n is 1.
        """
        with torch.autocast(autocasting(self.taps), enabled=False):
            out = out[:1] if self.kernel_size == 1 else out
            values = self.kernel(self._positions(out))  # [n, taps, out, in]
            return values.permute(0, 2, 3, 1).unflatten(3, self.disc.shape)

    def shares(self, out: Elements, into: Elements) -> Tensor | None:
        """u [n_out, n_in]; None if each element reads only its own values, or if the input is on T(2)."""
        if into.group.name == "T2" or into.same_draw(out):
            return None
        h, inner = out.matrices.to(self.taps.dtype), into.matrices.to(self.taps.dtype)
        relative = self.domain.inverse(h)[:, None] @ inner
        identity = self.domain.embed(torch.eye(2, dtype=h.dtype, device=h.device))
        logits = -self.nearness / 2 * (self.domain.embed(relative) - identity).square().sum(-1)
        return nearest(logits, into.weights, into.tied)

    def factored_kernel(self, out: Elements, into: Elements) -> FactoredKernel:
        """As in `GroupConv`, with u instead of w_j / Σ w_j."""
        with torch.autocast(autocasting(self.taps), enabled=False):
            phi = self.kernel.features(self._positions(out.matrices)).mT  # [n_out, features, taps]
            weight, bias = (part.unflatten(0, (self.out_channels, -1)) for part in self.kernel.last(phi.mT))
            phi, weight = torch.cat([phi, torch.ones_like(phi[:, :1])], 1), torch.cat([weight, bias[..., None]], 2)
            shares = self.shares(out, into)
            if shares is None:
                shares = torch.eye(len(out)).to(phi) if len(into) > 1 else phi.new_ones(len(out), 1)
            phi = (phi[:, :, None] * shares[:, None, :, None]).unflatten(3, self.disc.shape)
        return FactoredKernel(weight, torch.zeros_like(bias), phi, phi.new_full((len(into),), 1 / len(into)), self.disc)

    def _positions(self, out: Tensor) -> Tensor:
        """h⁻¹(y − x) for every element and tap: [n, taps, 2]."""
        return self.group.act(self.group.inverse(out.to(self.taps.dtype))[:, None], self.taps)

    def _coordinates(self, out: Tensor, into: Tensor) -> Tensor:
        position = self._positions(out)[:, None]
        return position.expand(-1, len(into), -1, -1)

    def _check(self, f: Signal, elements: Elements | None) -> None:
        if f.group != self.domain:
            raise InputError(f"the input is a signal on {f.group}, but this layer's domain is {self.domain}.")
        if elements is not None and elements.group != self.group:
            raise InputError(f"elements are of {elements.group}, but this layer's codomain is {self.group}.")

    def extra_repr(self) -> str:
        shown = f"{self.in_channels}, {self.out_channels}, {self.domain} → {self.group}, kernel_size={self.kernel_size}"
        options = {"padding": (0, 0), "stride": 1, "dilation": 1, "groups": 1, "symmetric": True}
        values = {name: self.zeros if name == "padding" else getattr(self, name) for name in options}
        return shown + "".join(f", {name}={v}" for name, v in values.items() if v != options[name])


def each_by_itself(
    x: Tensor, weight: Tensor, bias: Tensor | None, rest: tuple[int, int, int] = (1, 0, 1), groups: int = 1
) -> Tensor:
    """Convolve each element with its own filter: x [b, c, n, h, w] → [b, out, max(n, m), h', w'].

    Args:
        x: the maps. If n = 1, all filters read the same element.
        weight: filters [m, out, c / groups, k, k], with m = n or 1. If m = 1, all elements have the same filter. If
            n = 1, m may be any number.
        bias: [out].
        rest: stride, padding, dilation.
        groups: groups of channels.
    """
    m, out, n = *weight.shape[:2], x.shape[2]
    if n == 1:
        flat = weight.transpose(0, 1).flatten(0, 1)  # channels of a group must be adjacent
        bias = None if bias is None else bias.repeat_interleave(m)
        return F.conv2d(x[:, :, 0], flat, bias, *rest, groups).unflatten(1, (out, m))
    if m == 1:
        values = F.conv2d(x.transpose(1, 2).flatten(0, 1), weight[0], bias, *rest, groups)
        return values.unflatten(0, (-1, n)).transpose(1, 2)
    bias = None if bias is None else bias.repeat(n)
    values = F.conv2d(x.transpose(1, 2).flatten(1, 2), weight.flatten(0, 1), bias, *rest, n * groups)
    return values.unflatten(1, (n, out)).transpose(1, 2)


def nearest(logits: Tensor, weights: Tensor | None, tied: int = 1) -> Tensor:
    """The softmax of logits [m, n] over the elements whose weight is 1. The weights [n] are 0 or 1; None means all 1.

    The gradient for a weight is the difference between the softmax with and without the element. Elements of one draw
    (`tied` adjacent ones) are added and removed together. The derivative at 0 would be a poor estimate, because the
    softmax changes abruptly when the nearest element is added.
    """
    if weights is None:
        return logits.softmax(-1)
    drawn = weights.detach() > 0.5
    shares = _among(logits, drawn)
    if not weights.requires_grad:
        return shares
    with torch.no_grad():
        own = torch.eye(len(drawn) // tied, dtype=torch.bool, device=drawn.device).repeat_interleave(tied, 1)
        step = _among(logits, drawn | own[:, None]) - _among(logits, drawn & ~own[:, None])  # [draws, m, n]
    one = weights[::tied]
    return shares + torch.einsum("d,dmn->mn", one - one.detach(), step.to(one.dtype))


def _among(logits: Tensor, drawn: Tensor) -> Tensor:
    """The softmax over the drawn elements; uniform if there are none."""
    lowest = torch.finfo(logits.dtype).min
    return logits.masked_fill(~drawn, lowest).softmax(-1)


def nearness(group: Group, samples: int) -> float:
    """The κ for which the second nearest element has e⁻¹⁶ times the weight of the nearest one.

    The elements are `samples` equally spaced elements of the whole group.
    """
    others, rotations = group.components[1:], samples // len(group.components)
    if group.dim and rotations > 1:
        angle = torch.tensor([2 * math.pi / rotations], dtype=others.dtype, device=others.device)
        others = torch.cat([group.exp(angle)[None], others])
    if not len(others) or not group.embed_dim:
        return 0.0
    away = group.embed(others) - group.embed(group.components[:1])
    return 2 * NEIGHBOUR / float(away.square().sum(-1).min())


def _check(kernel_size: int, padding: tuple[int, int], **steps: int) -> None:
    for name, value in {"kernel_size": kernel_size, **steps}.items():
        if value < 1:
            raise InputError(f"{name} is {value}: must be at least 1.")
    if min(padding) < 0:
        raise InputError(f"padding is {padding}: must be at least 0.")
