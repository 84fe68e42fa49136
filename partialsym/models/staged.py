"""The ResNet family on groups: stages of residual blocks at falling resolution, full or partial."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, Unpack

from torch import Tensor, nn

from partialsym.errors import InputError
from partialsym.models.backbone import check_blocks, classifier, run
from partialsym.models.layers import LayerOptions, Layers, check_at_least_one, check_dropout
from partialsym.nn.activation import Dropout, ReLU
from partialsym.nn.conv import GroupConv
from partialsym.nn.norm import BatchNorm
from partialsym.nn.pool import GlobalPool, SpatialPool
from partialsym.signal import Signal

BLOCKS = {"basic": 1, "bottleneck": 4, "preactivated": 1}  # kind → channels that come out, in those of its inside
STEMS = ("imagenet", "cifar")


class GStagedResNet(nn.Module):
    """A stem; stages of residual blocks that double channels and halve sides; the mean over space and H; a linear map.

    The family of ResNet-18, 34 and 50 (He et al. 2016) and of the wide ResNets (Zagoruyko & Komodakis 2016):
    `partialsym.models.create` has them by name. Images may have any height and width. On T(2) it is the plain network;
    a kernel of 8 features and its bias has as many parameters as a filter of 3×3 pixels.

    Every stage but a first without a change of channels begins with a block that draws the elements of the stage, and
    its other blocks return to them, as a residual sum needs. Inside of a block each convolution draws its own. With
    `partial` all of these densities are learned.

    Args:
        group: name of the base group, as in `partialsym.group`.
        in_channels: of the images.
        num_classes: of the answer; 0 for none, and the network gives `num_features` features of an image.
        width: channels of the first stage; of a bottleneck, inside.
        blocks: residual blocks of every stage.
        block: `basic`, two 3×3 convolutions; `bottleneck`, 1×1, 3×3, 1×1 with four times the channels outside;
            `preactivated`, two 3×3 convolutions, norm and ReLU before each (wide ResNets).
        stem: `imagenet`, 7×7 at stride 2 and a pool; `cifar`, the kernel size at stride 1.
        stem_width: channels of the stem; by default `width`.
        dropout: before the last convolution of every block.
        checkpoint: hold the inputs of the blocks alone for the backward pass, and compute their insides again there.
        options: of the group convolutions, see `LayerOptions`: `partial`, `learned_layers` (`last`: the elements of
            the last stage), `samples`, `kernel_size` (default 3), `kernel`, `hidden` (default 8), `kernel_options`,
            `sampling`, `proportional`.
    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        group: str = "SE2",
        *,
        in_channels: int = 3,
        num_classes: int = 10,
        width: int = 64,
        blocks: Sequence[int] = (2, 2, 2, 2),
        block: Literal["basic", "bottleneck", "preactivated"] = "basic",
        stem: Literal["imagenet", "cifar"] = "imagenet",
        stem_width: int | None = None,
        dropout: float = 0.0,
        checkpoint: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        first = width if stem_width is None else stem_width
        check_at_least_one(in_channels=in_channels, width=width, stem_width=first)
        check_blocks(blocks)
        check_dropout(dropout)
        for name, value, known in (("block", block, tuple(BLOCKS)), ("stem", stem, STEMS)):
            if value not in known:
                raise InputError(f"{name} is {value!r}: must be one of {', '.join(known)}.")
        defaults: LayerOptions = {"kernel_size": 3, "hidden": 8}
        layers = Layers(group, **(defaults | options))
        self.in_channels, self.num_classes, self.checkpoint = in_channels, num_classes, checkpoint
        self.settings: dict[str, Any] = {
            "group": group,
            "in_channels": in_channels,
            "num_classes": num_classes,
            "width": width,
            "blocks": list(blocks),
            "block": block,
            "stem": stem,
            "stem_width": stem_width,
            "dropout": dropout,
            "checkpoint": checkpoint,
            **layers.options,
        }
        outside = [first, *(BLOCKS[block] * width * 2**i for i in range(len(blocks)))]
        self.num_features = outside[-1]
        shape = {"size": 7, "stride": 2} if stem == "imagenet" else {}
        self.lifting = layers.lifting(in_channels, first, bias=False, **shape)
        self.norm = nn.Identity() if block == "preactivated" else BatchNorm(first)
        self.act = nn.Identity() if block == "preactivated" else ReLU()
        self.shrink = SpatialPool(2) if stem == "imagenet" else nn.Identity()
        self.stages = nn.ModuleDict()  # counted from 1
        for i, (into, out) in enumerate(pairwise(outside)):
            density = layers.last if i == len(blocks) - 1 else layers.inner
            made: list[nn.Module] = []
            for j in range(blocks[i]):
                stride = 2 if i and not j else 1
                sizes = {"bottleneck": (1, layers.kernel_size, 1)}.get(block, (layers.kernel_size,) * 2)
                widths = [out if j else into, *len(sizes[1:]) * [width * 2**i], out]
                make = PreactivatedBlock if block == "preactivated" else StagedBlock
                made.append(make(layers, density, widths, sizes, stride, dropout))
            self.stages[str(i + 1)] = nn.Sequential(*made)
        self.norm_last = BatchNorm(outside[-1]) if block == "preactivated" else nn.Identity()
        self.act_last = ReLU() if block == "preactivated" else nn.Identity()
        self.pool = GlobalPool("mean")
        self.classifier = classifier(self.num_features, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [batch, in_channels, height, width] → logits [batch, classes], or features."""
        return self.classifier(self.pool(self.features(images)))

    def features(self, images: Tensor) -> Signal:
        """The signal before global pooling, [batch, num_features, n, h, w]: a side is halved, and rounded up, by every
        stage after the first, and twice by the `imagenet` stem."""
        f = self.shrink(self.act(self.norm(self.lifting(images))))
        for stage in self.stages.values():
            for block in stage.children():
                f = run(block, f, save_memory=self.checkpoint)
        return self.act_last(self.norm_last(f))


class StagedBlock(nn.Module):
    """Convolutions with BatchNorm, ReLU between them; plus the input, or a pointwise shortcut from it; ReLU.

    Where channels or resolution change, the last convolution draws, and the shortcut maps onto what it drew. Elsewhere
    the last convolution maps onto the elements of the input.

    Args:
        layers: makes the convolutions.
        density: of the elements that the block draws where it does.
        widths: channels, of the input to the output; one more than `sizes`.
        sizes: of the kernels.
        stride: of the first kernel that is wider than a pixel.
        dropout: before the last convolution.
    """

    def __init__(
        self, layers: Layers, density: Any, widths: Sequence[int], sizes: Sequence[int], stride: int, dropout: float
    ) -> None:
        super().__init__()
        self.draws = stride > 1 or widths[0] != widths[-1]
        self.convs = _convolutions(layers, density if self.draws else None, widths, sizes, stride)
        self.norms = nn.ModuleDict({str(i): BatchNorm(w) for i, w in enumerate(widths[1:], 1)})
        self.act, self.dropout = ReLU(), Dropout(dropout)
        self.shortcut = layers.shortcut(widths[0], widths[-1], stride=stride) if self.draws else None
        self.shortcut_norm = BatchNorm(widths[-1]) if self.draws else None

    def forward(self, f: Signal) -> Signal:
        """f [batch, channels, n, h, w] → [batch, out_channels, n, ⌈h / stride⌉, ⌈w / stride⌉]."""
        *inner, last = zip(self.convs.values(), self.norms.values(), strict=True)
        out = f
        for conv, norm in inner:
            out = self.act(norm(conv(out)))
        out = self.dropout(out)
        conv, norm = last
        if self.shortcut is None or self.shortcut_norm is None:
            return self.act(norm(conv(out, elements=f.elements)) + f)
        out = norm(conv(out))
        return self.act(out + self.shortcut_norm(self.shortcut(f, elements=out.elements)))


class PreactivatedBlock(nn.Module):
    """BatchNorm, ReLU, convolution, twice; plus the input, or a pointwise shortcut from it after the first ReLU.

    Draws and arguments are those of `StagedBlock`.
    """

    def __init__(
        self, layers: Layers, density: Any, widths: Sequence[int], sizes: Sequence[int], stride: int, dropout: float
    ) -> None:
        super().__init__()
        self.draws = stride > 1 or widths[0] != widths[-1]
        self.convs = _convolutions(layers, density if self.draws else None, widths, sizes, stride)
        self.norms = nn.ModuleDict({str(i): BatchNorm(w) for i, w in enumerate(widths[:-1], 1)})
        self.act, self.dropout = ReLU(), Dropout(dropout)
        self.shortcut = layers.shortcut(widths[0], widths[-1], stride=stride) if self.draws else None

    def forward(self, f: Signal) -> Signal:
        """f [batch, channels, n, h, w] → [batch, out_channels, n, ⌈h / stride⌉, ⌈w / stride⌉]."""
        start = self.act(self.norms["1"](f))
        inner = self.dropout(self.act(self.norms["2"](self.convs["1"](start))))
        if self.shortcut is None:
            return self.convs["2"](inner, elements=f.elements) + f
        out = self.convs["2"](inner)
        return out + self.shortcut(start, elements=out.elements)


def _convolutions(
    layers: Layers, density: Any, widths: Sequence[int], sizes: Sequence[int], stride: int
) -> nn.ModuleDict:
    """Of a block, counted from 1: all draw, the last from `density`, or, without one, onto elements it is given."""
    wide = next(i for i, size in enumerate(sizes) if size > 1 or i == len(sizes) - 1)
    made: dict[str, GroupConv] = {}
    for i, (size, pair) in enumerate(zip(sizes, pairwise(widths), strict=True)):
        rest: dict[str, Any] = {"size": size, "stride": stride if i == wide else 1, "bias": False}
        given = density is None and i == len(sizes) - 1
        own = density if i == len(sizes) - 1 else None
        made[str(i + 1)] = layers.given(*pair, **rest) if given else layers.conv(*pair, own, **rest)
    return nn.ModuleDict(made)
