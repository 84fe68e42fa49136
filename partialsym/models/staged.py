"""The ResNet family on groups: stages of residual blocks at decreasing resolution, full or partial."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, Unpack

from torch import Tensor, nn

from partialsym.errors import InputError
from partialsym.models.backbone import check_blocks, classifier, run
from partialsym.models.layers import LayerOptions, Layers, check_at_least_one, check_dropout
from partialsym.nn.activation import Dropout, ReLU
from partialsym.nn.conv import GroupConv
from partialsym.nn.fused import norm_and_pool
from partialsym.nn.norm import BatchNorm
from partialsym.nn.pool import GlobalPool, SpatialPool
from partialsym.nn.precompute import Link, chain, precompute, without_precomputed
from partialsym.signal import Signal

BLOCKS = {"basic": 1, "bottleneck": 4, "preactivated": 1}  # kind → output channels per inner channel
STEMS = ("imagenet", "cifar")


class GStagedResNet(nn.Module):
    """ResNet (He et al. 2016) and wide ResNet (Zagoruyko & Komodakis 2016) on groups.

    The network consists of a stem, stages of residual blocks, a mean over group and space, and a linear layer. Each
    stage after the first doubles the channels and halves the resolution. `partialsym.models.create` has ResNet-18, 34
    and 50 and the wide ResNets by name. Images may have any height and width. On T(2) it is the plain network; a kernel
    of 8 features and its bias has as many parameters as a filter of 3×3 pixels.

    The first block of a stage draws the elements of the stage. The other blocks map to the same elements, as a residual
    sum requires. If the first stage does not change the channels, it has the elements of the stem. Inside a block, each
    convolution draws its own elements. With `partial`, all of these densities are learned; the stem keeps the whole
    group.

    Args:
        group: name of the base group, as in `partialsym.group`.
        in_channels: channels of the images.
        num_classes: number of classes; 0 returns `num_features` features per image.
        width: channels of the first stage; for `bottleneck`, those inside its blocks.
        blocks: number of residual blocks per stage.
        block: `basic`: two 3×3 convolutions. `bottleneck`: 1×1, 3×3 and 1×1, with four times the channels outside.
            `preactivated`: two 3×3 convolutions, with norm and ReLU before each (wide ResNets).
        stem: `imagenet`: a 7×7 convolution with stride 2, and a pool. `cifar`: a convolution of `kernel_size`.
        stem_width: channels of the stem; by default `width`.
        dropout: dropout probability before the last convolution of each block.
        checkpoint: store only the inputs of the blocks for the backward pass, and recompute the blocks there.
        options: see `LayerOptions`; kernel_size is 3 and hidden is 8 by default. `learned_layers="last"` learns only
            the density of the last stage's elements.
    Raises:
        ValueError: an argument is out of range.
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
        self.stages = nn.ModuleDict()  # keys: numbers of stages, from 1
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
        """Normalised images [batch, in_channels, height, width] → logits [batch, num_classes], or features."""
        return self.classifier(self.pool(self.features(images)))

    def features(self, images: Tensor) -> Signal:
        """The signal before global pooling, [batch, num_features, n, h, w].

        Each stage after the first halves the sides, rounding up; the `imagenet` stem halves them twice.
        """
        f = self.lifting(precompute(self, images, self._links()))
        f = self.act(norm_and_pool(self.norm, self.shrink, f))
        for stage in self.stages.values():
            for block in stage.children():
                f = run(block, f, save_memory=self.checkpoint)
        return without_precomputed(self.act_last(self.norm_last(f)))

    def _links(self) -> list[Link]:
        links = chain(self.lifting)
        for stage in self.stages.values():
            for block in stage if isinstance(stage, nn.Sequential) else []:
                if isinstance(block, StagedBlock | PreactivatedBlock):
                    links += _block_links(block, links[-1].out)
        return links


class StagedBlock(nn.Module):
    """Residual block: convolutions with BatchNorm and ReLU, plus the input or a pointwise shortcut from it, then ReLU.

    If channels or resolution change, the last convolution draws elements, and the shortcut maps to these. Otherwise the
    last convolution maps to the elements of the input.

    Args:
        layers: factory of the convolutions.
        density: factory of the density from which the last convolution draws.
        widths: channels from the input to the output, one more than `sizes`.
        sizes: sizes of the kernels.
        stride: stride of the first convolution with more than one pixel.
        dropout: dropout probability before the last convolution.
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
    """Pre-activation block: BatchNorm, ReLU and convolution, twice, plus the input or a shortcut after the first ReLU.

    Elements and arguments are as in `StagedBlock`.
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


def _block_links(block: StagedBlock | PreactivatedBlock, into: nn.Module) -> list[Link]:
    """The convolutions of a block, where `into` draws the elements of its input."""
    *inner, last = block.convs.values()
    links = chain(*inner, into=into)
    links.append(Link(last, links[-1].out if inner else into, last if block.draws else into))
    return links if block.shortcut is None else [*links, Link(block.shortcut, into, last)]


def _convolutions(
    layers: Layers, density: Any, widths: Sequence[int], sizes: Sequence[int], stride: int
) -> nn.ModuleDict:
    """The convolutions of a block, counted from 1.

    The last one draws from `density`; without a density, its calls must pass `elements`. The others draw from the
    density of inner layers.
    """
    wide = next(i for i, size in enumerate(sizes) if size > 1 or i == len(sizes) - 1)
    made: dict[str, GroupConv] = {}
    for i, (size, pair) in enumerate(zip(sizes, pairwise(widths), strict=True)):
        rest: dict[str, Any] = {"size": size, "stride": stride if i == wide else 1, "bias": False}
        given = density is None and i == len(sizes) - 1
        own = density if i == len(sizes) - 1 else None
        made[str(i + 1)] = layers.given(*pair, **rest) if given else layers.conv(*pair, own, **rest)
    return nn.ModuleDict(made)
