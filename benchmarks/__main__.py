"""`python -m benchmarks`: measure, print, write benchmarks/results.json; exit status 1 where a target is missed."""

import sys
import time
from pathlib import Path

import torch

from benchmarks.export import latency
from benchmarks.frozen import frozen
from benchmarks.peers import peers
from benchmarks.rows import Book
from benchmarks.scaling import scaling
from benchmarks.start import start
from benchmarks.training import layers, training

RESULTS = Path(__file__).parent / "results.json"


def main() -> int:
    torch.manual_seed(0)
    book = Book()
    for part in (start, training, frozen, scaling, layers, peers, latency):
        before = time.perf_counter()
        part(book)
        sys.stdout.write(f"  ({part.__name__}: {time.perf_counter() - before:.0f} s)\n")
    if torch.cuda.is_available():
        from benchmarks.gpu import gpu

        gpu(book)
    book.write(RESULTS)
    sys.stdout.write(f"{len(book.missed)} of {sum(row.ok is not None for row in book.rows)} targets missed\n")
    return 1 if book.missed else 0


if __name__ == "__main__":
    sys.exit(main())
