"""A U-Net on groups, full or partial, for dense prediction."""

from itertools import pairwise
from typing import Any, Unpack

from torch import Tensor, nn

from partialsym.models.backbone import classifier, run
from partialsym.models.layers import LayerOptions, Layers, check_at_least_one, check_dropout
from partialsym.nn.activation import Dropout, ReLU
from partialsym.nn.conv import GroupConv
from partialsym.nn.norm import BatchNorm
from partialsym.nn.pool import Mode, SpatialPool, check_mode, project
from partialsym.nn.precompute import Link, chain, precompute, without_precomputed
from partialsym.nn.resampling import Upsample
from partialsym.signal import Signal, cat


class GUNet(nn.Module):
    """U-Net (Ronneberger et al. 2015) on groups, for an output per pixel.

    The network consists of double convolutions at decreasing, then at increasing resolution, with skip connections. On
    the way up, a signal is mapped to the elements of its skip connection, as `cat` requires, and upsampled to the
    same size. Images may therefore have any height and width. `project` then leaves the group, and a linear layer
    predicts the classes of every pixel.

    With `partial=False`, the output is equivariant, f(g·x) = g·f(x), for every symmetry g of the pixel grid in the
    group. With `partial`, every double convolution on the way down learns its part of the group; on the way up, each
    level uses the same elements.

    Args:
        group: name of the base group, as in `partialsym.group`.
        in_channels: channels of the images.
        num_classes: number of classes; 0 returns `num_features` features per pixel.
        width: channels at full resolution; each level doubles them.
        levels: number of resolutions, including the full one.
        mode: projection by `max` or `mean` over the elements.
        dropout: dropout probability between the two convolutions of the lowest level.
        checkpoint: store only the inputs of the double convolutions for the backward pass, and recompute them there.
        options: see `LayerOptions`; kernel_size is 3 and hidden is 8 by default. `learned_layers="last"` learns the
            density at full resolution, on whose elements the output lies.
    Raises:
        ValueError: an argument is out of range.

    >>> import torch
    >>> GUNet("SE2", samples=4, width=2, levels=2)(torch.randn(1, 3, 15, 20)).shape
    torch.Size([1, 2, 15, 20])
    """

    def __init__(
        self,
        group: str = "SE2",
        *,
        in_channels: int = 3,
        num_classes: int = 2,
        width: int = 16,
        levels: int = 4,
        mode: Mode = "max",
        dropout: float = 0.0,
        checkpoint: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        check_at_least_one(in_channels=in_channels, width=width, levels=levels)
        check_dropout(dropout)
        check_mode(mode)
        defaults: LayerOptions = {"kernel_size": 3, "hidden": 8}
        layers = Layers(group, **(defaults | options))
        self.in_channels, self.num_classes, self.num_features = in_channels, num_classes, width
        self.mode, self.checkpoint = mode, checkpoint
        self.settings: dict[str, Any] = {
            "group": group,
            "in_channels": in_channels,
            "num_classes": num_classes,
            "width": width,
            "levels": levels,
            "mode": mode,
            "dropout": dropout,
            "checkpoint": checkpoint,
            **layers.options,
        }
        widths = [width * 2**i for i in range(levels)]
        self.lifting, self.norm, self.act = layers.lifting(in_channels, width, bias=False), BatchNorm(width), ReLU()
        self.shrink, self.up = SpatialPool(2), Upsample(2)
        self.down, self.merge, self.rise = (
            nn.ModuleDict(),
            nn.ModuleDict(),
            nn.ModuleDict(),
        )  # keys: levels; 1 is the full resolution
        for i, (into, out) in enumerate(pairwise([width, *widths]), 1):
            density = layers.last if i == 1 else layers.inner
            convs = layers.conv(into, out, bias=False), layers.conv(out, out, density, bias=False)
            self.down[str(i)] = DoubleConv(*convs, dropout=dropout if i == levels else 0.0)
        for i in range(levels - 1, 0, -1):
            w = widths[i - 1]
            self.merge[str(i)] = layers.given(2 * w, w, size=1)
            self.rise[str(i)] = DoubleConv(*(layers.given(c, w, bias=False) for c in (2 * w, w)))
        self.classifier = classifier(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [batch, in_channels, height, width] → logits [batch, num_classes, height, width]."""
        values = project(self.features(images), self.mode)
        return self.classifier(values.movedim(1, -1)).movedim(-1, 1)

    def features(self, images: Tensor) -> Signal:
        """The signal at full resolution before the projection, [batch, num_features, n, height, width]."""
        f = self.act(self.norm(self.lifting(precompute(self, images, self._links()))))
        skipped: list[Signal] = []
        for conv in self.down.values():
            f = self.shrink(f) if skipped else f
            f = run(conv, f, save_memory=self.checkpoint)
            skipped.append(f)
        skipped.pop()
        for merge, conv in zip(self.merge.values(), self.rise.values(), strict=True):
            skip = skipped.pop()
            f = self.up(
                merge(f, elements=skip.elements), size=skip.values.shape[-2:]
            )  # merging is cheaper before upsampling
            f = run(conv, cat([skip, f]), save_memory=self.checkpoint)
        return without_precomputed(f)

    def _links(self) -> list[Link]:
        links, drew = chain(self.lifting), []
        for down in (block for block in self.down.values() if isinstance(block, DoubleConv)):
            links += chain(down.conv1, down.conv2, into=links[-1].out)
            drew.append(down.conv2)
        rising = zip(self.merge.values(), self.rise.values(), drew[::-1], drew[-2::-1], strict=False)  # or replaced
        for merge, rise, before, at in rising:
            if isinstance(rise, DoubleConv):
                links += [Link(merge, before, at), Link(rise.conv1, at, at), Link(rise.conv2, at, at)]
        return links


class DoubleConv(nn.Module):
    """Convolution, BatchNorm and ReLU, twice; if conv2 has no density, both map to the elements of the input."""

    def __init__(self, conv1: GroupConv, conv2: GroupConv, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv1, BatchNorm(conv1.out_channels)
        self.conv2, self.norm2 = conv2, BatchNorm(conv2.out_channels)
        self.act, self.dropout, self.draws = ReLU(), Dropout(dropout), conv2.codomain is not None

    def forward(self, f: Signal) -> Signal:
        """f [batch, channels, n, h, w] → [batch, out_channels, n_out, h, w]."""
        given = None if self.draws else f.elements
        f = self.dropout(self.act(self.norm1(self.conv1(f, elements=given))))
        return self.act(self.norm2(self.conv2(f, elements=given)))
