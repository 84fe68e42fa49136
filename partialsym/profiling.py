"""The cost of a training step: parameters, operations, activation memory and seconds, compared with a dense twin."""

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
    """The cost of one training step: forward and backward pass, without the optimiser.

    Attributes:
        parameters: number of parameters.
        operations: number of additions and multiplications.
        memory: peak memory in bytes, without parameters and their gradients.
        seconds: median over the measured steps.
    """

    parameters: int
    operations: int
    memory: int
    seconds: float


AUTOCAST = {"32": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}  # of a training.precision


class Step:
    """One forward and backward pass of a classifier on one batch. `step()` clears the gradients afterwards.

    Args:
        model: images → logits.
        images, labels: the batch, on the model's device.
        dtype: dtype of autocast; float32 means no autocast. In float16 the loss is not scaled, which does not affect
            the cost.
        forward: a function to call instead of `model`, such as its compiled form.
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
    """The lines of a table that compares both costs."""
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
    """Number of operations in the convolutions and matrix products of a step, from torch's counter."""
    counter = FlopCounterMode(display=False)
    with counter:
        step()
    return counter.get_total_flops()


@torch.no_grad()
def multiply_adds(model: nn.Module, channels: int, size: tuple[int, int]) -> int | None:
    """Multiply-adds of convolutions and matrix products for one image in the model converted by `to_conv2d`.

    None if the model cannot be converted.
    """
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
    """Peak memory in bytes of all tensors of a step, except parameters and their gradients.

    On a CPU it is computed from the allocations that the profiler records; on a GPU, from the allocator's peak.
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
    """The largest of the allocator's peaks between two gradients, each without the gradients complete at that time."""
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
    """Write the size of a complete gradient to the profiler's record."""
    with record_function(f"{_GRADIENT}{parameter.nbytes}"):
        pass


def _peak(events: list[tuple[str, int]]) -> int:
    """The largest sum of allocations, without those of gradients.

    The allocation of a gradient is taken to be the last one of the same size before it.
    """
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
    """Seconds of each of `steps`, run alternately `pairs` times, so that a slower machine affects them all."""
    with _no_collection():
        rounds = [tuple(seconds(step) for step in steps) for _ in range(warm_up + pairs)]
    return rounds[warm_up:]


def seconds(step: Callable[[], Any]) -> float:
    """Seconds of one call. On a GPU, this includes waiting for its work to finish."""
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
