"""A small and fast group-equivariant CNN of three convolutions, full or partial, on any group."""

from itertools import pairwise
from typing import Any, Unpack

from torch import Tensor, nn
from torch.nn import functional as F

from partialsym.errors import InputError
from partialsym.models.backbone import classifier
from partialsym.models.layers import LayerOptions, Layers, check_at_least_one, check_dropout
from partialsym.nn.fused import lift_norm_and_pool, norm_and_pool
from partialsym.nn.norm import BatchNorm
from partialsym.nn.pool import GlobalPool, SpatialPool
from partialsym.nn.precompute import chain, precompute, without_precomputed
from partialsym.signal import Signal


class GCNN3(nn.Module):
    """A small CNN on groups, of three convolutions.

    The network consists of a lifting convolution of width w, group convolutions of widths 2w and 4w, a mean over group
    and space, and a linear layer. BatchNorm and ReLU follow each convolution. A maximum over squares of `first_pool`
    pixels follows lifting, and a 2×2 maximum follows the first group convolution. With `partial`, both group
    convolutions learn their part of the group. On T(2) it is a plain CNN. Early pooling makes a step much faster than
    that of a residual network, so `ask` can train many of these networks in minutes.

    Args:
        group: name of the base group, as in `partialsym.group`.
        in_channels: channels of the images.
        num_classes: number of classes; 0 returns `num_features` features per image.
        width: w, channels after lifting.
        stride: stride of the lifting convolution, for large images.
        first_pool: size of the pool after lifting, in pixels.
        dropout: dropout probability of features before the linear layer.
        options: see `LayerOptions`; kernel_size is 3 and hidden is 16 by default.
    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        group: str = "SE2",
        *,
        in_channels: int = 1,
        num_classes: int = 10,
        width: int = 16,
        stride: int = 1,
        first_pool: int = 2,
        dropout: float = 0.0,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        check_at_least_one(in_channels=in_channels, width=width, stride=stride, first_pool=first_pool)
        check_dropout(dropout)
        defaults: LayerOptions = {"kernel_size": 3, "hidden": 16}
        layers = Layers(group, **(defaults | options))
        self.in_channels, self.num_classes = in_channels, num_classes
        self.settings: dict[str, Any] = {
            "group": group,
            "in_channels": in_channels,
            "num_classes": num_classes,
            "width": width,
            "stride": stride,
            "first_pool": first_pool,
            "dropout": dropout,
            **layers.options,
        }
        widths = [width, 2 * width, 4 * width]
        self.lifting, self.norm0 = layers.lifting(in_channels, width, stride=stride), BatchNorm(width)
        self.pool0, self.pool1 = SpatialPool(first_pool), SpatialPool(2)
        kept = [layers.inner, layers.last]
        self.conv1, self.conv2 = (layers.conv(*pair, p) for pair, p in zip(pairwise(widths), kept, strict=True))
        self.norm1, self.norm2 = (BatchNorm(w) for w in widths[1:])
        self.dropout, self.pool = nn.Dropout(dropout), GlobalPool("mean")
        self.num_features = widths[-1]
        self.classifier = classifier(self.num_features, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [batch, in_channels, height, width] → logits [batch, num_classes], or features."""
        return self.classifier(self.dropout(self.pool(self.features(images))))

    def features(self, images: Tensor) -> Signal:
        """The signal on the base group before global pooling, [batch, 4w, n, h', w'].

        The stride and the pools divide each side by 2·stride·first_pool in total, rounding up.
        """
        height, width = images.shape[-2:]
        if min(height, width) < (k := self.settings["kernel_size"]):
            raise InputError(f"the images of {height}×{width} pixels are smaller than the {k}×{k} kernel.")
        f = precompute(self, Signal.image(images), chain(self.lifting, self.conv1, self.conv2))
        f = lift_norm_and_pool(self.lifting, self.norm0, self.pool0, f).map(F.relu)
        f = norm_and_pool(self.norm1, self.pool1, self.conv1(f)).map(F.relu)
        return without_precomputed(self.norm2(self.conv2(f)).map(F.relu))
