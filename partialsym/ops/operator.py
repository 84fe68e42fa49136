"""The convolution as a custom operator of torch: opaque to the compiler, with its own backward pass."""

from collections.abc import Callable
from types import NoneType
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from partialsym._utils.layout import empty, is_channels_last, packed
from partialsym._utils.torch_func import eager_on_cpu, refuse_forward, refuse_second, transformed
from partialsym._utils.torch_private import dispatch_watched, of_many_gradients
from partialsym.errors import UnsupportedError
from partialsym.ops.batching import one_by_one, over_images
from partialsym.ops.choice import computed_in, pays_channels_last, resolved, shape_of
from partialsym.ops.conv2d import Options
from partialsym.ops.orders import FactoredKernel, dense, dense_backward, factored, factored_backward
from partialsym.ops.spectral import spectral, spectral_backward


def convolve(
    f: Tensor,
    k: FactoredKernel,
    offset: Tensor | None,
    padding: int,
    path: str = "auto",
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve f with a factored kernel:

        out[b, o, m, x] = Σ_{i, n, t} k[o, m, i, n, t]·f[b, i, n, stride·x + dilation·t] + offset[o].

    Args:
        f: [b, in, n, h, w], in the dtype to compute in; `in` is the kernel's `in` times groups.
        k: the kernel, usually in float32; it is rounded to f's dtype as late as possible.
        offset: [out].
        padding: zeros on each side.
        path: as in `GroupConv`; `spectral` computes at least in float32.
        stride, dilation, groups: as in `torch.nn.functional.conv2d`.
    Returns:
        [b, out, m, h', w'].
    Raises:
        NotImplementedError: a forward-mode or second derivative, or an export to ONNX.
    """
    _refuse_onnx()
    refuse_forward("convolution")
    channels_last = False
    if eager_on_cpu(f):
        shape = shape_of(f.shape, k.weight.shape, k.phi.shape, padding, stride, dilation, groups)
        path = resolved(path, shape, f.dtype)
        channels_last = f.dtype == torch.float32 and pays_channels_last(path, shape, is_channels_last(f))
        if _is_unseen(f, *k, offset):
            return _Unseen.apply(f, *k, offset, padding, stride, dilation, groups, path, channels_last)
    return _run(f, *k, offset, padding, stride, dilation, groups, path, channels_last)


def _run(*arguments: Any) -> Tensor:
    return _Convolve.apply(*arguments) if transformed() else _convolve(*arguments)


def _run_backward(*arguments: Any) -> tuple[Tensor, ...]:
    return _ConvolveBackward.apply(*arguments) if transformed() else _convolve_backward(*arguments)


def _is_unseen(*tensors: Tensor | None) -> bool:
    """Whether nothing looks at the operator, so that it may be computed past torch's dispatcher.

    For a small layer the dispatcher takes as long as the arithmetic.
    """
    return not dispatch_watched() and {type(part) for part in tensors} <= {Tensor, Parameter, NoneType}


def _refuse_onnx() -> None:
    if torch.onnx.is_in_onnx_export():
        raise UnsupportedError(
            "ONNX has no group convolution: convert the model with partialsym.to_conv2d before the export."
        )


def _value(
    f: Tensor,
    weight: Tensor,
    bias: Tensor,
    phi: Tensor,
    mean: Tensor | None,
    disc: Tensor,
    offset: Tensor | None,
    padding: int,
    stride: int,
    dilation: int,
    groups: int,
    path: str,
    channels_last: bool,
) -> Tensor:
    _refuse_onnx()
    options = Options(padding, stride, dilation, groups)
    order = resolved(path, shape_of(f.shape, weight.shape, phi.shape, *options), f.dtype, f.device.type)
    dtype = computed_in(order, f.dtype)
    k = FactoredKernel(weight, bias, phi, mean, disc).to(dtype)
    offset = None if offset is None else offset.to(dtype)
    with torch.autocast(f.device.type, enabled=False):
        if order == "factored":
            return factored(f.contiguous(), k.weighted(), offset, options)
        if order == "spectral":
            return spectral(packed(f), k.weighted(), offset, options, channels_last)
        out = dense(f, k, offset, options, channels_last)
        return out if channels_last else out.contiguous()  # a compiler relies on the layout


_convolve = torch.library.custom_op("partialsym::convolve", _value, mutates_args=())


@_convolve.register_fake
def _(
    f: Tensor,
    weight: Tensor,
    bias: Tensor,
    phi: Tensor,
    mean: Tensor | None,
    disc: Tensor,
    offset: Tensor | None,
    padding: int,
    stride: int,
    dilation: int,
    groups: int,
    path: str,
    channels_last: bool,
) -> Tensor:
    _refuse_onnx()
    size = Options(padding, stride, dilation).size(f.shape[3], f.shape[4], len(disc))
    shape = (f.shape[0], len(weight), len(phi), *size)  # len() makes these sizes static
    return empty(f, shape, channels_last)


def _backward_of(
    grad: Tensor,
    f: Tensor,
    weight: Tensor,
    bias: Tensor,
    phi: Tensor,
    mean: Tensor | None,
    disc: Tensor,
    padding: int,
    stride: int,
    dilation: int,
    groups: int,
    path: str,
    wanted: bool,
    shifted: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    options = Options(padding, stride, dilation, groups)
    order = resolved(path, shape_of(f.shape, weight.shape, phi.shape, *options), f.dtype, f.device.type)
    k = FactoredKernel(weight, bias, phi, mean, disc).to(computed_in(order, f.dtype))
    with torch.autocast(f.device.type, enabled=False):
        if order == "dense":
            g = dense_backward(grad, f, k, options, wanted)
        elif order == "factored":
            g = factored_backward(grad.contiguous(), f.contiguous(), k.weighted(), options, wanted)
        else:
            g = spectral_backward(packed(grad), packed(f), k.weighted(), options, wanted)
    d_mean, d_phi = None if mean is None else g.mean, g.phi
    d_phi = d_phi if order == "dense" or mean is not None else d_phi * k.share
    d_offset = _sum_per_channel(grad) if shifted else None
    d_weight, d_bias, d_phi, d_mean, d_offset = (
        weight.new_empty(0) if part is None else part.to(weight.dtype).contiguous()
        for part in (g.weight, g.bias, d_phi, d_mean, d_offset)
    )
    return f.new_empty(0) if g.f is None else _laid_out(g.f, f), d_weight, d_bias, d_phi, d_mean, d_offset


def _laid_out(d_f: Tensor, f: Tensor) -> Tensor:
    """d_f with the strides of `torch.empty_like(f)`, on which a compiler relies."""
    like = torch.empty_like(f, device="meta")
    return d_f if d_f.stride() == like.stride() else torch.empty_like(f).copy_(d_f)


def _sum_per_channel(grad: Tensor) -> Tensor:
    dtype = torch.promote_types(grad.dtype, torch.float32)
    if is_channels_last(grad):  # all channels of a pixel together, not one element after the other
        return grad.flatten(1, 2).sum((0, 2, 3), dtype=dtype).view(grad.shape[1:3]).sum(1)
    return grad.sum((0, 2, 3, 4), dtype=dtype)


_convolve_backward = torch.library.custom_op("partialsym::convolve_backward", _backward_of, mutates_args=())


@_convolve_backward.register_fake
def _(
    grad: Tensor,
    f: Tensor,
    weight: Tensor,
    bias: Tensor,
    phi: Tensor,
    mean: Tensor | None,
    disc: Tensor,
    padding: int,
    stride: int,
    dilation: int,
    groups: int,
    path: str,
    wanted: bool,
    shifted: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    d_f = torch.empty_like(f) if wanted else f.new_empty(0)
    d_weight, d_bias, d_phi = (part.new_empty(part.shape) for part in (weight, bias, phi))
    d_mean = weight.new_empty(0 if mean is None else mean.shape)
    return d_f, d_weight, d_bias, d_phi, d_mean, weight.new_empty(len(weight) if shifted else 0)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    tensors, (offset, *rest, _) = inputs[:6], inputs[6:]
    ctx.save_for_backward(*tensors)
    ctx.rest, ctx.offset = rest, offset is not None


def _backward(
    ctx: Any, grad: Tensor, run: Callable[..., tuple[Tensor, ...]] = _run_backward
) -> tuple[Tensor | None, ...]:
    saved, wanted = ctx.saved_tensors, ctx.needs_input_grad[0]  # checkpointing lets them be read once
    d_f, *d_kernel, d_mean, d_offset = run(grad, *saved, *ctx.rest, wanted, ctx.offset)
    ends = (None if saved[4] is None else d_mean, None, d_offset if ctx.offset else None)
    return (d_f if wanted else None, *d_kernel, *ends, *[None] * (len(ctx.rest) + 1))


def _no_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    pass


def _no_backward(ctx: Any, *gradients: Tensor) -> Any:
    refuse_second("convolution")


class _Unseen(torch.autograd.Function):
    """`_convolve` past torch's dispatcher."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        out = _value(*arguments)
        _setup(ctx, arguments, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        plain = eager_on_cpu(grad) and _is_unseen(grad) and not (torch.is_grad_enabled() or of_many_gradients(grad))
        return _backward(ctx, grad, _backward_of if plain else _run_backward)


class _Convolve(torch.autograd.Function):
    """`_convolve` for the transforms of torch.func."""

    forward = staticmethod(_convolve)
    setup_context = staticmethod(_setup)
    backward = staticmethod(_backward)
    vmap = staticmethod(over_images(_run))


class _ConvolveBackward(torch.autograd.Function):
    """`_convolve_backward` for the transforms of torch.func."""

    forward = staticmethod(_convolve_backward)
    setup_context = staticmethod(_no_setup)
    backward = staticmethod(_no_backward)
    vmap = staticmethod(one_by_one(_run_backward))


_convolve.register_autograd(_backward, setup_context=_setup)
_convolve_backward.register_autograd(_no_backward, setup_context=_no_setup)
_convolve.register_vmap(over_images(_run))
_convolve_backward.register_vmap(one_by_one(_run_backward))
