"""The group convolution: one layer for lifting, convolution on the group, pointwise mixing and projection."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple, Never

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialsym._utils.layout import is_channels_last
from partialsym.densities import Density
from partialsym.errors import InputError, InputTypeError, UnsupportedError
from partialsym.groups import Group
from partialsym.kernels import SIREN, Kernel
from partialsym.nn.grid import MODES, PaddingMode, sampled
from partialsym.ops import PATHS, FactoredKernel, convolve
from partialsym.signal import Elements, Signal, as_signal, autocasting, check_elements, check_group, constant

HAAR_ROTATIONS = 16  # rotations in the quadrature that normalises the kernel at construction
SIDE_BY_SIDE = 4  # channels whose moments are one product
SAVED = 64  # products for each value of the input, from which on moments are worth a pass over it


class Precomputed(NamedTuple):
    """What a call of a GroupConv needs, if its network has computed it: see `partialsym.nn.precompute`."""

    into: Elements
    out: Elements
    phi: Tensor | None = None  # features on the square, [n_out, n_in, kernel_size², features]; None: not computed


class GroupConv(nn.Module):
    """Monte-Carlo group convolution with a continuous kernel (Finzi et al. 2020; Romero & Lohit 2022, section 4):

        (k ⋆ f)(x, h) = Σ_j w_j Σ_y k(h⁻¹(y − x), h⁻¹h_j) f(y, h_j) / Σ_j w_j + b.

    With domain T(2) it is a lifting convolution, with codomain `dirac(T2())` a projection, and with kernel size 1 a
    pointwise convolution.

    With a stride, a side of h pixels becomes ⌈h / stride⌉, as in `SpatialPool`. torch's strided convolution starts at
    the first pixel. Here the outputs lie symmetrically about the centre of the image, at any height and width, which
    preserves every symmetry of the pixel grid. Outputs may then lie between pixels, as at stride 2 on an even side:
    there, f is the mean of its two or four neighbours.

    Args:
        in_channels, out_channels: channels per element.
        domain: group of the input signal: T(2), for which the layer also accepts plain images, or a group that includes
            the codomain's. By default it is the codomain's group.
        codomain: density from which the output elements are drawn; or a group, if every call passes `elements`.
        kernel_size: odd number of pixels. The kernel is supported on the disc of that diameter.
        kernel: (dim, out_channels, in_channels) → Kernel, such as `functools.partial(SIREN, hidden=8)`.
        padding: `same` or `valid`.
        stride: pixels from output to output.
        dilation: pixels from tap to tap.
        groups: number of channel groups, as in `torch.nn.Conv2d`; it divides `in_channels` and `out_channels`.
            `groups=in_channels` is a depthwise convolution.
        padding_mode: values beyond the border if padding is `same`: `zeros`, `reflect`, `replicate` or `circular`.
        bias: add a bias per channel.
        path: `dense` forms the whole kernel, `factored` convolves with the kernel's features and mixes channels
            afterwards, `spectral` multiplies in the frequency domain, `auto` chooses the fastest for the shapes at
            hand. All compute the same function.
    Raises:
        TypeError: codomain is neither a density nor a group, a size is a pair, or kernel is a name or a module.
        ValueError: an argument is out of range, or the domain does not include the codomain's group.
    """

    taps: Tensor
    disc: Tensor
    inside: Tensor
    domain_grid: Tensor
    group_grid: Tensor | None  # None if the codomain is a density

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
        groups: int = 1,
        padding_mode: PaddingMode = "zeros",
        bias: bool = True,
        path: Literal["auto", "dense", "factored", "spectral"] = "auto",
    ) -> None:
        super().__init__()
        check_window(kernel_size, padding, padding_mode, stride=stride, dilation=dilation)
        check_kernel(kernel)
        if path not in PATHS:
            raise InputError(f"path is {path!r}: must be one of {', '.join(PATHS)}.")
        _check_groups(groups, in_channels, out_channels)
        group = codomain.group if isinstance(codomain, Density) else codomain
        if not isinstance(group, Group):
            raise InputTypeError(
                f"codomain is {codomain!r}: must be a density, such as partialsym.haar(group, 4), or a Group."
            )
        domain = group if domain is None else domain
        check_group("domain", domain)
        if domain.name != "T2" and not domain.includes(group):
            raise InputError(f"domain {domain} does not include the codomain's group {group}.")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.domain, self.group, self.padding, self.path = domain, group, padding, path
        self.stride, self.dilation, self.groups, self.padding_mode = stride, dilation, groups, padding_mode
        self.codomain = codomain if isinstance(codomain, Density) else None
        self.kernel = kernel(2 + domain.embed_dim, out_channels, in_channels // groups)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        taps, mask = disc(kernel_size)
        inside = mask.flatten().nonzero().squeeze(1)
        grid = constant(group.grid(HAAR_ROTATIONS))
        self.register_buffer("taps", constant(taps), persistent=False)
        self.register_buffer("disc", constant(mask), persistent=False)
        self.register_buffer("inside", inside.to(self.taps.device), persistent=False)
        self.register_buffer("domain_grid", constant(domain.grid(HAAR_ROTATIONS)), persistent=False)
        self.register_buffer("group_grid", grid if self.codomain is None else None, persistent=False)
        if not self.taps.is_meta:  # meta tensors have no values
            with torch.no_grad():
                square = self._mean_square(grid)
            self.kernel.rescale(float(square / out_channels) ** -0.5)

    def forward(self, f: Signal | Tensor, elements: Elements | None = None) -> Signal:
        """Convolve f with the kernel.

        Args:
            f: signal [batch, in_channels, n_in, height, width] on the domain; if that is T(2), also plain images
                [batch, in_channels, height, width].
            elements: output elements to use instead of drawing new ones, such as those of a signal to which the
                output will be added.
        Returns:
            A signal [batch, out_channels, n_out, ⌈height / stride⌉, ⌈width / stride⌉]. `valid` padding first reduces
            height and width by dilation·(kernel_size − 1).
        Raises:
            ValueError: f or `elements` is on another group; f has the wrong number of channels, another dtype than the
                layer (without autocast), or fewer pixels than the kernel (`valid`) or the padding (`reflect`,
                `circular`) needs; or the layer has no density and `elements` is missing.
        """
        values, kernel, padding, out = self.prepared(f, elements)
        return Signal(convolve(values, kernel, self.bias, padding, self.path, **self.steps), out)

    def prepared(self, f: Signal | Tensor, elements: Elements | None) -> tuple[Tensor, FactoredKernel, int, Elements]:
        """What `forward` convolves: values, kernel, how many zeros to pad, and the elements of the output."""
        f = as_signal(f, self.domain, self.in_channels)
        self._check(f, elements)
        values = self._computed_in(f.values)
        known = self._precomputed(f.elements, elements)
        if elements is not None:
            out = elements
        elif known is None:
            out = self._density().sample()
        else:
            out = replace(known.out, precomputed=f.elements.precomputed)
        if known is not None and known.phi is not None:
            with torch.autocast(autocasting(self.taps), enabled=False):
                kernel = self._of_features(known.phi, f.elements)
        elif (count := self._moments_count(len(out), len(f.elements))) is not None:
            values, kernel = self._moments(values, f.elements, count), self._kernel_of_moments(out, count)
        else:
            kernel = self.factored_kernel(out, f.elements)
        read, padding = self.read(values.flatten(1, 2))
        return read.unflatten(1, values.shape[1:3]), kernel, padding, out

    @property
    def steps(self) -> dict[str, int]:
        """Stride, dilation and groups, as options of a plain convolution."""
        return {"stride": self.stride, "dilation": self.dilation, "groups": self.groups}

    @property
    def reach(self) -> int:
        """Pixels that the kernel reaches beyond its centre."""
        return self.dilation * (self.kernel_size // 2)

    def read(self, x: Tensor) -> tuple[Tensor, int]:
        """The maps [batch, channels, height', width'] to convolve, and how many zeros `convolve` must still pad."""
        return sampled(x, self.reach, self.stride, self.padding == "same", self.padding_mode)

    def filters(self, out: Elements, into: Elements) -> Tensor:
        """The weight of the equivalent plain convolution, [(out_channels n_out), (in_channels / groups n_in), k, k].

        It includes the normalised weights of the input's elements.
        """
        with torch.autocast(autocasting(self.taps), enabled=False):
            return self.factored_kernel(out, into).whole()

    def factored_kernel(self, out: Elements, into: Elements) -> FactoredKernel:
        """The kernel between two sets of elements, as a sum of features; never computed in reduced precision."""
        with torch.autocast(autocasting(self.taps), enabled=False):
            z = self._coordinates(out.matrices, into.matrices)
            return self._of_features(self.on_square(self.kernel.features(z)), into)

    def on_square(self, phi: Tensor) -> Tensor:
        """Features on the taps, [*k, taps, features] → on the square around them, [*k, kernel_size², features]."""
        if len(self.inside) == self.disc.numel():
            return phi
        whole = phi.new_zeros(*phi.shape[:-2], self.disc.numel(), phi.shape[-1])
        return whole.index_copy_(phi.ndim - 2, self.inside, phi)

    def _of_features(self, phi: Tensor, into: Elements) -> FactoredKernel:
        """The kernel from the elements `into`, with features phi [n_out, n_in, kernel_size², features]."""
        if (mean := into.mean_weights()) is None:
            return self._kernel(phi, None)
        mean = mean.to(phi.dtype)
        return self._kernel(phi * mean[:, None, None], mean)

    def _kernel(self, phi: Tensor, mean: Tensor | None) -> FactoredKernel:
        """The kernel with the weights of the kernel network, and features phi, which include `mean`."""
        weight, bias = (part.unflatten(0, (self.out_channels, -1)) for part in self.kernel.last(phi))
        return FactoredKernel(weight, bias, phi.permute(0, 3, 1, 2).unflatten(3, self.disc.shape), mean, self.disc)

    def _precomputed(self, into: Elements, out: Elements | None) -> Precomputed | None:
        """What the network has computed for a call on these elements; None if it has not."""
        found = None if into.precomputed is None else into.precomputed.get(self)
        if found is None or not found.into.same_draw(into):
            return None
        same = self.codomain is not None if out is None else found.out.same_draw(out)
        return found if same else None

    def _moments_count(self, n_out: int, n_in: int) -> int | None:
        """How many moments of the input to convolve instead of its elements; None where that saves too little.

        With b(h̃) = (1, embedded h̃), a kernel that is linear in b(h⁻¹h̃) = D(h)·b(h̃) needs only the moments
        Σ_j w_j·b(h_j)·f(x, h_j) / Σ_j w_j.
        """
        count = self.kernel.moments if type(self).factored_kernel is GroupConv.factored_kernel else None
        if count is None or self.domain.embedded_inverse(self.domain_grid[:1]) is None:
            return None
        each = n_out * self.out_channels // self.groups * len(self.taps)  # products of one value
        return count if (n_in - count) * each >= SAVED * n_in else None

    def _moments(self, values: Tensor, into: Elements, count: int) -> Tensor:
        """values [b, in, n, h, w] → their first moments [b, in, count, h, w]."""
        with torch.autocast(autocasting(self.taps), enabled=False):
            embedded = self.domain.embed(into.matrices.to(self.taps.dtype))[:, : count - 1]
            mean = into.mean_weights()
            share = 1 / len(into) if mean is None else mean.to(embedded.dtype)
            functions = share * F.pad(embedded, (1, 0), value=1.0).mT
            functions = functions.to(values.dtype)
            if is_channels_last(values):  # [b, h, w, c, n]; of one channel, results would be too narrow for BLAS
                at_once = math.gcd(values.shape[1] // self.groups, SIDE_BY_SIDE)
                rows = values.permute(0, 3, 4, 1, 2).unflatten(3, (-1, at_once)).flatten(4)
                made = F.linear(rows, torch.block_diag(*at_once * [functions]))
                return made.unflatten(4, (at_once, -1)).flatten(3, 4).permute(0, 3, 4, 1, 2)
            batch = functions.expand(len(values) * values.shape[1], -1, -1)
            return torch.bmm(batch, values.flatten(3).flatten(0, 1)).view(*values.shape[:2], count, *values.shape[3:])

    def _kernel_of_moments(self, out: Elements, count: int) -> FactoredKernel:
        """The kernel between `count` moments of the input and a set of elements, as a sum of features."""
        with torch.autocast(autocasting(self.taps), enabled=False):
            h = out.matrices.to(self.taps.dtype)
            plane = self.kernel.on_plane(self.taps @ self.group.inverse(h).mT)  # [n_out, taps, features / count]
            functions = self.domain.embedded_inverse(h)
            assert functions is not None
            functions = functions[:, : count - 1, : count - 1]
            functions = F.pad(functions, (1, 0, 1, 0)) + torch.eye(count)[0].to(h).diag()
            phi = (functions.mT[:, :, None, :, None] * plane[:, None, :, None, :]).flatten(3)
            return self._kernel(self.on_square(phi), torch.eye(count)[0].to(h))

    def _computed_in(self, values: Tensor) -> Tensor:
        """`values` in the dtype for the convolution: autocast's or the layer's."""
        device, own = autocasting(values), self.taps.dtype
        if torch.is_autocast_enabled(device) and torch.float64 not in (values.dtype, own):
            low = torch.get_autocast_dtype(device)
            if own not in (torch.float32, low):
                raise InputError(
                    f"this layer is {own}, under autocast to {low}: convert the layer to that dtype or to float32."
                )
            return values.to(low)
        if values.dtype != own:
            raise InputError(f"the input is {values.dtype}, but this layer is {own}: convert one of them.")
        return values

    def __prepare_scriptable__(self) -> Never:
        raise UnsupportedError(
            "torch.jit.script does not support group convolutions: convert the model with partialsym.to_conv2d, then "
            "use torch.jit.trace."
        )

    def kernel_norm(self) -> Tensor:
        """The regulariser ‖k‖₂ + ‖b‖₂ of Romero & Lohit (2022, appendix), a scalar.

        ‖k‖₂² is summed over channels and disc, and averaged over elements, so it does not depend on their number. These
        are the codomain's deterministic elements or, without a density, a Haar grid. If the codomain is the whole
        group, ‖k‖₂² starts at 1 per output channel. No gradient flows to the density.
        """
        matrices = self.group_grid if self.codomain is None else self.codomain.deterministic().matrices.detach()
        assert matrices is not None
        norm = self._mean_square(matrices).sqrt()
        return norm if self.bias is None else norm + self.bias.norm()

    def _mean_square(self, out: Tensor) -> Tensor:
        """Σ k² over channels and disc, averaged over the elements `out` and the domain's Haar grid."""
        with torch.autocast(autocasting(self.taps), enabled=False):
            z = self._coordinates(out, self.domain_grid)
            return self.kernel.squared_norm(z) / (z.shape[0] * z.shape[1])

    def _coordinates(self, out: Tensor, into: Tensor) -> Tensor:
        return coordinates(self.domain, self.taps, out, into)

    def _density(self) -> Density:
        if self.codomain is None:
            raise InputError(
                f"this layer has no density on {self.group}: pass its output elements as `elements=`, or make it with "
                "a density, such as codomain=partialsym.haar(group, 4)."
            )
        return self.codomain

    def _check(self, f: Signal, elements: Elements | None) -> None:
        if f.group != self.domain:
            raise InputError(f"the input is a signal on {f.group}, but this layer's domain is {self.domain}.")
        check_elements(elements, self.group)
        check_size(self, f)

    def extra_repr(self) -> str:
        channels = f"{self.in_channels}, {self.out_channels}"
        return f"{channels}, {self.domain} → {self.group}, kernel_size={self.kernel_size}{shown_options(self)}"


def coordinates(domain: Group, taps: Tensor, out: Tensor, into: Tensor) -> Tensor:
    """(h⁻¹(y − x), embedded h⁻¹h̃) for every pair of elements and tap: [*k, n_out, n_in, taps, 2 + e].

    taps is [*k, taps, 2], out [*k, n_out, 2, 2] and into [*k, n_in, 2, 2], on the domain. The result has the dtype of
    taps.
    """
    out, into = out.to(taps.dtype), into.to(taps.dtype)
    *k, n_out = out.shape[:-2]
    shape = (*k, n_out, into.shape[-3], taps.shape[-2])
    vectors = torch.cat([taps, *into.unbind(-1)], -2).unsqueeze(-3)  # the taps, and both columns of every h̃
    # h⁻¹v is the row v·h, since h is orthogonal; not `@`, which multiplies in another order, and rounds otherwise, if
    # the elements need no gradient
    moved = torch.bmm(vectors.expand(*k, n_out, -1, -1).flatten(0, -3), out.flatten(0, -3))
    position, product = moved.unflatten(0, (*k, n_out)).split([shape[-1], 2 * shape[-2]], -2)
    relative = domain.embed(product.unflatten(-2, (2, -1)).movedim(-3, -1))  # [*k, n_out, n_in, e]
    return torch.cat([position.unsqueeze(-3).expand(*shape, -1), relative.unsqueeze(-2).expand(*shape, -1)], -1)


def check_window(kernel_size: int, padding: str, padding_mode: str, **steps: int) -> None:
    """Raise an error if an argument of a convolution is not valid: TypeError if it is a pair, else ValueError."""
    for name, value in {"kernel_size": kernel_size, **steps}.items():
        if isinstance(value, tuple | list):
            raise InputTypeError(f"{name} is {value!r}: must be one number, because kernels and strides are square.")
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise InputError(f"kernel_size is {kernel_size}: must be odd and positive, so that the kernel has a centre.")
    if padding not in ("same", "valid"):
        raise InputError(f"padding is {padding!r}: must be 'same' or 'valid'.")
    for name, value in steps.items():
        if value < 1:
            raise InputError(f"{name} is {value}: must be at least 1.")
    if padding_mode not in MODES:
        raise InputError(f"padding_mode is {padding_mode!r}: must be one of {', '.join(MODES)}.")
    if padding_mode != "zeros" and padding == "valid":
        raise InputError(
            f"padding_mode is {padding_mode!r}, but padding is 'valid', which pads nothing: must be 'zeros'."
        )


def check_kernel(kernel: object) -> None:
    """Raise TypeError if `kernel` does not make kernels."""
    if not callable(kernel) or isinstance(kernel, nn.Module):
        raise InputTypeError(f"kernel is {kernel!r}: must be a class of kernels, such as partialsym.SIREN.")


def check_size(layer: Any, f: Signal) -> None:
    """Raise ValueError if a signal has too few pixels for a layer's kernel or padding."""
    height, width = f.values.shape[-2:]
    side = layer.dilation * (layer.kernel_size - 1) + 1
    if layer.padding == "valid" and min(height, width) < side:
        raise InputError(f"the input of {height}×{width} pixels is smaller than the {side}×{side} kernel.")
    mode, least = layer.padding_mode, layer.reach + (layer.padding_mode == "reflect")
    if mode in ("reflect", "circular") and min(height, width) < least:
        raise InputError(
            f"the input of {height}×{width} pixels is too small for {mode!r} padding of {layer.reach}: must be at "
            f"least {least}×{least}."
        )


def shown_options(layer: nn.Module) -> str:
    """The options of a convolution that differ from the defaults, for its `extra_repr`."""
    defaults = {"stride": 1, "dilation": 1, "groups": 1, "padding_mode": "zeros"}
    values = {name: getattr(layer, name, default) for name, default in defaults.items()}
    return "".join(f", {name}={value}" for name, value in values.items() if value != defaults[name])


def _check_groups(groups: int, in_channels: int, out_channels: int) -> None:
    if groups < 1:
        raise InputError(f"groups is {groups}: must be at least 1.")
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if channels % groups:
            raise InputError(f"groups is {groups}: must be a divisor of {name}, which is {channels}.")


def disc(kernel_size: int) -> tuple[Tensor, Tensor]:
    """Pixel offsets (i − (k − 1)/2)/(k/2) inside the unit disc: 1, 9, 21, 37 taps for k = 1, 3, 5, 7.

    Returns:
        The taps [t, 2] in float64 (x right, y up), and the disc as a boolean mask [k, k].
    """
    offset = (torch.arange(kernel_size, dtype=torch.float64, device="cpu") - (kernel_size - 1) / 2) / (kernel_size / 2)
    grid = torch.stack(torch.meshgrid(offset, -offset, indexing="xy"), -1)
    mask = grid.norm(dim=2) <= 1
    return grid[mask], mask
