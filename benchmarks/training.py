"""The training step against the dense twin, and against a plain CNN of the same width.

On one thread the quotient does not depend on where a virtual machine's cores are, and it is what `ask` sees, which
trains one network per core. Where that takes little time, the same step is measured on all threads too, without a
target.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cores import threads
from benchmarks.rows import PAIRS, Book, Row, bf16, quotient_of
from partialsym import GCNN13, GResNet
from partialsym.ask.methods import Shape, methods
from partialsym.models import GCNN3
from partialsym.models.dense_twin import dense_twin
from partialsym.profiling import Step, interleaved, peak_memory
from partialsym.training.fit import build_model

MEMORY, MEMORY_AIM = 1.2, 1.0  # of the twin's peak
FEWER = 6  # pairs of a row without a target, enough for an interval
STEP, PEAK, PLAIN = "training step", "peak memory", "against a plain CNN of the same width"


@dataclass(frozen=True)
class Case:
    """A network and its batch: images, their channels and side. Its step must take at most `target` of the twin's.

    The 13-layer CNN has one image, and bf16 twelve, so that they take a minute or two. `threads` is their number, None
    for all.
    """

    name: str
    network: Callable[[], nn.Module]
    batch: tuple[int, int, int]
    target: float | None
    aim: float | None = None
    precision: str = "float32"
    threads: int | None = None


def asked(group: str) -> nn.Module:
    """The partial network of `partialsym ask`, for 32×32 RGB images."""
    shape = Shape((32, 32), channels=3, classes=10)
    return build_model(methods(group, shape, 16)[f"{group}-partial"], shape.channels, shape.classes)


def late_pools() -> GResNet:
    """The ResNet on photographs, as the paper's: pools after the blocks."""
    return GResNet("SE2", in_channels=3, samples=4, pools=("block1", "block2"))


ASKED = [("SE2-4", partial(asked, "SE2")), ("E2-8", partial(asked, "E2"))]
NARROW = ("ResNet SE2-8, width 8, batch 16", partial(GResNet, "SE2", width=8), (16, 1, 28))
CASES = (
    Case("ResNet SE2-8, batch 64", partial(GResNet, "SE2"), (64, 1, 28), 0.45, 0.30),
    Case("ResNet SE2-8, batch 12, one thread", partial(GResNet, "SE2"), (12, 1, 28), 0.85, 0.60, "bf16", threads=1),
    Case("ResNet SE2-4 at 32×32, batch 64", late_pools, (64, 3, 32), 0.50, 0.35),
    *(Case(f"ask {n} at 32×32, batch 64, one thread", net, (64, 3, 32), 0.60, 0.45, threads=1) for n, net in ASKED),
    *(Case(f"ask {n} at 32×32, batch 64", net, (64, 3, 32), None) for n, net in ASKED),
    Case("13-layer SE2-8, batch 1", partial(GCNN13, "SE2", in_channels=3), (1, 3, 32), 0.16),
    Case(f"{NARROW[0]}, one thread", *NARROW[1:], 1.10, 1.0, threads=1),
    Case(*NARROW, None),
)


def training(book: Book, cases: Sequence[Case] = CASES, pairs: int = PAIRS) -> None:
    """Forward and backward of every case: time and memory beside the twin, time beside the plain CNN."""
    for case in cases:
        if case.precision == "bf16" and bf16() == "none":
            for what, target, aim in ((PEAK, MEMORY, MEMORY_AIM), (STEP, case.target, case.aim), (PLAIN, None, None)):
                book.add(missing(f"{case.name}: {what}", target, aim, case.precision, "not measured here"))
            continue
        model = case.network()
        nets, data = (model, dense_twin(model), plain_cnn(model)), batch(*case.batch)
        dtype = torch.bfloat16 if case.precision == "bf16" else torch.float32
        steps = [Step(net.train(), *data, dtype) for net in nets]
        with threads(case.threads):
            count = pairs if case.target else min(pairs, FEWER)
            compare(book, case.name, steps, count, precision=case.precision, target=case.target, aim=case.aim)


def compare(
    book: Book, name: str, steps: Sequence[Step], pairs: int, unit: str = "of the twin", what: str = STEP, **row: Any
) -> None:
    """Memory and time of the first step beside the second, and time beside the third, the plain CNN's."""
    a, b = (peak_memory(step) for step in steps[:2])  # the warm-up too
    steps[2]()
    memory = (MEMORY, MEMORY_AIM) if unit != "of e2cnn" else (None, None)
    book.add(Row(f"{name}: {PEAK}", a / b, None, memory[0], unit, row["precision"], a, b, memory[1]))
    _, ours, twin, plain = zip(*interleaved(book.together, *steps, pairs=pairs, warm_up=0), strict=True)
    note = book.together.note()
    book.add(
        quotient_of(f"{name}: {what}", ours, twin, unit=unit, note=note, **row),
        quotient_of(f"{name}: {PLAIN}", ours, plain, unit="of the plain CNN", precision=row["precision"], note=note),
    )


def missing(name: str, target: float | None, aim: float | None, precision: str, why: str) -> Row:
    """A row of what could not be measured."""
    return Row(name, None, None, target, "", precision, aim=aim, n=0, note=why)


def plain_cnn(model: nn.Module) -> nn.Module:
    """The network on T(2) in plain convolutions, with as many channels as `model` has per element."""
    assert isinstance(model, GResNet | GCNN13 | GCNN3)
    return dense_twin(type(model)(**model.settings | {"group": "T2", "partial": False, "samples": None}))


def batch(images: int, channels: int, side: int) -> tuple[Tensor, Tensor]:
    return torch.randn(images, channels, side, side), torch.randint(0, 10, (images,))
