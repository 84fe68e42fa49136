"""What a training step costs: parameters, operations, activation memory, seconds; ours beside a dense twin."""

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from partialsym.export.conversion import to_conv2d
from partialsym.models.dense_twin import dense_twin
from partialsym.signal import autocasting


@dataclass(frozen=True)
class Cost:
    """Of one training step: forward and backward, without the optimiser.

    parameters, their number; operations, additions and multiplications; memory, bytes at the peak without parameters
    and their gradients; seconds, the median over the steps measured.
    """

    parameters: int
    operations: int
    memory: int
    seconds: float


AUTOCAST = {"32": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}  # of a training.precision


class Step:
    """One forward and backward pass of a classifier on one batch; `step()` leaves no gradients behind.

    Args:
        model: images → logits.
        images, labels: the batch, on the model's device.
        dtype: under autocast to it; float32 is none. In float16 the loss is not scaled: that costs nothing.
        forward: what to run instead of `model`, such as its compiled form.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        dtype: torch.dtype = torch.float32,
        forward: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.model, self.images, self.labels, self.dtype = model, images, labels, dtype
        self.forward = model if forward is None else forward

    def __call__(self) -> None:
        half = self.dtype != torch.float32
        with torch.autocast(autocasting(self.images), self.dtype if half else None, enabled=half):
            loss = F.cross_entropy(self.forward(self.images), self.labels)
        loss.backward()
        self.model.zero_grad()


def costs(
    model: nn.Module, images: Tensor, labels: Tensor, *, dtype: torch.dtype = torch.float32, pairs: int = 5
) -> tuple[Cost, Cost]:
    """The cost of a training step of `model` and of its dense twin, timed in interleaved pairs after a warm-up."""
    twin = dense_twin(model).to(images.device)
    steps = [Step(net.train(), images, labels, dtype) for net in (model, twin)]
    taken = zip(*interleaved(*steps, pairs=pairs), strict=True)
    ours, theirs = (
        Cost(sum(p.numel() for p in step.model.parameters()), operations(step), peak_memory(step), statistics.median(s))
        for step, s in zip(steps, taken, strict=True)
    )
    return ours, theirs


def beside(ours: Cost, twin: Cost) -> list[str]:
    """Both as a table, in lines."""
    lines = [f"{'a training step':<22}{'this network':>16}{'dense twin':>16}{'quotient':>10}"]
    for name, a, b, unit, suffix in (
        ("parameters", ours.parameters, twin.parameters, 1e6, "M"),
        ("operations", ours.operations, twin.operations, 1e9, "G"),
        ("activation memory", ours.memory, twin.memory, 1e6, "MB"),
        ("forward and backward", ours.seconds, twin.seconds, 1, "s"),
    ):
        lines.append(f"{name:<22}{f'{a / unit:,.3g} {suffix}':>16}{f'{b / unit:,.3g} {suffix}':>16}{a / b:>10.3g}")
    return lines


def operations(step: Step) -> int:
    """Operations of the convolutions and matrix products of a step, by torch's counter."""
    counter = FlopCounterMode(display=False)
    with counter:
        step()
    return counter.get_total_flops()


@torch.no_grad()
def multiply_adds(model: nn.Module, channels: int, size: tuple[int, int]) -> int | None:
    """Of convolutions and matrix products, for one image through the model frozen; None where it cannot be."""
    try:
        frozen = to_conv2d(model)
    except ValueError:
        return None
    like = next(frozen.parameters())
    with FlopCounterMode(display=False) as counter:
        frozen(torch.zeros(1, channels, *size, dtype=like.dtype, device=like.device))
    return int(counter.get_total_flops()) // 2


_SILENT_KINETO = ("KINETO_LOG_LEVEL", "6")  # torch's profiler writes lines to stderr where this is not set


def peak_memory(step: Step) -> int:
    """Bytes of all tensors that a step holds at its worst, beyond parameters and their gradients.

    On a CPU by the profiler's record of every allocation, on a GPU by the allocator's peak less the gradients.
    """
    if step.images.device.type == "cuda":
        return _peak_on_cuda(step)
    done = [p.register_post_accumulate_grad_hook(_mark) for p in _learned(step.model)]
    try:
        os.environ.setdefault(*_SILENT_KINETO)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            step()
    finally:
        for handle in done:
            handle.remove()
    assert record.profiler is not None
    events = sorted(record.profiler.kineto_results.events(), key=lambda e: e.start_ns())
    return _peak([(e.name(), e.nbytes()) for e in events if e.name() == "[memory]" or e.name().startswith(_GRADIENT)])


def _peak_on_cuda(step: Step) -> int:
    """Between any two gradients the allocator's peak, less the gradients that were complete by then."""
    peak, gradients = 0, 0
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()

    def complete(parameter: Tensor) -> None:
        nonlocal peak, gradients
        peak = max(peak, torch.cuda.max_memory_allocated() - before - gradients - parameter.nbytes)
        gradients += parameter.nbytes
        torch.cuda.reset_peak_memory_stats()

    handles = [p.register_post_accumulate_grad_hook(complete) for p in _learned(step.model)]
    step()
    for handle in handles:
        handle.remove()
    return peak


def _learned(model: nn.Module) -> Iterator[nn.Parameter]:
    return (p for p in model.parameters() if p.requires_grad)


_GRADIENT = "gradient of "


def _mark(parameter: Tensor) -> None:
    """Leave the size of a gradient that is complete in the profiler's record."""
    with record_function(f"{_GRADIENT}{parameter.nbytes}"):
        pass


def _peak(events: list[tuple[str, int]]) -> int:
    """The largest sum of allocations, without the one that a gradient was made by: the last of its size before it."""
    kept = [size if name == "[memory]" else 0 for name, size in events]
    for at, (name, _) in enumerate(events):
        if name != "[memory]":
            size = int(name.removeprefix(_GRADIENT))
            made = next((i for i in range(at, -1, -1) if kept[i] == size), None)
            if made is not None:
                kept[made] = 0
                freed = next((i for i in range(at, len(kept)) if kept[i] == -size), None)
                if freed is not None:
                    kept[freed] = 0
    return max(accumulate(kept), default=0)


def interleaved(*steps: Callable[[], Any], pairs: int, warm_up: int = 1) -> list[tuple[float, ...]]:
    """Seconds of each of `steps`, run in turn `pairs` times: what slows the machine slows them all."""
    with _no_collection():
        rounds = [tuple(seconds(step) for step in steps) for _ in range(warm_up + pairs)]
    return rounds[warm_up:]


def seconds(step: Callable[[], Any]) -> float:
    """The time of one call, on a GPU until its work is done."""
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


@contextmanager
def _no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
