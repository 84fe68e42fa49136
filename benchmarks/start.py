"""How long the command line and the import take."""

import statistics
import subprocess
import sys
from functools import partial

from benchmarks.rows import Book, Row, median_interval
from partialsym.profiling import interleaved

PYTHON = sys.executable
COMMANDS = (
    [PYTHON, "-m", "partialsym.cli.main", "--help"],
    [PYTHON, "-c", "import torch"],
    [PYTHON, "-c", "import torch, partialsym as ps; [getattr(ps, name) for name in dir(ps)]"],
)


def start(book: Book) -> None:
    """`partialsym --help`, and everything `import partialsym` can bring, beyond `import torch`."""
    rounds = interleaved(
        *(partial(subprocess.run, c, check=True, capture_output=True) for c in COMMANDS), pairs=3, warm_up=0
    )
    helps = [helped for helped, _, _ in rounds]
    beyond = [ours - torch for _, torch, ours in rounds]
    for name, values, target in (("partialsym --help", helps, 1.0), ("all of partialsym beyond torch", beyond, 0.3)):
        value, interval = statistics.median(values), median_interval(values)
        book.add(Row(f"start: {name}", value, interval, target, "s", "–", n=len(values)))
