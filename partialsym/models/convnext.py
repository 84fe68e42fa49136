"""ConvNeXt on groups. Its separable convolutions cost less than convolutions over space, group and channels at once."""

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
from partialsym.signal import Signal, check_signal

SCALE = 0.1  # initial factor of a residual branch


class GConvNeXt(nn.Module):
    """ConvNeXt on a group: a strided stem, stages of separable residual blocks, a mean over group and space, a linear
    layer.

    It follows ConvNeXt (Liu et al. 2022), with BatchNorm instead of LayerNorm, and with group convolutions whose kernel
    is a product (Knigge et al. 2022). A block first mixes channels and elements at every pixel. It then convolves each
    channel of each element in space, and finally mixes channels by two layers with `expansion`·w channels between them.
    For w channels and n elements a block needs w²·n² + w·n·k² + 2·expansion·w²·n multiplications per pixel.

    Every stage except the first starts with a mean over 2×2 pixels and a pointwise convolution, which draws the
    elements of the stage. With `partial` these densities are learned; the first stage uses the whole group.

    Args:
        group: name of the base group, as in `partialsym.group`.
        in_channels: channels of the images.
        num_classes: number of classes. With 0 the network returns `num_features` features per image.
        width: channels of the first stage; each stage has twice as many as the previous one.
        blocks: number of blocks for each stage.
        stem_stride: stride of the stem in pixels; its kernel has 2·stem_stride − 1 pixels per side, but at least 3.
        expansion: ratio of the inner to the outer width of the two channel-mixing layers.
        dropout: probability in [0, 1) of dropping a value before the second of these layers.
        checkpoint: store only the inputs of blocks for the backward pass and recompute the rest there.
        options: options of the group convolutions, see `LayerOptions`: `partial`, `learned_layers` (with `last` only
            the elements of the last stage are learned), `samples`, `kernel_size` (default 5), `kernel`, `hidden`
            (default 8), `kernel_options`, `sampling`, `proportional`.
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
        """Images → the signal before global pooling, [batch, num_features, n, h, w].

        The stem divides sides by `stem_stride`, and every stage after the first divides them by 2, rounding up.
        """
        f = self.norm(self.lifting(images))
        for name, stage in self.stages.items():
            if name in self.drawn:
                f = self.norms[name](self.drawn[name](self.shrink(f)))
            for block in stage.children():
                f = run(block, f, save_memory=self.checkpoint)
        return self.norm_last(f)


class SeparableBlock(nn.Module):
    """The residual block f + γ·W₂ GELU(W₁ BatchNorm(s ⋆ f)).

    s is a separable group convolution onto the elements of f. W₁ and W₂ mix the channels of each element, and γ is a
    learned factor for each channel.
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
    """A linear layer over the channels, separately at each pixel and element: f_o(x, h) ↦ Σ_c W_oc f_c(x, h) + b_o."""

    def forward(self, f: Signal) -> Signal:  # type: ignore[override]
        """f [batch, in_features, n, h, w] → [batch, out_features, n, h, w] on the same elements."""
        check_signal(f, self.in_features)
        values = torch.matmul(self.weight, f.values.flatten(2)).unflatten(2, f.values.shape[2:])
        return Signal(values + self.bias[:, None, None, None].to(values.dtype), f.elements)
