"""Group convolutions with fixed elements, as plain convolutions; and densities with fixed elements."""

import copy
from dataclasses import replace
from typing import Never

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialsym._utils.torch_func import transformed
from partialsym._utils.torch_private import hooks_on_all, in_forward_mode, runs_its_class, tree_map_only
from partialsym.errors import InputError, UnsupportedError
from partialsym.nn.conv import GroupConv
from partialsym.nn.grid import sampled
from partialsym.nn.local import LocalConv, each_by_itself
from partialsym.nn.norm import BatchNorm
from partialsym.nn.separable import SpatialConv
from partialsym.nn.windows import read
from partialsym.ops import CLEARLY, Options, calibration, conv2d_of_images, convolve_plain, shape_of, spectral_time
from partialsym.signal import Elements, Signal, as_signal, autocasting, check_signal


class FrozenConv(nn.Module):
    """A GroupConv with fixed elements: a plain convolution whose channels are channels times elements.

    It runs in the frequency domain if that is faster, as for large batches, and no gradient is needed.

    Args:
        conv: the layer to freeze; its kernel is evaluated in float64.
        into: elements of the input; those of weight 0 are dropped.
        elements: elements of the output; layers that share a draw share this module.
        norm: a BatchNorm whose running statistics are folded into weight and bias.
    """

    disc: Tensor

    def __init__(
        self, conv: GroupConv, into: Elements, elements: "FrozenElements", norm: BatchNorm | None = None
    ) -> None:
        super().__init__()
        into, out = _kept(into), elements.sample()
        self.in_channels, self.out_channels, self.kernel_size = conv.in_channels, conv.out_channels, conv.kernel_size
        self.domain, self.group, self.taken = conv.domain, conv.group, len(into)
        self.plain, self.grid = _empty(conv, conv.in_channels * len(into), conv.out_channels * len(out), conv.groups)
        like = next(conv.parameters())
        weight, bias = _evaluated(conv, into, out, norm)
        _set(self.plain, weight.to(like), bias.to(like))
        self.elements = elements
        self.register_buffer("disc", conv.disc.clone(), persistent=False)

    def forward(self, f: Signal | Tensor, elements: Elements | None = None) -> Signal:
        """f [batch, in_channels, n_in, h, w] → [batch, out_channels, n_out, h', w'].

        The values do not depend on `elements`. If their number is that of the fixed elements, the output refers to
        them, so that it can be combined with other signals on them.

        Raises:
            ValueError: f is on another group or another number of elements.
        """
        f = as_signal(f, self.domain, self.in_channels)
        if f.group != self.domain or len(f.elements) != self.taken:
            raise InputError(
                f"the input is on {len(f.elements)} elements of {f.group}, but this layer was frozen for {self.taken} "
                f"of {self.domain}."
            )
        out = self.elements.sample()
        if elements is not None and len(elements) == len(out):
            out = elements
        values = _convolved(self.plain, f.values.flatten(1, 2), self.grid, self.disc)  # [batch, (channels n), h, w]
        return Signal(values.unflatten(1, (self.out_channels, len(out))), out)

    def __prepare_scriptable__(self) -> Never:
        raise UnsupportedError(
            "torch.jit.script does not support Signal: use torch.jit.trace on the frozen model, at the size of its "
            "images."
        )

    def extra_repr(self) -> str:
        return f"{self.taken} of {self.domain} → {len(self.elements.matrices)} of {self.group}"


class FrozenSpatialConv(nn.Module):
    """A SpatialConv with fixed elements: a plain depthwise convolution.

    Args:
        conv, norm: as for `FrozenConv`.
        elements: elements of the input, and of the output.
    """

    def __init__(self, conv: SpatialConv, elements: "FrozenElements", norm: BatchNorm | None = None) -> None:
        super().__init__()
        held = elements.sample()
        self.channels, self.taken = conv.channels, len(held)
        channels = conv.channels * len(held)
        self.plain, self.grid = _empty(conv, channels, channels, channels)
        weight, bias = _evaluated_spatial(conv, held, norm)
        like = next(conv.parameters())
        _set(self.plain, weight.to(like), bias.to(like))

    def forward(self, f: Signal) -> Signal:
        """f [batch, channels, n, h, w] → [batch, channels, n, h', w'] on the same elements.

        Raises:
            ValueError: f is on another number of elements.
        """
        check_signal(f, self.channels)
        if len(f.elements) != self.taken:
            raise InputError(f"the input is on {len(f.elements)} elements, but this layer was frozen for {self.taken}.")
        values = _convolved(self.plain, f.values.flatten(1, 2), self.grid)
        return Signal(values.unflatten(1, f.values.shape[1:3]), f.elements)


class FrozenLocalConv(nn.Module):
    """A LocalConv with fixed elements: a plain convolution of each element.

    Args:
        conv, into, elements, norm: as for `FrozenConv`.
    """

    shares: Tensor | None

    def __init__(
        self, conv: LocalConv, into: Elements, elements: "FrozenElements", norm: BatchNorm | None = None
    ) -> None:
        super().__init__()
        into, out = _kept(into), elements.sample()
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        self.domain, self.group, self.taken, self.windows = conv.domain, conv.group, len(into), conv.windows
        self.stride, self.dilation, self.groups = conv.stride, conv.dilation, conv.groups
        weight, bias, shares = _evaluated_local(conv, into, out, norm)
        like = next(conv.parameters())
        self.weight = nn.Parameter(weight.to(like), requires_grad=False)
        self.bias = nn.Parameter(bias.to(like), requires_grad=False)
        self.elements = elements
        alone = shares is None or torch.equal(shares, torch.eye(*shares.shape))
        self.register_buffer("shares", None if alone or shares is None else shares.to(like), persistent=False)

    def forward(self, f: Signal | Tensor, elements: Elements | None = None) -> Signal:
        """f [batch, in_channels, n_in, h, w] → [batch, out_channels, n_out, h', w'], as in `FrozenConv`."""
        f = as_signal(f, self.domain, self.in_channels)
        if f.group != self.domain or len(f.elements) != self.taken:
            raise InputError(
                f"the input is on {len(f.elements)} elements of {f.group}, but this layer was frozen for {self.taken} "
                f"of {self.domain}."
            )
        out = self.elements.sample()
        if elements is not None and len(elements) == len(out):
            out = elements
        values = f.values if self.shares is None else torch.einsum("bcjhw,ij->bcihw", f.values, self.shares)
        x, padding = read(values.flatten(1, 2), self.windows)
        rest = self.stride, padding, self.dilation
        values = each_by_itself(x.unflatten(1, values.shape[1:3]), self.weight, self.bias, rest, self.groups)
        return Signal(values.expand(-1, -1, len(out), -1, -1), out)

    def extra_repr(self) -> str:
        return f"{self.taken} of {self.domain} → {len(self.elements.matrices)} of {self.group}"


class FrozenElements(nn.Module):
    """A Density with fixed elements; those of weight 0 are dropped."""

    matrices: Tensor
    weights: Tensor | None

    def __init__(self, elements: Elements) -> None:
        super().__init__()
        elements = _kept(elements)
        self.group = elements.group
        self.register_buffer("matrices", elements.matrices, persistent=False)
        self.register_buffer("weights", elements.weights, persistent=False)

    def sample(self) -> Elements:
        """The fixed elements."""
        return Elements(self.group, self.matrices, self.weights)

    def extra_repr(self) -> str:
        return f"{len(self.matrices)} of {self.group}"


Grid = tuple[int, int, bool, str]  # arguments of `sampled`


def _empty(conv: GroupConv | SpatialConv, into: int, out: int, groups: int) -> tuple[nn.Conv2d, Grid | None]:
    """A plain convolution on the meta device, and the arguments of `sampled` for its input; None if it needs none."""
    same = conv.padding == "same"
    whole = conv.stride == 1 and conv.padding_mode == "zeros"
    plain = nn.Conv2d(
        into,
        out,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.reach if whole and same else 0,
        dilation=conv.dilation,
        groups=groups,
        device="meta",  # `_set` replaces the weights
    )
    return plain, None if whole else (conv.reach, conv.stride, same, conv.padding_mode)


def _set(plain: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    plain.weight = nn.Parameter(weight, requires_grad=False)
    plain.bias = nn.Parameter(bias, requires_grad=False)


def _convolved(plain: nn.Conv2d, x: Tensor, grid: Grid | None, disc: Tensor | None = None) -> Tensor:
    """Convolve x, sampled at `grid`, in the fastest way; in the frequency domain only if the kernel lies on `disc`."""
    if grid is not None:
        x, padding = sampled(x, *grid)
        x = F.pad(x, [padding] * 4) if padding else x
    if not _is_free(plain, x):
        return plain(x)
    assert plain.bias is not None
    options = _options(plain)
    if disc is not None and _is_spectral(plain, x, options):
        return convolve_plain(x, plain.weight, plain.bias, disc, options)
    return conv2d_of_images(x, plain.weight, plain.bias, options)


def _options(plain: nn.Conv2d) -> Options:
    assert not isinstance(plain.padding, str)
    return Options(plain.padding[0], plain.stride[0], plain.dilation[0], plain.groups)


def _is_free(plain: nn.Module, f: Tensor) -> bool:
    """Whether a plain convolution may be computed in another way: if only the values are needed, without gradients, a
    traced graph, hooks or another precision."""
    if type(plain) is not nn.Conv2d or not runs_its_class(plain) or hooks_on_all():
        return False
    assert plain.bias is not None
    asked = torch.is_grad_enabled() and (f.requires_grad or plain.weight.requires_grad or plain.bias.requires_grad)
    if asked or transformed() or in_forward_mode() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    if torch.onnx.is_in_onnx_export() or torch.is_autocast_enabled(autocasting(f)):
        return False
    return f.dtype == plain.weight.dtype


def _is_spectral(plain: nn.Conv2d, f: Tensor, options: Options) -> bool:
    """Whether the frequency domain is clearly faster."""
    out, into, size, _ = plain.weight.shape
    shape = shape_of((*f.shape[:2], 1, *f.shape[2:]), (out, into, 0), (1, 0, 1, size, size), *options)
    return shape.images > 0 and spectral_time(shape, calibration(f.dtype, f.device.type)) < CLEARLY


@torch.no_grad()
def _evaluated_spatial(conv: SpatialConv, elements: Elements, norm: BatchNorm | None) -> tuple[Tensor, Tensor]:
    """weight [(channels n), 1, k, k] and bias [(channels n)], float64."""
    conv = copy.deepcopy(conv).cpu().double()
    return _folded(conv.filters(_double(elements)), conv.bias, conv.channels, norm)


@torch.no_grad()
def _evaluated_local(
    conv: LocalConv, into: Elements, out: Elements, norm: BatchNorm | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """weight [n_out, out, in / groups, k, k], bias [out], and the shares [n_out, n_in]; float64."""
    conv = copy.deepcopy(conv).cpu().double()
    out, into = _double(out), _double(into)
    weight = conv.moved(out.matrices)
    flat, bias = _folded(weight.transpose(0, 1).flatten(0, 1), conv.bias, conv.out_channels, norm)
    shares = conv.shares(out, into)
    if shares is not None and len(out) == len(into):  # on the input's own elements, each reads itself
        own = torch.equal(out.matrices, into.matrices)
        shares = torch.eye(len(out), dtype=shares.dtype) if own else shares
    return flat.unflatten(0, (-1, len(weight))).transpose(0, 1), bias[:: len(weight)], shares


@torch.no_grad()
def _evaluated(conv: GroupConv, into: Elements, out: Elements, norm: BatchNorm | None) -> tuple[Tensor, Tensor]:
    """weight [(out_channels n_out), (in_channels / groups n_in), k, k] and bias [(out_channels n_out)], float64."""
    conv = copy.deepcopy(conv).cpu().double()
    return _folded(conv.filters(_double(out), _double(into)), conv.bias, conv.out_channels, norm)


def _folded(weight: Tensor, bias: Tensor | None, channels: int, norm: BatchNorm | None) -> tuple[Tensor, Tensor]:
    """Fold a norm into weight [(channels n), ., k, k] and bias [channels]; the returned bias is [(channels n)]."""
    n = len(weight) // channels
    bias = weight.new_zeros(channels) if bias is None else bias
    if norm is not None:
        norm = copy.deepcopy(norm).cpu().double()
        scale = (norm.running_var + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight
        bias = (bias - norm.running_mean) * scale
        bias = bias if norm.bias is None else bias + norm.bias
        weight = weight * scale.repeat_interleave(n)[:, None, None, None]
    return weight, bias.repeat_interleave(n)


def _kept(elements: Elements) -> Elements:
    """`elements` without those of weight 0; without weights if the others have equal ones."""
    if elements.weights is None:
        return elements
    kept = elements.weights != 0
    weights = elements.weights[kept]
    alike = bool((weights == weights[0]).all())
    return replace(elements, matrices=elements.matrices[kept], weights=None if alike else weights)


def _double(elements: Elements) -> Elements:
    return tree_map_only(Tensor, lambda tensor: tensor.cpu().double(), elements)
