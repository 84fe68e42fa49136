"""The group-equivariant CNN with three convolutions, full or partial, for every group. It is small and fast."""

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
    """A small CNN on a group: lifting to w channels, group convolutions to 2w and 4w, a mean over group and space, a
    linear layer.

    BatchNorm and ReLU follow each convolution. Spatial maxima follow the lifting (over squares of `first_pool` pixels)
    and the first group convolution (over 2×2 pixels). With `partial` both group convolutions learn their subset of the
    group. On T(2) the network is a plain CNN. Because it pools early, a training step needs only a fraction of the time
    of a residual network; `ask` trains many of these networks in minutes.

    Args:
        group: name of the base group, as in `partialsym.group`.
        in_channels: channels of the images.
        num_classes: number of classes. With 0 the network returns `num_features` features per image.
        width: w, channels after lifting.
        stride: stride of the lifting in pixels; above 1 for large images.
        first_pool: pixels per side of the pool after lifting.
        dropout: probability in [0, 1) of dropping a feature before the linear layer.
        options: options of the group convolutions, see `LayerOptions`: `partial`, `learned_layers`, `samples`,
            `kernel_size` (default 3), `kernel`, `hidden` (default 16), `kernel_options`, `sampling`, `proportional`.
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
        """Images → the signal on the base group before global pooling, [batch, 4w, n, h', w'].

        Three steps divide the sides, each rounding up: by `stride`, by `first_pool` and by 2.
        """
        height, width = images.shape[-2:]
        if min(height, width) < (k := self.settings["kernel_size"]):
            raise InputError(f"the images of {height}×{width} pixels are smaller than the {k}×{k} kernel.")
        f = self.pool0(self.norm0(self.lifting(Signal.image(images)))).map(F.relu)
        f = self.pool1(self.norm1(self.conv1(f))).map(F.relu)
        return self.norm2(self.conv2(f)).map(F.relu)
