"""Dense twins: plain CNNs with the convolution shapes of ours, which speed is measured against."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from partialsym.errors import InputError, InputTypeError
from partialsym.models.augerino import Augerino
from partialsym.models.gcnn13 import DROPPED, GCNN13, POOLED
from partialsym.models.gresnet import GResNet
from partialsym.nn.pool import torchs_pool2d


def dense_twin(model: nn.Module) -> "TwinResNet | TwinCNN13":
    """The plain CNN with the same channels times elements, kernel sizes, normalisations and pools, freshly initialised.

    Its weights are its own: it costs what `model` costs as plain convolutions, and computes something else.

    Raises:
        ValueError: an Augerino: its twin is that of the network inside it, at `copies` times the batch.
        TypeError: another network without a twin.
    """
    if isinstance(model, Augerino):
        raise InputError("Augerino has no dense twin: leave it out, its step costs `copies` times the network's.")
    if not isinstance(model, GResNet | GCNN13):
        raise InputTypeError(f"{type(model).__name__} has no dense twin: must be a GResNet or a GCNN13.")
    density = model.lifting.codomain
    assert density is not None
    s, n = model.settings, density.samples
    shared = (n, s["in_channels"], s["num_classes"], s["width"], s["kernel_size"], s["dropout"])
    return TwinResNet(*shared, pools=s["pools"], head=s["head"]) if isinstance(model, GResNet) else TwinCNN13(*shared)


class TwinResNet(nn.Module):
    """The ResNet of `GResNet` in plain convolutions; n elements are n times the channels."""

    def __init__(
        self,
        n: int,
        in_channels: int,
        num_classes: int,
        width: int,
        kernel_size: int,
        dropout: float,
        pools: Sequence[str],
        head: str = "group",
    ) -> None:
        super().__init__()
        w, k = width * n, kernel_size
        self.n, self.pools = 1 if head == "plane" else n, tuple(pools)
        self.lifting, self.norm0 = nn.Conv2d(in_channels, w, k, padding="same"), nn.BatchNorm2d(w)
        self.block1, self.norm1 = TwinBlock(w, w, n, k, dropout), nn.BatchNorm2d(w)
        self.block2, self.norm2 = TwinBlock(w, 2 * w, n, k, dropout), nn.BatchNorm2d(2 * w)
        out = 2 * width * self.n
        self.last, self.norm3 = nn.Conv2d(2 * w, out, k), nn.BatchNorm2d(out)
        self.linear = nn.Linear(out, 2 * width) if head == "linear" else None
        self.classifier = nn.Linear(2 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self._pool("lifting", self.norm0(self.lifting(x))))
        x = F.relu(self._pool("block1", self.norm1(self.block1(x))))
        x = F.relu(self._pool("block2", self.norm2(self.block2(x))))
        x = F.relu(self.norm3(self.last(x)))
        if self.linear is not None:
            return self.classifier(self.linear(x.amax((2, 3))))
        return self.classifier(x.unflatten(1, (-1, self.n)).amax((2, 3, 4)))

    def _pool(self, place: str, x: Tensor) -> Tensor:
        return torchs_pool2d(x, 2) if place in self.pools else x


class TwinBlock(nn.Module):
    """The residual block in plain convolutions; GroupNorm is the normalisation over (group, height, width)."""

    def __init__(self, into: int, out: int, n: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, kernel_size, padding="same")
        self.conv2 = nn.Conv2d(out, out, kernel_size, padding="same")
        self.norm1, self.norm2 = (nn.GroupNorm(out // n, out, affine=False) for _ in range(2))
        self.shortcut, self.dropout = nn.Conv2d(into, out, 1, bias=False), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.dropout(F.relu(self.norm1(self.conv1(x))))
        return F.relu(self.norm2(self.conv2(inner))) + self.shortcut(x)


class TwinCNN13(nn.Module):
    """The 13-layer CNN of `GCNN13` in plain convolutions; n elements are n times the channels."""

    def __init__(
        self, n: int, in_channels: int, num_classes: int, width: int, kernel_size: int, dropout: float
    ) -> None:
        super().__init__()
        widths = [in_channels, *(n * w for w in (width, width, *7 * [2 * width]))]
        self.convs = nn.ModuleList([nn.Conv2d(a, b, kernel_size, padding="same") for a, b in pairwise(widths)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(w) for w in widths[1:]])
        self.n, self.dropout, self.classifier = n, nn.Dropout(dropout), nn.Linear(2 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):  # 0 is the lifting layer
            x = F.relu(norm(conv(x)))
            x = torchs_pool2d(x, 2) if i in POOLED else x
            x = self.dropout(x) if i in DROPPED else x
        return self.classifier(x.unflatten(1, (-1, self.n)).mean((2, 3, 4)))
