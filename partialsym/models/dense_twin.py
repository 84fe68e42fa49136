"""Dense twins: plain CNNs with the same convolution shapes as our networks, for comparisons of speed."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from partialsym.errors import InputError, InputTypeError
from partialsym.models.augerino import Augerino
from partialsym.models.convnext import ChannelLinear, GConvNeXt
from partialsym.models.gcnn3 import GCNN3
from partialsym.models.gcnn13 import DROPPED, GCNN13, POOLED
from partialsym.models.gresnet import GResNet
from partialsym.models.staged import GStagedResNet
from partialsym.models.unet import GUNet
from partialsym.nn.conv import GroupConv
from partialsym.nn.norm import BatchNorm
from partialsym.nn.pool import torchs_pool2d
from partialsym.nn.separable import SpatialConv
from partialsym.signal import Elements, Signal


def dense_twin(model: nn.Module) -> nn.Module:
    """A new plain CNN whose channels are those of `model` times its elements, with the same kernel sizes and pools.

    It costs what `model` would cost as plain convolutions. It has its own weights and computes another function.

    Args:
        model: a network of `partialsym.models`.
    Raises:
        ValueError: model is an Augerino; its twin is that of the network inside, with `copies` times the batch.
        TypeError: model is another network without a twin.
    """
    if isinstance(model, Augerino):
        raise InputError("Augerino has no dense twin: pass its `model`; a step costs `copies` times that of `model`.")
    if isinstance(model, GCNN3 | GStagedResNet | GConvNeXt | GUNet):
        return _twin(type(model)(**model.settings))
    if not isinstance(model, GResNet | GCNN13):
        raise InputTypeError(f"{type(model).__name__} has no dense twin: must be a network of partialsym.models.")
    density = model.lifting.codomain
    assert density is not None
    s, n = model.settings, density.samples
    options = {"pools": s["pools"], "head": s["head"], "depth": s["depth"]} if isinstance(model, GResNet) else {}
    shared = (n, s["in_channels"], s["num_classes"], s["width"], s["kernel_size"], s["dropout"])
    return TwinResNet(*shared, **options) if isinstance(model, GResNet) else TwinCNN13(*shared)


class TwinResNet(nn.Module):
    """`GResNet` with plain convolutions; n elements become n times the channels."""

    def __init__(
        self,
        n: int,
        in_channels: int,
        num_classes: int,
        width: int,
        kernel_size: int,
        dropout: float,
        pools: Sequence[str],
        head: str = "group",
        depth: int = 1,
    ) -> None:
        super().__init__()
        w, k = width * n, kernel_size

        def blocks(into: int, out: int) -> nn.Module:
            first, more = TwinBlock(into, out, n, k, dropout), range(depth - 1)
            deeper = [a for _ in more for a in (nn.BatchNorm2d(out), nn.ReLU(), TwinBlock(out, out, n, k, dropout))]
            return nn.Sequential(first, *deeper)

        self.n, self.pools = 1 if head == "plane" else n, tuple(pools)
        self.lifting, self.norm0 = nn.Conv2d(in_channels, w, k, padding="same"), nn.BatchNorm2d(w)
        self.block1, self.norm1 = blocks(w, w), nn.BatchNorm2d(w)
        self.block2, self.norm2 = blocks(w, 2 * w), nn.BatchNorm2d(2 * w)
        out = 2 * width * self.n
        self.last, self.norm3 = nn.Conv2d(2 * w, out, k), nn.BatchNorm2d(out)
        self.linear = nn.Linear(out, 2 * width) if head == "linear" else None
        self.classifier = nn.Linear(2 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self._pool("lifting", self.norm0(self.lifting(x))))
        x = F.relu(self._pool("block1", self.norm1(self.block1(x))))
        x = F.relu(self._pool("block2", self.norm2(self.block2(x))))
        x = F.relu(self.norm3(self.last(x)))
        if self.linear is not None:
            return self.classifier(self.linear(x.amax((2, 3))))
        return self.classifier(x.unflatten(1, (-1, self.n)).amax((2, 3, 4)))

    def _pool(self, place: str, x: Tensor) -> Tensor:
        return torchs_pool2d(x, 2) if place in self.pools else x


class TwinBlock(nn.Module):
    """The residual block with plain convolutions; GroupNorm normalises over (group, height, width)."""

    def __init__(self, into: int, out: int, n: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, kernel_size, padding="same")
        self.conv2 = nn.Conv2d(out, out, kernel_size, padding="same")
        self.norm1, self.norm2 = (nn.GroupNorm(out // n, out, affine=False) for _ in range(2))
        self.shortcut, self.dropout = nn.Conv2d(into, out, 1, bias=False), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.dropout(F.relu(self.norm1(self.conv1(x))))
        return F.relu(self.norm2(self.conv2(inner))) + self.shortcut(x)


class TwinCNN13(nn.Module):
    """`GCNN13` with plain convolutions; n elements become n times the channels."""

    def __init__(
        self, n: int, in_channels: int, num_classes: int, width: int, kernel_size: int, dropout: float
    ) -> None:
        super().__init__()
        widths = [in_channels, *(n * w for w in (width, width, *7 * [2 * width]))]
        self.convs = nn.ModuleList([nn.Conv2d(a, b, kernel_size, padding="same") for a, b in pairwise(widths)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(w) for w in widths[1:]])
        self.n, self.dropout, self.classifier = n, nn.Dropout(dropout), nn.Linear(2 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):  # 0 is the lifting layer
            x = F.relu(norm(conv(x)))
            x = torchs_pool2d(x, 2) if i in POOLED else x
            x = self.dropout(x) if i in DROPPED else x
        return self.classifier(x.unflatten(1, (-1, self.n)).mean((2, 3, 4)))


def _twin(model: GCNN3 | GStagedResNet | GConvNeXt | GUNet) -> nn.Module:
    """Replace the layers of `model` by torch's layers on channels times elements; no layer draws elements."""
    density = model.lifting.codomain
    assert density is not None
    elements = density.eval().sample()
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if (layer := _plain(child, elements)) is not None:
                parent.register_module(name, layer)
    return model


def _plain(layer: nn.Module, elements: Elements) -> "OnChannels | None":
    n = len(elements)
    if isinstance(layer, GroupConv | SpatialConv):
        k, bias = layer.kernel_size, layer.bias is not None
        options: dict[str, Any] = {"stride": layer.stride, "padding": layer.reach, "dilation": layer.dilation}
        if isinstance(layer, SpatialConv):
            channels = layer.channels * n
            return OnChannels(nn.Conv2d(channels, channels, k, groups=channels, bias=bias, **options), elements)
        into = layer.in_channels * (1 if layer.domain.name == "T2" else n)
        return OnChannels(nn.Conv2d(into, layer.out_channels * n, k, bias=bias, **options), elements)
    if isinstance(layer, BatchNorm):
        return OnChannels(nn.BatchNorm2d(layer.channels * n), elements)
    if isinstance(layer, ChannelLinear):
        return OnChannels(nn.Conv2d(layer.in_features * n, layer.out_features * n, 1), elements)
    return None


class OnChannels(nn.Module):
    """A layer of torch on the channels of all elements at once; the output always refers to `elements`."""

    def __init__(self, layer: nn.Module, elements: Elements) -> None:
        super().__init__()
        self.layer, self.elements = layer, elements

    def forward(self, f: Signal | Tensor, elements: Elements | None = None) -> Signal:
        """f [batch, channels, n, h, w], or images [batch, channels, h, w] → [batch, out_channels, n, h', w']."""
        out = self.layer(f.values.flatten(1, 2) if isinstance(f, Signal) else f)
        return Signal(out.unflatten(1, (-1, len(self.elements))), self.elements)
