"""The group-equivariant 13-layer CNN, full or partial, for every group."""

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

POOLED, DROPPED = (2, 5), (2, 5, 8)  # after which group convolutions, counted from 1


class GCNN13(nn.Module):
    """Lifting to width w, eight group convolutions of widths w and 7 × 2w, mean over group and space, linear.

    Each convolution is followed by BatchNorm and ReLU, the second and the fifth on the group also by a 2×2 maximum,
    and these two and the eighth by dropout. With `partial` every group convolution after lifting learns its part of
    the group. On T(2) it is a plain CNN. (Laine & Aila 2017; on groups: Romero & Lohit 2022, appendix.)

    Args:
        group: name of the base group, as in `partialsym.group`.
        in_channels, num_classes: of the images and of the answer; 0 classes for `num_features` features of an image.
        width: w, channels after lifting.
        dropout: share of values dropped.
        options: of the group convolutions, see `LayerOptions`: `partial`, `learned_layers`, `samples`, `kernel_size`
            (default 3), `kernel`, `hidden` (default 8), `kernel_options`, `sampling`, `proportional`.
    Raises:
        ValueError: an argument out of range.
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
        # By name, not in lists: counted from 1 like everywhere the network is described.
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
        """Normalised images [batch, in_channels, height, width] → logits [batch, classes], or features."""
        return self.classifier(self.pool(self.features(images)))

    def features(self, images: Tensor) -> Signal:
        """The signal on the base group before global pooling, [batch, 2w, n, ⌈h / 4⌉, ⌈w / 4⌉]."""
        f = Signal.image(images)
        height, width = images.shape[-2:]
        if min(height, width) < (k := self.settings["kernel_size"]):
            raise InputError(f"the images of {height}×{width} pixels are smaller than the {k}×{k} kernel.")
        f = self.norm0(self.lifting(f)).map(F.relu)
        for i, (conv, norm) in enumerate(zip(self.convs.values(), self.norms.values(), strict=True), 1):
            f = norm(conv(f)).map(F.relu)
            f = self.shrink(f) if i in POOLED else f
            f = f.map(self.dropout) if i in DROPPED else f
        return f
