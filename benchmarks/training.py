"""The training step against the dense twin, whole and layer by layer."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.rows import Book, Row, quotient
from partialsym import GCNN13, SE2, SIREN, T2, Elements, GResNet, GroupConv, Signal, dirac, haar
from partialsym.models.dense_twin import dense_twin
from partialsym.profiling import Step, peak_memory, seconds

CNN13_BATCH, LAYER_BATCH = 1, 4  # what ten minutes leave time for, twenty pairs and three
PRECISIONS = ("float32", "bf16")


def batch(images: int, channels: int, side: int) -> tuple[Tensor, Tensor]:
    return torch.randn(images, channels, side, side), torch.randint(0, 10, (images,))


def training(book: Book) -> None:
    """Time and memory of forward + backward, and the optimiser beside it."""
    cases = (
        ("ResNet SE2-8, batch 64", GResNet("SE2"), batch(64, 1, 28), 1.15),
        (f"13-layer SE2-8, batch {CNN13_BATCH}", GCNN13("SE2", in_channels=3), batch(CNN13_BATCH, 3, 32), 0.70),
    )
    for name, model, data, target in cases:
        twin = dense_twin(model)
        for precision in PRECISIONS:
            ours, theirs = (Step(net.train(), *data, precision == "bf16") for net in (model, twin))
            a, b = peak_memory(ours), peak_memory(theirs)  # the warm-up too
            book.add(
                Row(f"{name}: peak memory", a / b, None, 1.20, "of the twin", precision, a, b),
                quotient(f"{name}: training step", ours, theirs, precision=precision, target=target, warm_up=0),
            )
        adam, twins = (optimiser(net) for net in (model, twin))
        book.add(Row(f"{name}: optimiser (Adam)", adam / twins, None, None, "of the twin", "float32", adam, twins))


def optimiser(model: nn.Module) -> float:
    """Seconds of a step of Adam, the second one."""
    adam = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    adam.step()
    taken = seconds(adam.step)
    model.zero_grad()
    return taken


def layers(book: Book) -> None:
    """The group convolutions of the 13-layer CNN by themselves, forward and backward."""
    for into, out, side in ((3, 128, 32), (128, 128, 32), (128, 256, 32), (256, 256, 16), (256, 256, 8)):
        domain, elements = (T2(), dirac(T2())) if into == 3 else (SE2(), haar(SE2(), 8))
        n, kernel = elements.samples, partial(SIREN, hidden=8)
        layer = GroupConv(into, out, domain=domain, codomain=haar(SE2(), 8), kernel_size=3, kernel=kernel)
        plain = nn.Conv2d(into * n, out * 8, 3, padding="same")
        values = torch.randn(LAYER_BATCH, into, n, side, side)
        for precision in PRECISIONS:
            ours = _step(layer, partial(_on_group, layer, elements.sample()), values, precision)
            theirs = _step(plain, plain, values.flatten(1, 2), precision)
            name = f"13-layer, batch {LAYER_BATCH}, {into} → {out} channels at {side}×{side}"
            book.add(quotient(name, ours, theirs, precision=precision, pairs=3))


def _on_group(layer: GroupConv, elements: Elements, values: Tensor) -> Tensor:
    return layer(Signal(values, elements)).values


def _step(
    layer: nn.Module, call: Callable[[Tensor], Tensor], values: Tensor, precision: str
) -> Callable[[], tuple[Tensor, ...]]:
    """Forward and backward of one layer, towards its input too unless that is an image; keeps no gradient."""
    half, image = precision == "bf16", values.shape[1] == 3
    values = values.detach().to(torch.bfloat16 if half else torch.float32).requires_grad_(not image)
    wanted = [p for p in layer.parameters() if p.requires_grad] + ([] if image else [values])

    def step() -> tuple[Tensor, ...]:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = call(values)
        return torch.autograd.grad(out, wanted, torch.ones_like(out))

    return step
