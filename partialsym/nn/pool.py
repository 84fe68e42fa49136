"""Pooling over space and over H, with weighted elements."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partialsym._utils.layout import is_channels_last
from partialsym._utils.torch_func import eager_on_cpu, first_only, refuse_forward
from partialsym.errors import InputError
from partialsym.groups import T2
from partialsym.signal import Elements, Signal, check_signal

Mode = Literal["max", "mean"]
_MAXIMUM = "maximum over drawn elements"


def check_mode(mode: str) -> None:
    if mode not in ("max", "mean"):
        raise InputError(f"mode is {mode!r}: must be 'max' or 'mean'.")


_HALVINGS = {2: 1, 4: 2, 8: 3}  # sides of windows, and how often to take the maxima of 2×2 pixels


class SpatialPool(nn.Module):
    """Spatial pooling at stride `size`, in windows that lie symmetrically about the centre of the image.

    A side of h pixels becomes ⌈h / size⌉. If windows of `size` pixels cannot lie symmetrically, each is one pixel wider
    and overlaps its neighbour. At size 2, an even side has windows of 2 pixels, and an odd side has windows of 3, which
    reach one pixel beyond the border. Pixels beyond the border are ignored. So the pool commutes with every symmetry of
    the pixel grid, at any height and width.

    Args:
        size: stride in pixels, at least 1.
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
    """Pool plain images as `SpatialPool` does: [batch, channels, h, w] → [batch, channels, ⌈h / size⌉, ⌈w / size⌉]."""
    halves = mode == "max" and size in _HALVINGS and eager_on_cpu(x) and x.is_contiguous()
    if halves and not (x.shape[-2] % size or x.shape[-1] % size):
        for _ in range(_HALVINGS[size]):
            x = _MaxOfPairs.apply(x) if torch.is_grad_enabled() and x.requires_grad else _of_pairs(x)[2]
        return x
    return torchs_pool2d(x, size, mode)


def torchs_pool2d(x: Tensor, size: int, mode: Mode = "max") -> Tensor:
    """`pool2d` by torch's own pools, on any device and in any graph."""
    sides = map(int, x.shape[-2:]) if torch.jit.is_tracing() else x.shape[-2:]  # traced sides are tensors
    windows, margins = zip(*(symmetric_windows(side, size) for side in sides), strict=True)
    if mode == "max":
        return F.max_pool2d(x, windows, size, margins)
    return F.avg_pool2d(x, windows, size, margins, count_include_pad=False)


def _of_pairs(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Maxima in windows of 2×2: of the upper pair of pixels, of the lower pair, and of both."""
    rows = torch.maximum(x[..., ::2], x[..., 1::2])
    return rows[..., ::2, :], rows[..., 1::2, :], torch.maximum(rows[..., ::2, :], rows[..., 1::2, :])


class _MaxOfPairs(torch.autograd.Function):
    """`max_pool2d` over 2×2 windows of contiguous maps, in less than half of the time.

    As in torch, the first of equal pixels of a 2×2 window gets the gradient. The backward pass needs only three
    booleans per window, not the maps and an index.
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
        first = torch.arange(0, height * width, 2 * width)[:, None] + torch.arange(0, width, 2)  # pixel of each window
        index = (~above).view(torch.uint8).long().mul_(width).add_(right.view(torch.uint8)).add_(first)
        like = grad.new_empty(()).expand(*left.shape[:-1], width)  # torch reads only its shape
        return torch.ops.aten.max_pool2d_with_indices_backward(grad, like, [2, 2], [2, 2], [0, 0], [1, 1], False, index)


def symmetric_windows(side: int, size: int) -> tuple[int, int]:
    """The ⌈side / size⌉ windows at stride `size` that cover a side symmetrically.

    Returns:
        (width, margin): windows of `size` or `size` + 1 pixels, which reach `margin` pixels beyond each border.
    """
    beyond = -side % size
    return size + beyond % 2, (beyond + 1) // 2


class GroupPool(nn.Module):
    """Pooling over H: the weighted mean, or the maximum over the drawn elements; the result is a signal on T(2).

    The straight-through gradient of the maximum with respect to the weight w_j is the difference
    max(S ∪ {j}) − max(S ∖ {j}), with S the set of drawn elements. So an element that was not drawn has a gradient, too.
    Elements that are drawn together, such as the rotations in E(2)'s mirrored half, count as one j. The first of them
    receives the gradient of their weight.

    Args:
        mode: `max` or `mean`.
    Raises:
        ValueError: another mode.
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
    """Project a signal to the plane: the maximum or weighted mean over H.

    If a network keeps its whole group, these maps move with the image under every element and do not change otherwise.
    A dense head of torch's 1×1 convolutions can use them as features per pixel that do not depend on the orientation.

    Args:
        f: signal [batch, channels, n, height, width].
        mode: `max` or `mean`, as in `GroupPool`.
    Returns:
        Plain maps [batch, channels, height, width].
    Raises:
        ValueError: another mode.
    """
    check_signal(f)
    check_mode(mode)
    return _over_elements(f.values, f.elements, mode)


class GlobalPool(nn.Module):
    """Pooling over space, then over H.

    Args:
        mode: `max` or `mean`, as in `GroupPool`.
    Raises:
        ValueError: another mode.
    """

    def __init__(self, mode: Mode = "max") -> None:
        super().__init__()
        check_mode(mode)
        self.mode = mode

    def forward(self, f: Signal) -> Tensor:
        """f [batch, channels, n, h, w] → [batch, channels]."""
        check_signal(f)
        if self.mode == "max" and f.elements.weights is None:
            return f.values.amax((2, 3, 4))
        # Space first, so that the discrete gradient of weights is that of the maximum over space and H.
        values = f.values.amax((-2, -1)) if self.mode == "max" else _mean_over_space(f.values)
        return _over_elements(values, f.elements, self.mode)


class LinearPool(nn.Module):
    """Linear pooling: a linear layer of the spatial maxima of all elements.

        y = W·vec(w_j · max_x f_c(x, h_j)) + b, with W [channels, channels·n].

    Every entry of W belongs to one element. A network that ends in this layer is therefore not invariant to the group,
    even if all its group convolutions are equivariant.

    Args:
        channels: channels of the signal and of the output.
        samples: number of elements n; every signal must have the same elements in the same order.
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
                f"the input is on {len(f.elements)} elements, but this layer was made for {self.samples}: each of its "
                "weights belongs to one element, so it supports neither proportional evaluation, nor other samples, "
                "nor a conversion that drops elements."
            )
        values = f.values.amax((-2, -1))
        if f.elements.weights is not None:
            values = values * f.elements.weights
        return self.linear(values.flatten(1))

    def extra_repr(self) -> str:
        return f"{self.channels}, samples={self.samples}"


def _mean_over_space(values: Tensor) -> Tensor:
    """values [b, c, n, h, w] → [b, c, n], with a gradient in the layout of the values."""
    if not is_channels_last(values):
        return values.mean((-2, -1))
    return values.flatten(1, 2).flatten(2).mT.mean(1).unflatten(1, values.shape[1:3])


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
    shares = elements.mean_weights()
    if shares is None:
        return values.mean(2)
    return torch.einsum("bcn...,n->bc...", values, shares.to(values.dtype))


class _MaxOverDrawn(torch.autograd.Function):
    """Maximum over axis 2 of the elements with weight > 0; the weights receive the gradient of `GroupPool`."""

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
        gain = torch.where(is_top, without, (values - top).relu())  # a drawn element below the maximum changes nothing
        axes = [axis for axis in range(values.ndim) if axis != 2]
        wide = torch.promote_types(values.dtype, torch.float32)
        grad_weights = (grad * gain).sum(axes, dtype=wide).to(weights)
        return first_only(_MAXIMUM, grad_values), first_only(_MAXIMUM, grad_weights)
