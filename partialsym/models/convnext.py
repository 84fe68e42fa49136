"""A ConvNeXt on groups, with separable convolutions: cheaper than joint ones over space, group and channels."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from partialsym.models.backbone import check_blocks, classifier, run
from partialsym.models.layers import LayerOptions, Layers, check_at_least_one, check_dropout
from partialsym.nn.activation import Activation, Dropout
from partialsym.nn.norm import BatchNorm
from partialsym.nn.pool import GlobalPool, SpatialPool
from partialsym.nn.precompute import Link, chain, precompute, without_precomputed
from partialsym.nn.separable import SeparableGroupConv
from partialsym.signal import Signal, autocasting, check_signal

SCALE = 0.1  # initial γ of a block


class GConvNeXt(nn.Module):
    """ConvNeXt (Liu et al. 2022) on groups, with separable group convolutions (Knigge et al. 2022).

    The network consists of a strided stem, stages of residual blocks, a mean over group and space, and a linear layer.
    A block first mixes the channels and elements of each pixel. Then it convolves each channel of each element in
    space, and mixes channels by two linear layers with `expansion` times the width between them. With w channels, n
    elements and k×k pixels it costs w²·n² + w·n·k² + 2·expansion·w²·n multiplications per pixel. BatchNorm replaces
    LayerNorm.

    Each stage after the first begins with a mean over 2×2 pixels and a pointwise convolution that draws the elements of
    the stage. With `partial`, these densities are learned; the first stage keeps the whole group.

    Args:
        group: name of the base group, as in `partialsym.group`.
        in_channels: channels of the images.
        num_classes: number of classes; 0 returns `num_features` features per image.
        width: channels of the first stage; each stage doubles them.
        blocks: number of blocks per stage.
        stem_stride: stride of the stem. Its kernel is max(3, 2·stem_stride − 1) pixels wide.
        expansion: width between the two linear layers of a block, relative to the width of the block.
        dropout: dropout probability between the two linear layers.
        checkpoint: store only the inputs of the blocks for the backward pass, and recompute the blocks there.
        options: see `LayerOptions`; kernel_size is 5 and hidden is 8 by default. `learned_layers="last"` learns the
            density of the last stage.
    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        group: str = "SE2",
        *,
        in_channels: int = 3,
        num_classes: int = 10,
        width: int = 32,
        blocks: Sequence[int] = (2, 2, 4, 2),
        stem_stride: int = 4,
        expansion: int = 4,
        dropout: float = 0.0,
        checkpoint: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        check_at_least_one(in_channels=in_channels, width=width, stem_stride=stem_stride, expansion=expansion)
        check_blocks(blocks)
        check_dropout(dropout)
        defaults: LayerOptions = {"kernel_size": 5, "hidden": 8}
        layers = Layers(group, **(defaults | options))
        self.in_channels, self.num_classes, self.checkpoint = in_channels, num_classes, checkpoint
        self.settings: dict[str, Any] = {
            "group": group,
            "in_channels": in_channels,
            "num_classes": num_classes,
            "width": width,
            "blocks": list(blocks),
            "stem_stride": stem_stride,
            "expansion": expansion,
            "dropout": dropout,
            "checkpoint": checkpoint,
            **layers.options,
        }
        widths = [width * 2**i for i in range(len(blocks))]
        size = max(3, 2 * stem_stride - 1)
        self.lifting = layers.lifting(in_channels, width, size=size, stride=stem_stride, bias=False)
        self.norm = BatchNorm(width)
        self.shrink = SpatialPool(2, "mean")
        self.drawn, self.norms = nn.ModuleDict(), nn.ModuleDict()  # keys: numbers of stages, from 1
        for i, pair in enumerate(pairwise(widths), 2):
            density = layers.last if i == len(blocks) else layers.inner
            self.drawn[str(i)] = layers.conv(*pair, density, size=1, bias=False)
            self.norms[str(i)] = BatchNorm(pair[1])
        self.stages = nn.ModuleDict(
            {
                str(i): nn.Sequential(*(SeparableBlock(layers, w, expansion, dropout) for _ in range(count)))
                for i, (w, count) in enumerate(zip(widths, blocks, strict=True), 1)
            }
        )
        self.norm_last, self.pool, self.num_features = BatchNorm(widths[-1]), GlobalPool("mean"), widths[-1]
        self.classifier = classifier(self.num_features, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [batch, in_channels, height, width] → logits [batch, num_classes], or features."""
        return self.classifier(self.pool(self.features(images)))

    def features(self, images: Tensor) -> Signal:
        """The signal before global pooling, [batch, num_features, n, h, w].

        The stem divides each side by `stem_stride`, and each stage after the first divides it by 2, rounding up.
        """
        f = self.norm(self.lifting(precompute(self, images, self._links())))
        for name, stage in self.stages.items():
            if name in self.drawn:
                f = self.norms[name](self.drawn[name](self.shrink(f)))
            for block in stage.children():
                f = run(block, f, save_memory=self.checkpoint)
        return without_precomputed(self.norm_last(f))

    def _links(self) -> list[Link]:
        links = chain(self.lifting)
        for name, stage in self.stages.items():
            links += chain(self.drawn[name], into=links[-1].out) if name in self.drawn else []
            at = links[-1].out
            blocks = list(stage) if isinstance(stage, nn.Sequential) else []
            convs = (block.conv for block in blocks if isinstance(block, SeparableBlock))
            links += [Link(conv.pointwise, at, at) for conv in convs if isinstance(conv, SeparableGroupConv)]
        return links


class SeparableBlock(nn.Module):
    """The residual block f + γ·W₂ GELU(W₁ BatchNorm(s ⋆ f)).

    s is a separable group convolution to the elements of f, W₁ and W₂ mix the channels of each element, and γ is a
    learned scale per channel.
    """

    def __init__(self, layers: Layers, width: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.conv, self.norm = layers.separable(width, width, bias=False), BatchNorm(width)
        self.wider, self.act = ChannelLinear(width, expansion * width), Activation(nn.GELU())
        self.dropout, self.back = Dropout(dropout), ChannelLinear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), SCALE))

    def forward(self, f: Signal) -> Signal:
        """f [batch, channels, n, h, w] → the same shape on the same elements."""
        inner = self.act(self.wider(self.norm(self.conv(f, elements=f.elements))))
        branch = self.back(self.dropout(inner))
        return f + branch.map(lambda values: values * self.scale[:, None, None, None].to(values.dtype))


class ChannelLinear(nn.Linear):
    """A linear layer over the channels, for each element and pixel: f_o(x, h) ↦ Σ_c W_oc f_c(x, h) + b_o."""

    def forward(self, f: Signal) -> Signal:  # type: ignore[override]
        """f [batch, in_features, n, h, w] → [batch, out_features, n, h, w] on the same elements."""
        check_signal(f, self.in_features)
        weight, bias = self.weight[None], self.bias[:, None]
        if torch.is_autocast_enabled(autocasting(f.values)):  # it does not act on `meta`
            weight, bias = weight.to(f.values.dtype), bias.to(f.values.dtype)
        weight = weight.expand(len(f.values), -1, -1)  # `matmul` would copy the values beside a parameter
        values = torch.baddbmm(bias, weight, f.values.flatten(2))
        return Signal(values.unflatten(2, f.values.shape[2:]), f.elements)
