"""A group convolution that is local on H, with the filter of a plain convolution."""

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
from partialsym.signal import Elements, Signal, as_signal, autocasting, check_elements, constant

NEIGHBOUR = 16.0  # −log of the share of the next element relative to the nearest, on the whole group


class LocalConv(GroupConv):
    """A plain convolution per element h, with its filter moved by h, of the input's elements nearest to h:

        f ↦ Σ_y s(h⁻¹(y − x)) Σ_j u_j(h) f(y, h_j) + b,
        u_j(h) ∝ w_j exp(−κ|embed(h⁻¹h_j) − embed(e)|²/2), Σ_j u_j(h) = 1.

    The filter that an element uses does not depend on the other elements. The shares u depend on relative elements
    only, as in a GroupConv. On the input's own elements, the sum over j has one term. The gradient with respect to the
    weight of a component is the difference that the component makes.

    Args:
        in_channels, out_channels, domain, codomain, dilation, groups, bias: as for `GroupConv`.
        kernel_size: number of pixels, even or odd. The kernel is supported on the square.
        padding: zeros before and after each side.
        stride: pixels from output to output.
        symmetric: outputs lie symmetrically on the image; otherwise they lie where torch's own convolution has them.
        nearness: κ, at least 0; the function `nearness` computes it for a group.
        path: `auto` convolves every element separately; `dense`, `factored` and `spectral` as in `GroupConv`.
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
        nn.Module.__init__(self)  # GroupConv's own requires a kernel on H and an odd kernel_size
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
        self.register_buffer("domain_grid", torch.eye(2)[None], persistent=False)  # the kernel is constant on H
        self.register_buffer("group_grid", constant(self.group.grid(1)), persistent=False)

    @property
    def windows(self) -> Windows:
        """The windows of the input that the filter reads."""
        return Windows(self.dilation * (self.kernel_size - 1) + 1, self.stride, *self.zeros, symmetric=self.symmetric)

    def read(self, x: Tensor) -> tuple[Tensor, int]:
        """The maps to convolve, and how many zeros the convolution must still pad on each side."""
        return read(x, self.windows)

    def forward(self, f: Signal | Tensor, elements: Elements | None = None) -> Signal:
        """f [batch, in_channels, n_in, h, w] → [batch, out_channels, n_out, h', w']; arguments and errors as for
        `GroupConv`."""
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
        """The filter on every element of out [n, 2, 2]: [n, out_channels, in_channels / groups, k, k].

        A filter of one pixel is the same on all elements and has n = 1.
        """
        with torch.autocast(autocasting(self.taps), enabled=False):
            out = out[:1] if self.kernel_size == 1 else out
            values = self.kernel(self._positions(out))  # [n, taps, out, in]
            return values.permute(0, 2, 3, 1).unflatten(3, self.disc.shape)

    def shares(self, out: Elements, into: Elements) -> Tensor | None:
        """The shares u [n_out, n_in]; None if each element reads itself, or if the input is on the plane."""
        if into.group.name == "T2" or into.same_draw(out):
            return None
        h, inner = out.matrices.to(self.taps.dtype), into.matrices.to(self.taps.dtype)
        relative = self.domain.inverse(h)[:, None] @ inner
        identity = self.domain.embed(torch.eye(2, dtype=h.dtype, device=h.device))
        logits = -self.nearness / 2 * (self.domain.embed(relative) - identity).square().sum(-1)
        return nearest(logits, into.weights, into.tied)

    def factored_kernel(self, out: Elements, into: Elements) -> FactoredKernel:
        """As in `GroupConv`, with the shares u in place of the normalised weights."""
        with torch.autocast(autocasting(self.taps), enabled=False):
            phi = self.kernel.features(self._positions(out.matrices)).mT  # [n_out, features, taps]
            weight, bias = (part.unflatten(0, (self.out_channels, -1)) for part in self.kernel.last(phi.mT))
            phi, weight = torch.cat([phi, torch.ones_like(phi[:, :1])], 1), torch.cat([weight, bias[..., None]], 2)
            shares = self.shares(out, into)
            if shares is None:
                shares = torch.eye(len(out)).to(phi) if len(into) > 1 else phi.new_ones(len(out), 1)
            phi = (phi[:, :, None] * shares[:, None, :, None]).unflatten(3, self.disc.shape)
        return FactoredKernel(weight, torch.zeros_like(bias), phi, phi.new_ones(len(into)), self.disc)

    def _positions(self, out: Tensor) -> Tensor:
        """h⁻¹(y − x) for every element and tap: [n, taps, 2]."""
        return self.group.act(self.group.inverse(out.to(self.taps.dtype))[:, None], self.taps)

    def _coordinates(self, out: Tensor, into: Tensor) -> Tensor:
        position = self._positions(out)[:, None]
        return position.expand(-1, len(into), -1, -1)

    def _check(self, f: Signal, elements: Elements | None) -> None:
        if f.group != self.domain:
            raise InputError(f"the input is a signal on {f.group}, but this layer's domain is {self.domain}.")
        check_elements(elements, self.group)

    def extra_repr(self) -> str:
        shown = f"{self.in_channels}, {self.out_channels}, {self.domain} → {self.group}, kernel_size={self.kernel_size}"
        options = {"padding": (0, 0), "stride": 1, "dilation": 1, "groups": 1, "symmetric": True}
        values = {name: self.zeros if name == "padding" else getattr(self, name) for name in options}
        return shown + "".join(f", {name}={v}" for name, v in values.items() if v != options[name])


def each_by_itself(
    x: Tensor, weight: Tensor, bias: Tensor | None, rest: tuple[int, int, int] = (1, 0, 1), groups: int = 1
) -> Tensor:
    """Convolve every element of x with its own filter: [b, c, n, h, w] → [b, out, max(m, n), h', w'].

    weight is [m, out, c / groups, k, k] with m = n; or n = 1, and all filters read one element; or m = 1, and one
    filter reads all elements. rest: stride, padding, dilation.
    """
    m, out, n = *weight.shape[:2], x.shape[2]
    if n == 1:
        flat = weight.transpose(0, 1).flatten(0, 1)  # [(out m), …], because groups split the axis `out`
        bias = None if bias is None else bias.repeat_interleave(m)
        return F.conv2d(x[:, :, 0], flat, bias, *rest, groups).unflatten(1, (out, m))
    if m == 1:
        values = F.conv2d(x.transpose(1, 2).flatten(0, 1), weight[0], bias, *rest, groups)
        return values.unflatten(0, (-1, n)).transpose(1, 2)
    bias = None if bias is None else bias.repeat(n)
    values = F.conv2d(x.transpose(1, 2).flatten(1, 2), weight.flatten(0, 1), bias, *rest, n * groups)
    return values.unflatten(1, (n, out)).transpose(1, 2)


def nearest(logits: Tensor, weights: Tensor | None, tied: int = 1) -> Tensor:
    """Softmax of logits [m, n] over the elements whose weight is 1; weights [n] are 0 or 1.

    The gradient with respect to a weight is the difference between the softmax with the element and without it. The
    elements of one draw, `tied` consecutive ones, enter together. The derivative at 0 would say little about this
    difference, because a new nearest element replaces the others.
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
    """Softmax over the drawn elements; uniform if none is drawn."""
    lowest = torch.finfo(logits.dtype).min
    return logits.masked_fill(~drawn, lowest).softmax(-1)


def nearness(group: Group, samples: int) -> float:
    """κ such that, with `samples` equally spaced elements of the whole group, the next element's share is e⁻¹⁶."""
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
