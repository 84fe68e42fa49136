"""What each layer of a network loses by computing in a lower precision, on the inputs it gets in the network."""

from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from partialsym import BatchNorm, GlobalPool, GroupConv, InstanceNorm, LinearPool, Signal
from partialsym.signal import Elements

LAYERS = (GroupConv, BatchNorm, InstanceNorm, GlobalPool, LinearPool, nn.Linear)


@dataclass
class Call:
    """One call of a layer in a network: its input, and the elements its output is on."""

    name: str
    layer: nn.Module
    given: Any
    at: Elements | None


@contextmanager
def low(bf16: bool):
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        yield


@torch.no_grad()
def calls(model: nn.Module, images: Tensor, bf16: bool) -> list[Call]:
    """Of all layers in train mode, float32 or under autocast."""
    found: list[Call] = []

    def keep(name):
        def hook(layer, args, out):
            found.append(Call(name, layer, args[0], out.elements if isinstance(layer, GroupConv) else None))

        return hook

    inner = [(n, m) for n, m in model.named_modules() if isinstance(m, LAYERS)]
    own = {id(x) for _, m in inner if isinstance(m, GroupConv | LinearPool) for x in m.modules() if x is not m}
    handles = [m.register_forward_hook(keep(n)) for n, m in inner if id(m) not in own]
    with low(bf16):
        model.train()(images)
    for handle in handles:
        handle.remove()
    return found


def run(call: Call, dtype: torch.dtype, bf16: bool) -> tuple[Tensor, list[Tensor]]:
    """The layer's output and its gradients: towards the values, all parameters together, and the elements."""
    layer = deepcopy(call.layer).to(dtype)
    values = call.given.values if isinstance(call.given, Signal) else call.given
    # autocast's own inputs are in bf16; the layer that they are compared with gets them exactly
    values = (values if bf16 else values.to(dtype)).detach().requires_grad_()
    leaves, given, rest = [values], values, {}
    if isinstance(call.given, Signal):
        given = Signal(values, _in(call.given.elements, dtype))
    if call.at is not None:
        at = _in(call.at, dtype)
        rest = {"elements": replace(at, matrices=at.matrices.requires_grad_())}
        leaves.append(at.matrices)
    with low(bf16):
        out = layer(given, **rest)
    out = out.values if isinstance(out, Signal) else out
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(0)).to(out.dtype)
    own = [p for name, p in layer.named_parameters() if not name.startswith("codomain")]
    grads = torch.autograd.grad(out, [*leaves, *own], cotangent, materialize_grads=True)
    together = [torch.cat([g.flatten() for g in grads[len(leaves) :]])] if own else []
    return out.detach(), [grads[0], *together, *grads[1 : len(leaves)]]


def _in(elements: Elements, dtype: torch.dtype) -> Elements:
    weights = None if elements.weights is None else elements.weights.detach().to(dtype)
    return replace(elements, matrices=elements.matrices.detach().to(dtype), weights=weights)


def distance(a: Tensor, b: Tensor) -> float:
    """‖a − b‖ / ‖b‖, both as float64."""
    return float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-300))


def losses(call: Call, bf16: bool) -> dict[str, float]:
    """Relative L2 errors of float32 against float64, or of bf16 against float32."""
    names = ["output", "input", "weights", "elements"] if call.at is not None else ["output", "input", "weights"]
    low_out, low_grads = run(call, torch.float32, bf16)
    out, grads = run(call, torch.float32 if bf16 else torch.float64, False)
    return {n: distance(a, b) for n, a, b in zip(names, [low_out, *low_grads], [out, *grads], strict=False)}
