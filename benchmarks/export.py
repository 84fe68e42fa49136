"""Latency of an exported network in onnxruntime."""

import statistics
import tempfile
from functools import partial
from pathlib import Path

import onnxruntime
import torch

from benchmarks.rows import Book, Row, median_interval
from partialsym import GResNet, to_conv2d
from partialsym.export.onnx import export
from partialsym.profiling import interleaved

PAIRS = 3


def latency(book: Book) -> None:
    """Milliseconds a call at batch 1 and 64: onnxruntime, and the frozen model in torch beside it."""
    model = GResNet("SE2").eval()
    frozen = to_conv2d(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        classes = tuple(str(digit) for digit in range(10))
        export(model, path, mean=(0.1307,), std=(0.3081,), classes=classes, size=(28, 28))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feed = session.get_inputs()[0].name
        for size in (1, 64):
            images = torch.rand(size, 1, 28, 28)
            calls = (partial(session.run, None, {feed: images.numpy()}), partial(frozen, images))
            rounds = interleaved(*calls, pairs=PAIRS)
            for where, column in zip(("onnxruntime", "torch, frozen"), zip(*rounds, strict=True), strict=True):
                values = [1e3 * t for t in column]
                name = f"ResNet SE2-8, batch {size}: {where}"
                value, interval = statistics.median(values), median_interval(values)
                book.add(Row(name, value, interval, None, "ms", "float32", n=len(values)))
