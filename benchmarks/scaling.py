"""How time and memory of a training step grow with batch, image side and elements, beside the twin's.

`python -m benchmarks.scaling` takes a minute and a half, and writes benchmarks/scaling.json.
"""

import sys
from pathlib import Path

import torch

from benchmarks.rows import Book, Row, quotient
from benchmarks.training import batch
from partialsym import GResNet
from partialsym.models.dense_twin import dense_twin
from partialsym.profiling import Step, peak_memory

RESULTS = Path(__file__).parent / "scaling.json"
WIDTH, BATCH, SIDE, ELEMENTS = 8, 16, 28, 8
AXES = {"batch": (16, 32, 64, 128), "image side": (28, 40, 56), "elements": (4, 8, 16, 32)}
PAIRS = 4


def scaling(book: Book) -> None:
    """The quotient to the twin at each size, over that at the smallest: 1 where both grow alike."""
    for axis, sizes in AXES.items():
        first: tuple[float, float] | None = None
        for size in sizes:
            images, side, elements = (
                size if axis == name else usual
                for name, usual in (("batch", BATCH), ("image side", SIDE), ("elements", ELEMENTS))
            )
            model = GResNet("SE2", width=WIDTH, samples=elements)
            steps = [Step(net.train(), *batch(images, 1, side)) for net in (model, dense_twin(model))]
            name = f"ResNet, width {WIDTH}, {axis} {size}"
            row = quotient(f"{name}: training step", *steps, precision="float32", pairs=PAIRS, together=book.together)
            a, b = (peak_memory(step) for step in steps)
            memory = Row(f"{name}: peak memory", a / b, None, None, "of the twin", "float32", a, b)
            book.add(row, memory)
            assert row.value is not None
            if first is None:
                first = row.value, a / b
            else:
                for kind, now, then, target in (
                    ("growth", row.value, first[0], 1.10),
                    ("growth of memory", a / b, first[1], None),
                ):
                    title = f"{kind} with {axis}, {sizes[0]} → {size}"
                    book.add(Row(title, now / then, None, target, "of the twin's", "float32"))


def main() -> int:
    torch.manual_seed(0)
    book = Book()
    scaling(book)
    book.write(RESULTS)
    return 1 if book.missed else 0


if __name__ == "__main__":
    sys.exit(main())
