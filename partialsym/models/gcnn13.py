"""The group-equivariant 13-layer CNN, full or partial, on any group."""

from itertools import pairwise
from typing import Any, Unpack

from torch import Tensor, nn
from torch.nn import functional as F

from partialsym.errors import InputError
from partialsym.models.backbone import classifier
from partialsym.models.layers import LayerOptions, Layers, check_at_least_one, check_dropout
from partialsym.nn.fused import norm_and_pool
from partialsym.nn.norm import BatchNorm
from partialsym.nn.pool import GlobalPool, SpatialPool
from partialsym.nn.precompute import chain, precompute, without_precomputed
from partialsym.signal import Signal

POOLED, DROPPED = (2, 5), (2, 5, 8)  # group convolutions before a pool or dropout, counted from 1


class GCNN13(nn.Module):
    """The 13-layer CNN (Laine & Aila 2017) on groups (Romero & Lohit 2022, appendix).

    The network consists of a lifting convolution of width w, a group convolution of width w, seven of width 2w, a mean
    over group and space, and a linear layer. BatchNorm and ReLU follow each convolution. A 2×2 maximum follows the
    second and fifth group convolutions, and dropout follows the second, fifth and eighth. With `partial`, every
    convolution after lifting learns its part of the group. On T(2) it is a plain CNN.

    Args:
        group: name of the base group, as in `partialsym.group`.
        in_channels: channels of the images.
        num_classes: number of classes; 0 returns `num_features` features per image.
        width: w, channels after lifting.
        dropout: dropout probability.
        options: see `LayerOptions`; kernel_size is 3 and hidden is 8 by default.
    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        group: str = "SE2",
        *,
        in_channels: int = 1,
        num_classes: int = 10,
        width: int = 128,
        dropout: float = 0.3,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        check_at_least_one(in_channels=in_channels, width=width)
        check_dropout(dropout)
        defaults: LayerOptions = {"kernel_size": 3, "hidden": 8}
        layers = Layers(group, **(defaults | options))
        self.in_channels, self.num_classes = in_channels, num_classes
        self.settings: dict[str, Any] = {
            "group": group,
            "in_channels": in_channels,
            "num_classes": num_classes,
            "width": width,
            "dropout": dropout,
            **layers.options,
        }
        widths = [width, width, *7 * [2 * width]]
        self.lifting, self.norm0 = layers.lifting(in_channels, width), BatchNorm(width)
        # Dicts instead of lists, so that the names count from 1.
        kept = [*7 * [layers.inner], layers.last]
        self.convs = nn.ModuleDict(
            {str(i): layers.conv(*pair, p) for i, (pair, p) in enumerate(zip(pairwise(widths), kept, strict=True), 1)}
        )
        self.norms = nn.ModuleDict({str(i): BatchNorm(w) for i, w in enumerate(widths[1:], 1)})
        self.shrink, self.dropout = SpatialPool(2), nn.Dropout(dropout)
        self.pool = GlobalPool("mean")
        self.num_features = 2 * width
        self.classifier = classifier(2 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [batch, in_channels, height, width] → logits [batch, num_classes], or features."""
        return self.classifier(self.pool(self.features(images)))

    def features(self, images: Tensor) -> Signal:
        """Images → the signal on the base group before global pooling, [batch, 2w, n, ⌈height / 4⌉, ⌈width / 4⌉]."""
        f = Signal.image(images)
        height, width = images.shape[-2:]
        if min(height, width) < (k := self.settings["kernel_size"]):
            raise InputError(f"the images of {height}×{width} pixels are smaller than the {k}×{k} kernel.")
        f = precompute(self, f, chain(self.lifting, *self.convs.values()))
        f = self.norm0(self.lifting(f)).map(F.relu)
        for i, (conv, norm) in enumerate(zip(self.convs.values(), self.norms.values(), strict=True), 1):
            f = norm_and_pool(norm, self.shrink, conv(f)) if i in POOLED else norm(conv(f))
            f = f.map(F.relu)
            f = f.map(self.dropout) if i in DROPPED else f
        return without_precomputed(f)
