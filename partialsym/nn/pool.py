"""Pooling over space and over H, with weighted elements."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialsym._utils.torch_func import eager_on_cpu, first_only, refuse_forward
from partialsym.errors import InputError
from partialsym.groups import T2
from partialsym.signal import Elements, Signal, check_signal

Mode = Literal["max", "mean"]
_MAXIMUM = "maximum over drawn elements"


def check_mode(mode: str) -> None:
    if mode not in ("max", "mean"):
        raise InputError(f"mode is {mode!r}: must be 'max' or 'mean'.")


class SpatialPool(nn.Module):
    """Pools each element's maps over windows with stride `size` that are symmetric about the centre of the image.

    A side of h pixels becomes ⌈h / size⌉. If windows of `size` pixels cannot be symmetric, each is one pixel wider and
    overlaps its neighbours. For size 2, windows have 2 pixels on an even side; on an odd side they have 3, and extend
    one pixel beyond the border. Pixels beyond the border are ignored. The pool therefore commutes with every symmetry
    of the pixel grid, at any height and width.

    Args:
        size: stride and width of the windows in pixels, at least 1.
        mode: `max` or `mean`.
    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, size: int = 2, mode: Mode = "max") -> None:
        super().__init__()
        check_mode(mode)
        if size < 1:
            raise InputError(f"size is {size}: must be at least 1.")
        self.size, self.mode = size, mode

    def forward(self, f: Signal) -> Signal:
        """f [batch, channels, n, h, w] → [batch, channels, n, ⌈h / size⌉, ⌈w / size⌉]."""
        check_signal(f)
        return Signal(
            pool2d(f.values.flatten(1, 2), self.size, self.mode).unflatten(1, f.values.shape[1:3]), f.elements
        )

    def extra_repr(self) -> str:
        return f"{self.size}, mode={self.mode!r}"


def pool2d(x: Tensor, size: int, mode: Mode = "max") -> Tensor:
    """A plain image batch [batch, channels, h, w] pooled as `SpatialPool` does: [batch, channels, ⌈h / size⌉, …]."""
    if mode == "max" and size == 2 and eager_on_cpu(x) and not (x.shape[-2] % 2 or x.shape[-1] % 2):
        return _MaxOfPairs.apply(x) if torch.is_grad_enabled() and x.requires_grad else _of_pairs(x)[2]
    return torchs_pool2d(x, size, mode)


def torchs_pool2d(x: Tensor, size: int, mode: Mode = "max") -> Tensor:
    """The same as `pool2d` by torch's own pools, for all devices and for graphs."""
    sides = map(int, x.shape[-2:]) if torch.jit.is_tracing() else x.shape[-2:]  # in a trace a side is a tensor
    windows, margins = zip(*(symmetric_windows(side, size) for side in sides), strict=True)
    if mode == "max":
        return F.max_pool2d(x, windows, size, margins)
    return F.avg_pool2d(x, windows, size, margins, count_include_pad=False)


def _of_pairs(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Maxima of horizontal pairs in even rows, the same in odd rows, and maxima of 2×2 windows."""
    rows = torch.maximum(x[..., ::2], x[..., 1::2])
    return rows[..., ::2, :], rows[..., 1::2, :], torch.maximum(rows[..., ::2, :], rows[..., 1::2, :])


class _MaxOfPairs(torch.autograd.Function):
    """`max_pool2d` over 2×2 windows, in less than half of the time.

    The first of equal pixels gets the gradient, as in torch. The backward pass needs three booleans per window instead
    of the maps and an index.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        upper, lower, out = _of_pairs(x)
        ctx.save_for_backward(x[..., ::2] >= x[..., 1::2], upper >= lower)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        left, above = ctx.saved_tensors
        up, down = left[..., ::2, :], left[..., 1::2, :]
        right = ~((above & up) | (~above & down))  # faster than torch.where
        height, width = left.shape[-2], 2 * left.shape[-1]
        first = torch.arange(0, height * width, 2 * width)[:, None] + torch.arange(0, width, 2)  # of each window
        index = (~above).view(torch.uint8).long().mul_(width).add_(right.view(torch.uint8)).add_(first)
        like = grad.new_empty(()).expand(*left.shape[:-1], width)  # torch uses only its shape
        return torch.ops.aten.max_pool2d_with_indices_backward(grad, like, [2, 2], [2, 2], [0, 0], [1, 1], False, index)


def symmetric_windows(side: int, size: int) -> tuple[int, int]:
    """(width, margin) of the ⌈side / size⌉ windows with stride `size` that cover a side symmetrically.

    The width is `size` or size + 1 pixels. The outermost windows extend `margin` pixels beyond the border.
    """
    beyond = -side % size
    return size + beyond % 2, (beyond + 1) // 2


class GroupPool(nn.Module):
    """Pools over H to a signal on T(2), by the weighted mean, or by the maximum over the drawn elements S (w_j > 0).

    For `max` the straight-through gradient of the weight w_j is discrete, max(S ∪ {j}) − max(S ∖ {j}). It is defined
    for elements that were not drawn as well, so their probability can grow. Elements that are drawn together, such as
    the rotations of E(2)'s reflected half, count as one j, and the first of them gets the gradient of their weight.

    Args:
        mode: `max` or `mean`.
    Raises:
        ValueError: mode is another one.
    """

    def __init__(self, mode: Mode = "max") -> None:
        super().__init__()
        check_mode(mode)
        self.mode = mode

    def forward(self, f: Signal) -> Signal:
        """f [batch, channels, n, h, w] → [batch, channels, 1, h, w] on T(2)."""
        check_signal(f)
        identity = torch.eye(2, dtype=f.elements.matrices.dtype, device=f.elements.matrices.device)[None]
        return Signal(_over_elements(f.values, f.elements, self.mode).unsqueeze(2), Elements(T2(), identity))


def project(f: Signal, mode: Mode = "max") -> Tensor:
    """Pool over H: a signal → plain maps [batch, channels, height, width], for a dense head of 1×1 convolutions.

    If the network retains its whole group, a transformation of the image moves the maps in the same way and does not
    change their values: the features at a point do not depend on the orientation of the image.

    Args:
        f: [batch, channels, n, height, width].
        mode: `max` or `mean`, as in `GroupPool`.
    Raises:
        ValueError: mode is another one.
    """
    check_signal(f)
    check_mode(mode)
    return _over_elements(f.values, f.elements, mode)


class GlobalPool(nn.Module):
    """Pools over space and then over H: [batch, channels, n, h, w] → [batch, channels].

    Args:
        mode: `max` or `mean`, for both.
    Raises:
        ValueError: mode is another one.
    """

    def __init__(self, mode: Mode = "max") -> None:
        super().__init__()
        check_mode(mode)
        self.mode = mode

    def forward(self, f: Signal) -> Tensor:
        """f [batch, channels, n, h, w] → [batch, channels]."""
        check_signal(f)
        # Space first, so that the discrete gradient of weights is that of the maximum over space and H.
        values = f.values.amax((-2, -1)) if self.mode == "max" else f.values.mean((-2, -1))
        return _over_elements(values, f.elements, self.mode)


class LinearPool(nn.Module):
    """Linear pooling: a maximum over space, multiplied by the elements' weights, then a linear layer over all of them.

    y = W·vec(w_j · max_x f_c(x, h_j)) + b with W [channels, channels·n]. Each column of W belongs to one element.
    A network of group convolutions that ends with this layer is therefore not invariant to the group, on purpose.

    Args:
        channels: channels of the signal and of the output.
        samples: number of elements n, which must always be the same elements in the same order.
    Raises:
        ValueError: an argument is below 1.
    """

    def __init__(self, channels: int, samples: int) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("samples", samples)):
            if value < 1:
                raise InputError(f"{name} is {value}: must be at least 1.")
        self.channels, self.samples = channels, samples
        self.linear = nn.Linear(channels * samples, channels)

    def forward(self, f: Signal) -> Tensor:
        """f [batch, channels, n, h, w] → [batch, channels].

        Raises:
            ValueError: f has other channels or another number of elements.
        """
        check_signal(f, self.channels)
        if len(f.elements) != self.samples:
            raise InputError(
                f"the input is on {len(f.elements)} elements, but this layer was made for {self.samples}: its weights "
                "belong to single elements, so do not use proportional evaluation, other samples or a conversion that "
                "drops elements."
            )
        values = f.values.amax((-2, -1))
        if f.elements.weights is not None:
            values = values * f.elements.weights
        return self.linear(values.flatten(1))

    def extra_repr(self) -> str:
        return f"{self.channels}, samples={self.samples}"


def _over_elements(values: Tensor, elements: Elements, mode: Mode) -> Tensor:
    """Pool axis 2 of values [batch, channels, n, ...]."""
    weights = elements.weights
    if mode == "max" and weights is not None:
        if elements.tied > 1:
            values, weights = values.unflatten(2, (-1, elements.tied)).amax(3), weights[:: elements.tied]
        refuse_forward(_MAXIMUM)
        return _MaxOverDrawn.apply(values, weights)[0]
    if mode == "max":
        return values.amax(2)
    if weights is None:
        return values.mean(2)
    mean = (weights / weights.sum()).to(values.dtype)
    return torch.einsum("bcn...,n->bc...", values, mean)


class _MaxOverDrawn(torch.autograd.Function):
    """The maximum over axis 2 of the elements with weight > 0, with the discrete gradient of the weights."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        n = values.shape[2]
        drawn = (weights > 0).view(-1, *[1] * (values.ndim - 3))
        top, index = values.masked_fill(~drawn, -torch.inf).topk(min(2, n), dim=2)
        return top.select(2, 0), index.narrow(2, 0, 1), top.narrow(2, -1, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs, *output)
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        values, weights, top, index, second = ctx.saved_tensors
        grad, top = grad.unsqueeze(2), top.unsqueeze(2)
        grad_values = torch.zeros_like(values).scatter(2, index, grad)
        # If only one element is drawn, it is e, whose weight is constant and needs no gradient.
        without = (top - second).nan_to_num(posinf=0.0) if values.shape[2] > 1 else torch.zeros_like(top)
        is_top = torch.zeros_like(values, dtype=torch.bool).scatter(2, index, True)
        gain = torch.where(is_top, without, (values - top).relu())  # 0 for drawn elements below the maximum
        axes = [axis for axis in range(values.ndim) if axis != 2]
        wide = torch.promote_types(values.dtype, torch.float32)
        grad_weights = (grad * gain).sum(axes, dtype=wide).to(weights)
        return first_only(_MAXIMUM, grad_values), first_only(_MAXIMUM, grad_weights)
