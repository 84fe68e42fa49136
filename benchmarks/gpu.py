"""On a CUDA device: training against the compiled twin in bf16, images a second, share of the card's matrix rate."""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks.rows import PAIRS, Book, Row, quotient_of
from benchmarks.training import batch
from partialsym import GCNN13, GResNet
from partialsym.models.dense_twin import dense_twin
from partialsym.profiling import Step, operations
from partialsym.training.compile import Compiled

BATCHES = {"ResNet": 1024, "13-layer": 128}
WARM_UP = 3


def gpu(book: Book) -> None:
    rate = matrix_rate()
    book.add(Row("measured matrix rate", rate / 1e12, None, None, "TFLOP/s", "bf16"))
    cases = (
        ("ResNet", GResNet("SE2"), batch(BATCHES["ResNet"], 1, 28), None),
        ("13-layer", GCNN13("SE2", in_channels=3), batch(BATCHES["13-layer"], 3, 32), 1 / 1.5),
    )
    for name, model, data, target in cases:
        images, labels = (tensor.cuda() for tensor in data)
        nets = [net.cuda().train() for net in (model, dense_twin(model))]
        counted = operations(Step(nets[1], images, labels, dtype=torch.bfloat16))
        steps = [Step(net, images, labels, dtype=torch.bfloat16, forward=Compiled(net)) for net in nets]
        rounds = [tuple(milliseconds(step) for step in steps) for _ in range(WARM_UP + PAIRS)][WARM_UP:]
        columns = ([t / 1e3 for t in column] for column in zip(*rounds, strict=True))
        title = f"{name} SE2-8, batch {len(images)}, compiled"
        row = quotient_of(f"{title}: step", *columns, precision="bf16", target=target)
        assert row.ours is not None
        assert row.twin is not None
        ours, twin = row.ours, row.twin
        book.add(
            row,
            Row(f"{title}: training", len(images) / ours, None, None, "images/s", "bf16"),
            Row(f"{title}: the twin's share of the rate", counted / twin / rate, None, None, "", "bf16"),
        )


def milliseconds(call: Callable[[], Any]) -> float:
    """By CUDA events."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def matrix_rate(size: int = 8192, repeats: int = 20) -> float:
    """Operations a second of one large product in bf16: what the card gives, not what is printed on it."""
    a = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    product = nn.Linear(size, size, bias=False, device="cuda", dtype=torch.bfloat16).requires_grad_(False)
    times = [milliseconds(lambda: product(a)) for _ in range(repeats)]
    return 2 * size**3 / (statistics.median(times) / 1e3)
