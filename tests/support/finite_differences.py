"""Directional derivatives of a whole network beside central differences of the same function."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from partialsym.densities import Bernoulli

SEED = 7  # of the draws, alike in every evaluation


def scalar(model: nn.Module, images: Tensor) -> Tensor:
    """A fixed smooth function of the logits under fixed draws: of weights neither equal nor of one sign."""
    torch.manual_seed(SEED)
    logits = model(images)
    return (logits * torch.linspace(-1, 1.3, logits.numel()).view_as(logits).cos()).sum() + logits.square().mean()


def gradients(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(scalar(model, images), parameters), strict=True))


def direction(parameter: Tensor, seed: int) -> Tensor:
    """Random, of length 1."""
    v = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed), dtype=parameter.dtype)
    return v / v.norm()


@torch.no_grad()
def difference(f: Callable[[], Tensor], moves: list[tuple[Tensor, Tensor]], step: float) -> float:
    """(f(p + step·v) − f(p − step·v)) / (2·step) for pairs (p, v)."""
    values, kept = [], [p.clone() for p, _ in moves]
    for sign in (1, -1):
        for (p, v), before in zip(moves, kept, strict=True):
            p.copy_(before + sign * step * v)
        values.append(float(f()))
    for (p, _), before in zip(moves, kept, strict=True):
        p.copy_(before)
    return (values[0] - values[1]) / (2 * step)


@contextmanager
def relaxed(model: nn.Module):
    """What the straight-through gradient is a plain derivative of, at the present logits.

    A draw becomes w = w₀ + y(l) − y(l₀), y = σ((l + ε)/τ), with w₀ the draw at the logits l₀ of now; the set that a
    maximum is taken over stays that of w₀.
    """
    found = [m for m in model.modules() if isinstance(m, Bernoulli)]
    handle = None
    if hasattr(model.pool, "mode"):
        handle = model.pool.register_forward_pre_hook(_fixed_set)
    for module in found:
        module.draw = _smooth_draw(module, module.logits.detach().clone())
    try:
        yield
    finally:
        for module in found:
            del module.draw
        if handle is not None:
            handle.remove()


def _fixed_set(_, args):
    (f,) = args
    weights = f.elements.weights
    return (f if weights is None else replace(f, elements=replace(f.elements, weights=weights.detach().round())),)


def _smooth_draw(module, start):
    def draw():
        u = torch.rand_like(start)
        noise = u.log() - torch.log1p(-u)
        y, y0 = (torch.sigmoid((logits + noise) / module.temperature) for logits in (module.logits, start))
        return torch.cat([torch.ones_like(y[:1]), (start + noise > 0).to(y) + y - y0])

    return draw
