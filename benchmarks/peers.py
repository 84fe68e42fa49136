"""Side by side with e2cnn: regular C8 fields, the same channels, kernels and pools."""

import importlib.util
import warnings

from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.cores import threads
from benchmarks.rows import PAIRS, Book
from benchmarks.training import STEP, batch, compare, missing, plain_cnn
from partialsym import GResNet
from partialsym.profiling import Step

BATCH, TARGET = 16, 0.35
NAME = f"ResNet SE2-8 against e2cnn C8, batch {BATCH}, one thread"


def peers(book: Book, pairs: int = PAIRS) -> None:
    if importlib.util.find_spec("e2cnn") is None:
        book.add(missing(f"{NAME}: {STEP}", TARGET, None, "float32", "e2cnn is not installed"))
        return
    with warnings.catch_warnings(), threads(1):
        warnings.simplefilter("ignore")  # e2cnn's, about newer torch
        model = GResNet("SE2")
        data = batch(BATCH, 1, 28)
        steps = [Step(net.train(), *data) for net in (model, Regular(32), plain_cnn(model))]
        compare(book, NAME, steps, pairs, unit="of e2cnn", precision="float32", target=TARGET)


class Regular(nn.Module):
    """The ResNet on e2cnn's regular C8 fields; its normalisation is InnerBatchNorm throughout."""

    def __init__(self, width: int, kernel_size: int = 7, classes: int = 10) -> None:
        super().__init__()
        from e2cnn import gspaces, nn as e

        space = gspaces.Rot2dOnR2(8)
        image, narrow, wide = (
            e.FieldType(space, count * [kind])
            for count, kind in ((1, space.trivial_repr), (width, space.regular_repr), (2 * width, space.regular_repr))
        )
        k, half = kernel_size, kernel_size // 2
        self.image = image
        self.lifting = e.SequentialModule(e.R2Conv(image, narrow, k, padding=half), e.InnerBatchNorm(narrow))
        self.blocks, self.shortcuts, self.norms, self.relus = (nn.ModuleList() for _ in range(4))
        for a, b in ((narrow, narrow), (narrow, wide)):
            inner = [e.R2Conv(a, b, k, padding=half), e.InnerBatchNorm(b), e.ReLU(b, inplace=False)]
            inner += [e.R2Conv(b, b, k, padding=half), e.InnerBatchNorm(b), e.ReLU(b, inplace=False)]
            self.blocks.append(e.SequentialModule(*inner))
            self.shortcuts.append(e.R2Conv(a, b, 1, bias=False))
            self.norms.append(e.InnerBatchNorm(b))
            self.relus.append(e.ReLU(b, inplace=False))
        self.pool, self.relu = e.PointwiseMaxPool(narrow, 2), e.ReLU(narrow, inplace=False)
        last = e.R2Conv(wide, wide, k)
        self.last = e.SequentialModule(last, e.InnerBatchNorm(wide), e.ReLU(wide, inplace=False))
        self.classifier = nn.Linear(2 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        from e2cnn.nn import GeometricTensor

        f = self.relu(self.pool(self.lifting(GeometricTensor(images, self.image))))
        for i, (block, shortcut, norm, relu) in enumerate(
            zip(self.blocks, self.shortcuts, self.norms, self.relus, strict=True)
        ):
            f = norm(block(f) + shortcut(f))
            f = relu(self.pool(f) if i == 0 else f)
        return self.classifier(F.relu(self.last(f).tensor).unflatten(1, (-1, 8)).amax((2, 3, 4)))
