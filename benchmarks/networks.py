"""`python -m benchmarks.networks`: what a training step of every named network costs beside its dense twin.

Parameters, operations, memory and seconds at 32, 96 and 224 pixels; the memory that checkpointing saves; the step of
gresnet18 that is required. Writes benchmarks/networks.json. `python -m benchmarks.tables` renders it. A step of more
operations than MOST is counted, not run: its memory and seconds are None.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cores import Together
from benchmarks.rows import Book, Row, median_interval
from partialsym._utils.atomic import replace_text
from partialsym.models import create
from partialsym.models.dense_twin import dense_twin
from partialsym.profiling import Step, interleaved, operations, peak_memory
from partialsym.registry import PRESETS

RESULTS = Path(__file__).parent / "networks.json"
GROUP, SAMPLES = "SE2", 4
SIDES = {32: 4, 96: 2, 224: 1}  # pixels → images a step
MOST = 6e11  # operations of the twin's step: some four seconds of two cores
PAIRS = 3
REQUIRED, SIDE, IMAGES = "gresnet18", 96, 32
MOST_GIGABYTES, MOST_OF_TWIN = 6.0, 0.8  # of that step


def batch(name: str, images: int, side: int, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Images and labels, of every pixel where the network answers pixel by pixel."""
    shape = (images, side, side) if name == "gunet" else (images,)
    return torch.randn(images, 3, side, side, device=device), torch.randint(0, 2, shape, device=device)


def made(name: str, **settings: Any) -> nn.Module:
    return create(name, group=GROUP, samples=SAMPLES, **settings).train()


def counted(name: str, images: int, side: int) -> dict[str, Any]:
    """Parameters and operations of a step, ours and the twin's: on `meta`, where nothing is computed."""
    with torch.device("meta"):
        ours = made(name)
        twin = dense_twin(ours)
    found: dict[str, Any] = {"name": name, "side": side, "images": images}
    for key, net in (("ours", ours), ("twin", twin)):
        work = operations(Step(net, *batch(name, images, side, "meta")))
        found[key] = {"parameters": sum(p.numel() for p in net.parameters()), "operations": work}
    return found


def measured(
    name: str, images: int, side: int, pairs: int, checkpoint: bool, together: Together | None = None
) -> dict[str, Any]:
    """Memory and seconds of a step; quotients are of pairs of steps, ours and the twin's in turn."""
    model = made(name)
    steps = [Step(net.train(), *batch(name, images, side)) for net in (model, dense_twin(model))]
    memory = [peak_memory(step) for step in steps]  # the warm-up too
    together = together or Together(0.0)
    rounds = [times[1:] for times in interleaved(together, *steps, pairs=pairs, warm_up=0)]
    quotients = [a / b for a, b in rounds]
    a, b = (statistics.median(column) for column in zip(*rounds, strict=True))
    again = Step(made(name, checkpoint=True), *batch(name, images, side))
    return {
        "ours": {"memory": memory[0], "seconds": a},
        "twin": {"memory": memory[1], "seconds": b},
        "quotient": statistics.median(quotients),
        "interval": median_interval(quotients),
        "checkpointed": peak_memory(again) if checkpoint else None,
    }


def row(name: str, images: int, side: int) -> dict[str, Any]:
    """All of one network at one size."""
    found = counted(name, images, side)
    empty: dict[str, Any] = {"ours": {}, "twin": {}, "quotient": None, "interval": None, "checkpointed": None}
    run = found["twin"]["operations"] <= MOST
    more = measured(name, images, side, PAIRS, checkpoint=side == 96) if run else empty
    parts = {key: {"memory": None, "seconds": None, **found[key], **more[key]} for key in ("ours", "twin")}
    return found | more | parts


def required(book: Book, pairs: int = 2 * PAIRS) -> None:
    """The step of gresnet18 that has limits."""
    found = measured(REQUIRED, IMAGES, SIDE, pairs, True, book.together)
    title = f"{REQUIRED} {GROUP}-{SAMPLES}, {SIDE}×{SIDE}, batch {IMAGES}"
    book.add(
        Row(f"{title}: peak memory", found["ours"]["memory"] / 1e9, None, MOST_GIGABYTES, "GB", "float32"),
        Row(f"{title}: peak memory, checkpointed", found["checkpointed"] / 1e9, None, None, "GB", "float32"),
        Row(
            f"{title}: training step",
            found["quotient"],
            found["interval"],
            MOST_OF_TWIN,
            "of the twin",
            "float32",
            found["ours"]["seconds"],
            found["twin"]["seconds"],
            n=pairs,
            note=book.together.note(),
        ),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="*", default=[*PRESETS, "gunet"], help="names, by default all presets")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    book, rows = Book(), []
    required(book)
    for name in options.networks:
        before = time.perf_counter()
        rows += [row(name, images, side) for side, images in SIDES.items()]
        sys.stdout.write(f"  ({name}: {time.perf_counter() - before:.0f} s)\n")
        sys.stdout.flush()
    write(options.out, book, rows)
    return 1 if book.missed else 0


def write(path: Path, book: Book, rows: list[dict[str, Any]]) -> None:
    """The required rows and the table, with the machine, torch and commit they were measured with."""
    book.write(path)
    text = json.dumps({"required": json.loads(path.read_text(encoding="utf-8")), "networks": rows}, indent=1)
    replace_text(path, text + "\n")


if __name__ == "__main__":
    sys.exit(main())
