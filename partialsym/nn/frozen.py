"""One group convolution between fixed elements, as a plain convolution; and fixed elements by themselves."""

import copy
from dataclasses import replace
from typing import Never

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialsym._utils.torch_func import transformed
from partialsym._utils.torch_private import in_forward_mode, tree_map_only
from partialsym.errors import InputError, UnsupportedError
from partialsym.nn.conv import GroupConv
from partialsym.nn.grid import sampled
from partialsym.nn.local import LocalConv, each_by_itself
from partialsym.nn.norm import BatchNorm
from partialsym.nn.separable import SpatialConv
from partialsym.nn.windows import read
from partialsym.ops import CLEARLY, calibration, convolve_plain, shape_of, spectral_time
from partialsym.signal import Elements, Signal, as_signal, autocasting, check_signal


class FrozenConv(nn.Module):
    """What is left of a GroupConv whose elements are known: a plain convolution of their channels.

    It is computed in the frequency domain where that is faster, for large batches, and no gradient is asked for.

    Args:
        conv: the layer; its kernel is evaluated in float64.
        into: the elements it takes; those of weight 0 are left out.
        elements: those it gives; layers that share a draw share them.
        norm: a BatchNorm to fold into weight and bias, with its running statistics.
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

        `elements` are not read, they were fixed: the output is said to lie on them where their number is right, so that
        it can be combined with what else does.
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
            "torch.jit.script does not know a Signal: torch.jit.trace the frozen model at the size of its images."
        )

    def extra_repr(self) -> str:
        return f"{self.taken} of {self.domain} → {len(self.elements.matrices)} of {self.group}"


class FrozenSpatialConv(nn.Module):
    """What is left of a SpatialConv whose elements are known: a plain depthwise convolution.

    Args:
        conv: the layer; its kernel is evaluated in float64.
        elements: those of the signals it takes.
        norm: a BatchNorm to fold into weight and bias, with its running statistics.
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
        """f [batch, channels, n, h, w] → [batch, channels, n, h', w'] on the same elements."""
        check_signal(f, self.channels)
        if len(f.elements) != self.taken:
            raise InputError(f"the input is on {len(f.elements)} elements, but this layer was frozen for {self.taken}.")
        values = _convolved(self.plain, f.values.flatten(1, 2), self.grid)
        return Signal(values.unflatten(1, f.values.shape[1:3]), f.elements)


class FrozenLocalConv(nn.Module):
    """What is left of a LocalConv whose elements are known: a plain convolution of each by itself.

    Args:
        conv: the layer; its filter is evaluated in float64.
        into: the elements it takes; those of weight 0 are left out.
        elements: those it gives; layers that share a draw share them.
        norm: a BatchNorm to fold into weight and bias, with its running statistics.
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
        """f [batch, in_channels, n_in, h, w] → [batch, out_channels, n_out, h', w']; `elements` as in `FrozenConv`."""
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
    """What is left of a Density whose elements are known: those of weight 0 are left out."""

    matrices: Tensor
    weights: Tensor | None

    def __init__(self, elements: Elements) -> None:
        super().__init__()
        elements = _kept(elements)
        self.group = elements.group
        self.register_buffer("matrices", elements.matrices, persistent=False)
        self.register_buffer("weights", elements.weights, persistent=False)

    def sample(self) -> Elements:
        """The elements, always the same."""
        return Elements(self.group, self.matrices, self.weights)

    def extra_repr(self) -> str:
        return f"{len(self.matrices)} of {self.group}"


Grid = tuple[int, int, bool, str]  # arguments of `sampled`


def _empty(conv: GroupConv | SpatialConv, into: int, out: int, groups: int) -> tuple[nn.Conv2d, Grid | None]:
    """A plain convolution without numbers, and what it needs of `sampled` to read what `conv` reads."""
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
        device="meta",  # no weights are drawn only to be thrown away
    )
    return plain, None if whole else (conv.reach, conv.stride, same, conv.padding_mode)


def _set(plain: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    plain.weight = nn.Parameter(weight, requires_grad=False)
    plain.bias = nn.Parameter(bias, requires_grad=False)


def _convolved(plain: nn.Conv2d, x: Tensor, grid: Grid | None, disc: Tensor | None = None) -> Tensor:
    """Of a kernel on that disc by frequencies, where it pays."""
    if grid is not None:
        x, padding = sampled(x, *grid)
        x = F.pad(x, [padding] * 4) if padding else x
    if disc is None or not _pays(plain, x):
        return plain(x)
    assert plain.bias is not None
    assert not isinstance(plain.padding, str)
    return convolve_plain(x, plain.weight, plain.bias, disc, plain.padding[0])


def _pays(plain: nn.Module, f: Tensor) -> bool:
    """Whether a plain convolution is to be computed in the frequency domain: where that is faster, and nothing but
    numbers is asked for – no gradient, no graph, no other precision."""
    if type(plain) is not nn.Conv2d or plain._forward_hooks or plain._forward_pre_hooks:
        return False
    asked = torch.is_grad_enabled() and (f.requires_grad or plain.weight.requires_grad)
    if asked or transformed() or in_forward_mode() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    if (plain.stride, plain.dilation, plain.groups) != ((1, 1), (1, 1), 1):
        return False
    if torch.onnx.is_in_onnx_export() or torch.is_autocast_enabled(autocasting(f)) or f.dtype != plain.weight.dtype:
        return False
    assert not isinstance(plain.padding, str)
    padding, (out, into, size, _) = plain.padding[0], plain.weight.shape
    shape = shape_of((len(f), into, 1, *f.shape[2:]), (out, into, 0), (1, 0, 1, size, size), padding)
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
    if shares is not None and len(out) == len(into):  # on the input's own elements there is nothing to share
        own = torch.equal(out.matrices, into.matrices)
        shares = torch.eye(len(out), dtype=shares.dtype) if own else shares
    return flat.unflatten(0, (-1, len(weight))).transpose(0, 1), bias[:: len(weight)], shares


@torch.no_grad()
def _evaluated(conv: GroupConv, into: Elements, out: Elements, norm: BatchNorm | None) -> tuple[Tensor, Tensor]:
    """weight [(out_channels n_out), (in_channels / groups n_in), k, k] and bias [(out_channels n_out)], float64."""
    conv = copy.deepcopy(conv).cpu().double()
    return _folded(conv.filters(_double(out), _double(into)), conv.bias, conv.out_channels, norm)


def _folded(weight: Tensor, bias: Tensor | None, channels: int, norm: BatchNorm | None) -> tuple[Tensor, Tensor]:
    """weight [(channels n), ., k, k] and bias [channels] with a norm's part in them: the weight, and bias [(channels
    n)]."""
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
    """Without those of weight 0, and without weights where the rest have the same."""
    if elements.weights is None:
        return elements
    kept = elements.weights != 0
    weights = elements.weights[kept]
    alike = bool((weights == weights[0]).all())
    return replace(elements, matrices=elements.matrices[kept], weights=None if alike else weights)


def _double(elements: Elements) -> Elements:
    return tree_map_only(Tensor, lambda tensor: tensor.cpu().double(), elements)
