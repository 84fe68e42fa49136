"""The group-equivariant CNN of three convolutions, full or partial, for every group: small and fast."""

from itertools import pairwise
from typing import Any, Unpack

from torch import Tensor, nn
from torch.nn import functional as F

from partialsym.errors import InputError
from partialsym.models.backbone import classifier
from partialsym.models.layers import LayerOptions, Layers, check_at_least_one, check_dropout
from partialsym.nn.norm import BatchNorm
from partialsym.nn.pool import GlobalPool, SpatialPool
from partialsym.signal import Signal


class GCNN3(nn.Module):
    """Lifting to width w, two group convolutions of widths 2w and 4w, mean over group and space, linear.

    Each convolution is followed by BatchNorm and ReLU. Between them are spatial maxima, over squares of `first_pool`
    pixels after lifting and of 2×2 pixels after the first group convolution. With `partial` both group convolutions
    learn their part of the group. On T(2) it is a plain CNN. It pools early, so a step takes a fraction of the time of
    a residual network's: `ask` trains many of these networks in minutes.

    Args:
        group: name of the base group, as in `partialsym.group`.
        in_channels, num_classes: of the images and of the answer; 0 classes for `num_features` features of an image.
        width: w, channels after lifting.
        first_pool: pixels of the pool after lifting.
        dropout: share of features dropped before the linear layer.
        options: of the group convolutions, see `LayerOptions`: `partial`, `learned_layers`, `samples`, `kernel_size`
            (default 3), `kernel`, `hidden` (default 16), `kernel_options`, `sampling`, `proportional`.
    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        group: str = "SE2",
        *,
        in_channels: int = 1,
        num_classes: int = 10,
        width: int = 16,
        first_pool: int = 2,
        dropout: float = 0.0,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        check_at_least_one(in_channels=in_channels, width=width, first_pool=first_pool)
        check_dropout(dropout)
        defaults: LayerOptions = {"kernel_size": 3, "hidden": 16}
        layers = Layers(group, **(defaults | options))
        self.in_channels, self.num_classes = in_channels, num_classes
        self.settings: dict[str, Any] = {
            "group": group,
            "in_channels": in_channels,
            "num_classes": num_classes,
            "width": width,
            "first_pool": first_pool,
            "dropout": dropout,
            **layers.options,
        }
        widths = [width, 2 * width, 4 * width]
        self.lifting, self.norm0 = layers.lifting(in_channels, width), BatchNorm(width)
        self.pool0, self.pool1 = SpatialPool(first_pool), SpatialPool(2)
        kept = [layers.inner, layers.last]
        self.conv1, self.conv2 = (layers.conv(*pair, p) for pair, p in zip(pairwise(widths), kept, strict=True))
        self.norm1, self.norm2 = (BatchNorm(w) for w in widths[1:])
        self.dropout, self.pool = nn.Dropout(dropout), GlobalPool("mean")
        self.num_features = widths[-1]
        self.classifier = classifier(self.num_features, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [batch, in_channels, height, width] → logits [batch, classes]."""
        return self.classifier(self.dropout(self.pool(self.features(images))))

    def features(self, images: Tensor) -> Signal:
        """The signal on the base group before global pooling, [batch, 4w, n, ⌈⌈h / first_pool⌉ / 2⌉, …]."""
        height, width = images.shape[-2:]
        if min(height, width) < (k := self.settings["kernel_size"]):
            raise InputError(f"the images of {height}×{width} pixels are smaller than the {k}×{k} kernel.")
        f = self.pool0(self.norm0(self.lifting(Signal.image(images)))).map(F.relu)
        f = self.pool1(self.norm1(self.conv1(f))).map(F.relu)
        return self.norm2(self.conv2(f)).map(F.relu)
