"""The group-equivariant ResNet of the paper, full or partial, on any group."""

from collections.abc import Sequence
from functools import partial as bind
from typing import Any, Literal, Unpack

from torch import Tensor, nn
from torch.nn import functional as F

from partialsym.densities import dirac
from partialsym.errors import InputError
from partialsym.groups import T2
from partialsym.models.backbone import classifier
from partialsym.models.layers import LayerOptions, Layers, check_at_least_one, check_dropout
from partialsym.nn.activation import ReLU
from partialsym.nn.conv import GroupConv
from partialsym.nn.fused import norm_and_pool
from partialsym.nn.norm import BatchNorm, InstanceNorm
from partialsym.nn.pool import GlobalPool, LinearPool, SpatialPool
from partialsym.nn.precompute import Link, chain, precompute, without_precomputed
from partialsym.signal import Signal

PLACES = ("lifting", "block1", "block2")
HEADS = ("group", "plane", "linear")


class GResNet(nn.Module):
    """The residual network of Romero & Lohit (2022, appendix).

    It consists of a lifting convolution, residual blocks of widths w and 2w, a `valid` group convolution, a maximum
    over group and space, and a linear layer. With `partial`, every group convolution after lifting learns its part of
    the group; shortcuts have no density. On T(2) it is a plain ResNet.

    With `partial=False` and the head `group`, the network is invariant to the whole group. The other two heads break
    this invariance after the last equivariant layer, as in the paper.

    Args:
        group: name of the base group, as in `partialsym.group`.
        in_channels: channels of the images.
        num_classes: number of classes; 0 returns `num_features` features per image.
        width: w, channels after lifting.
        depth: number of residual blocks per width, 1 in the paper. BatchNorm and ReLU separate them.
        pools: layers before a 2×2 maximum, from `lifting`, `block1`, `block2`.
        dropout: dropout probability inside the residual blocks.
        head: `group` computes the maximum over the group. With `plane` (the paper's T(2) head), the last convolution
            projects to T(2). `linear` (the paper's linear pooling) is a LinearPool, which weights each element
            separately; the last convolution then keeps the whole group.
        options: see `LayerOptions`; kernel_size is 7 and hidden is 32 by default.
    Raises:
        ValueError: an argument is out of range, or sampling is `iid` with the head `linear`.
    """

    def __init__(
        self,
        group: str = "SE2",
        *,
        in_channels: int = 1,
        num_classes: int = 10,
        width: int = 32,
        depth: int = 1,
        pools: Sequence[str] = ("lifting", "block1"),
        dropout: float = 0.0,
        head: Literal["group", "plane", "linear"] = "group",
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        check_at_least_one(in_channels=in_channels, width=width, depth=depth)
        check_dropout(dropout)
        _check_pools(pools)
        layers = Layers(group, **options)
        _check_head(head, layers.options["sampling"])
        self.in_channels, self.num_classes = in_channels, num_classes
        self.settings: dict[str, Any] = {
            "group": group,
            "in_channels": in_channels,
            "num_classes": num_classes,
            "width": width,
            "depth": depth,
            "pools": pools,
            "dropout": dropout,
            "head": head,
            **layers.options,
        }

        def pool(place: str) -> nn.Module:
            return SpatialPool(2) if place in pools else nn.Identity()

        def block(into: int, out: int) -> ResidualBlock:
            shortcut = layers.shortcut(into, out)
            return ResidualBlock(layers.conv(into, out), layers.conv(out, out), shortcut, dropout)

        def blocks(into: int, out: int) -> nn.Module:
            first, more = block(into, out), range(depth - 1)
            deeper = [layer for _ in more for layer in (BatchNorm(out), ReLU(), block(out, out))]
            return nn.Sequential(first, *deeper) if deeper else first

        self.lifting = layers.lifting(in_channels, width)
        self.norm0, self.pool0 = BatchNorm(width), pool("lifting")
        self.block1, self.norm1, self.pool1 = blocks(width, width), BatchNorm(width), pool("block1")
        self.block2, self.norm2, self.pool2 = blocks(width, 2 * width), BatchNorm(2 * width), pool("block2")
        density = {"group": layers.last, "plane": bind(dirac, T2()), "linear": layers.whole}[head]
        self.last, self.norm3 = layers.conv(2 * width, 2 * width, density, padding="valid"), BatchNorm(2 * width)
        self.pool = LinearPool(2 * width, layers.whole().samples) if head == "linear" else GlobalPool("max")
        self.num_features = 2 * width
        self.classifier = classifier(2 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [batch, in_channels, height, width] → logits [batch, num_classes], or features."""
        return self.classifier(self.pool(self.features(images)))

    def features(self, images: Tensor) -> Signal:
        """Images → the signal before global pooling, [batch, 2w, n, h', w'] on the base group (on T(2): n = 1)."""
        height, width = images.shape[-2:]
        if min(height, width) < (k := self.settings["kernel_size"]):
            raise InputError(f"the images of {height}×{width} pixels are smaller than the {k}×{k} kernel.")
        f = precompute(self, Signal.image(images), self._links())
        f = norm_and_pool(self.norm0, self.pool0, self.lifting(f)).map(F.relu)
        f = norm_and_pool(self.norm1, self.pool1, self.block1(f)).map(F.relu)
        f = norm_and_pool(self.norm2, self.pool2, self.block2(f)).map(F.relu)
        return without_precomputed(self.norm3(self.last(f)).map(F.relu))

    def _links(self) -> list[Link]:
        links = chain(self.lifting)
        for part in (self.block1, self.block2):
            for block in part if isinstance(part, nn.Sequential) else [part]:
                links += _block_links(block, links[-1].out) if isinstance(block, ResidualBlock) else []
        return links + chain(self.last, into=links[-1].out)


class ResidualBlock(nn.Module):
    """Residual block: conv1 → InstanceNorm → ReLU → dropout → conv2 → InstanceNorm → ReLU, plus a pointwise shortcut.

    The shortcut maps to the elements that conv2 draws.

    Args:
        conv1, conv2: group convolutions with densities.
        shortcut: pointwise group convolution whose codomain is a group.
        dropout: dropout probability.
    """

    def __init__(self, conv1: GroupConv, conv2: GroupConv, shortcut: GroupConv, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv1, InstanceNorm(conv1.out_channels)
        self.conv2, self.norm2 = conv2, InstanceNorm(conv2.out_channels)
        self.shortcut, self.dropout = shortcut, nn.Dropout(dropout)

    def forward(self, f: Signal) -> Signal:
        """f [batch, channels, n, h, w] → [batch, out_channels, n_out, h, w]."""
        inner = self.norm1(self.conv1(f)).map(F.relu).map(self.dropout)
        out = self.norm2(self.conv2(inner)).map(F.relu)
        return out + self.shortcut(f, elements=out.elements)


def _block_links(block: ResidualBlock, into: nn.Module) -> list[Link]:
    """The convolutions of a block, where `into` draws the elements of its input."""
    return [*chain(block.conv1, block.conv2, into=into), Link(block.shortcut, into, block.conv2)]


def _check_pools(pools: Sequence[str]) -> None:
    if isinstance(pools, str):
        raise InputError(f"pools is {pools!r}: must be a sequence, such as ({pools!r},).")
    if unknown := [place for place in pools if place not in PLACES]:
        raise InputError(f"pools contains {unknown[0]!r}: must be from {', '.join(PLACES)}.")


def _check_head(head: str, sampling: str) -> None:
    if head not in HEADS:
        raise InputError(f"head is {head!r}: must be one of {', '.join(HEADS)}.")
    if head == "linear" and sampling == "iid":
        raise InputError("head is 'linear', which has weights for single elements: sampling must be 'systematic'.")
