"""One group convolution between fixed elements, as a plain convolution; and fixed elements by themselves."""

import copy
from dataclasses import replace
from typing import Never

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils import _pytree as pytree

from partialsym.conv import GroupConv
from partialsym.norm import BatchNorm
from partialsym.ops import CLEARLY, FactoredKernel, calibration, convolve, shape_of, spectral_time
from partialsym.signal import Elements, Signal, autocasting, check_signal
from partialsym.transforms import transformed


class FrozenConv(nn.Module):
    """What is left of a GroupConv whose elements are known: a plain convolution of their channels.

    It is computed in the frequency domain where that is faster, for large batches, and no gradient is asked for.

    Args:
        conv: the layer; its kernel is evaluated in float64.
        into, out: elements it takes and gives; those of weight 0 are left out.
        norm: a BatchNorm to fold into weight and bias, with its running statistics.
    """

    matrices: Tensor
    weights: Tensor | None
    disc: Tensor

    def __init__(self, conv: GroupConv, into: Elements, out: Elements, norm: BatchNorm | None = None) -> None:
        super().__init__()
        into, out = _kept(into), _kept(out)
        self.in_channels, self.out_channels, self.kernel_size = conv.in_channels, conv.out_channels, conv.kernel_size
        self.domain, self.group, self.taken = conv.domain, conv.group, len(into)
        self.plain = nn.Conv2d(
            conv.in_channels * len(into),
            conv.out_channels * len(out),
            conv.kernel_size,
            padding=conv.kernel_size // 2 if conv.padding == "same" else 0,
            device="meta",  # no weights are drawn only to be thrown away
        )
        like = next(conv.parameters())
        weight, bias = (tensor.to(like) for tensor in _evaluated(conv, into, out, norm))
        self.plain.weight = nn.Parameter(weight, requires_grad=False)
        self.plain.bias = nn.Parameter(bias, requires_grad=False)
        self.register_buffer("matrices", out.matrices, persistent=False)
        self.register_buffer("weights", out.weights, persistent=False)
        self.register_buffer("disc", conv.disc.clone(), persistent=False)

    def forward(self, f: Signal, at: Elements | None = None) -> Signal:
        """f [batch, in_channels, n_in, h, w] → [batch, out_channels, n_out, h', w']; `at` was fixed and is not read."""
        check_signal(f, self.in_channels)
        if f.group != self.domain or len(f.elements) != self.taken:
            raise ValueError(
                f"the input is on {len(f.elements)} elements of {f.group}, but this layer was frozen for {self.taken} "
                f"of {self.domain}."
            )
        out = Elements(self.group, self.matrices, self.weights)
        values = f.values.flatten(1, 2)  # [batch, (channels n), h, w]
        values = _in_frequencies(self.plain, values, self.disc) if _pays(self.plain, values) else self.plain(values)
        return Signal(values.unflatten(1, (self.out_channels, len(out))), out)

    def __prepare_scriptable__(self) -> Never:
        raise NotImplementedError(
            "torch.jit.script does not know a Signal: torch.jit.trace the frozen model at the size of its images."
        )

    def extra_repr(self) -> str:
        return f"{self.taken} of {self.domain} → {len(self.matrices)} of {self.group}"


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


@torch.no_grad()
def _evaluated(conv: GroupConv, into: Elements, out: Elements, norm: BatchNorm | None) -> tuple[Tensor, Tensor]:
    """weight [(out_channels n_out), (in_channels n_in), k, k] and bias [(out_channels n_out)], float64."""
    conv = copy.deepcopy(conv).cpu().double()
    weight = conv.filters(_double(out), _double(into))
    bias = weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias
    if norm is not None:
        norm = copy.deepcopy(norm).cpu().double()
        scale = (norm.running_var + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight
        bias = (bias - norm.running_mean) * scale
        bias = bias if norm.bias is None else bias + norm.bias
        weight = weight * scale.repeat_interleave(len(out))[:, None, None, None]
    return weight, bias.repeat_interleave(len(out))


def _pays(plain: nn.Module, f: Tensor) -> bool:
    """Whether a plain convolution is to be computed in the frequency domain: where that is faster, and nothing but
    numbers is asked for – no gradient, no graph, no other precision."""
    if type(plain) is not nn.Conv2d or plain._forward_hooks or plain._forward_pre_hooks:
        return False
    asked = torch.is_grad_enabled() and (f.requires_grad or plain.weight.requires_grad)
    if (
        asked
        or transformed()
        or forward_ad._current_level >= 0
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
    ):
        return False
    if torch.onnx.is_in_onnx_export() or torch.is_autocast_enabled(autocasting(f)) or f.dtype != plain.weight.dtype:
        return False
    assert not isinstance(plain.padding, str)
    padding, (out, into, size, _) = plain.padding[0], plain.weight.shape
    shape = shape_of((len(f), into, 1, *f.shape[2:]), (out, into, 0), (1, 0, 1, size, size), padding)
    return shape.images > 0 and spectral_time(shape, calibration(f.dtype, f.device.type)) < CLEARLY


def _in_frequencies(plain: nn.Conv2d, f: Tensor, disc: Tensor) -> Tensor:
    """A plain convolution is one with a feature for every tap; outside the disc its kernel is 0."""
    assert not isinstance(plain.padding, str)
    weight, mask = plain.weight.flatten(2), disc.to(plain.weight.dtype)
    phi = torch.diag(mask.flatten()).view(1, -1, 1, *mask.shape)
    k = FactoredKernel(weight, weight.new_zeros(weight.shape[:2]), phi, phi.new_zeros(1), mask)
    return convolve(f[:, :, None], k, plain.bias, plain.padding[0], "spectral")[:, :, 0]


def _kept(elements: Elements) -> Elements:
    """Without those of weight 0, and without weights where the rest have the same."""
    if elements.weights is None:
        return elements
    kept = elements.weights != 0
    weights = elements.weights[kept]
    alike = bool((weights == weights[0]).all())
    return replace(elements, matrices=elements.matrices[kept], weights=None if alike else weights)


def _double(elements: Elements) -> Elements:
    return pytree.tree_map_only(Tensor, lambda tensor: tensor.cpu().double(), elements)
