"""`python -m benchmarks`: measure, print, write benchmarks/results.json; exit status 1 where a target is missed.

Every part, and every case of a training, has a process of its own.

`--pairs 2` and `--parts training frozen` are for a trial: nothing is written.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks.alone import alone
from benchmarks.export import latency
from benchmarks.frozen import frozen
from benchmarks.networks import required
from benchmarks.peers import peers
from benchmarks.rows import PAIRS, Book
from benchmarks.start import start
from benchmarks.training import CASES, Case, training

RESULTS = Path(__file__).parent / "results.json"
PARTS = ("start", "training", "networks", "frozen", "peers", "latency")


def tasks(cases: Sequence[Case], pairs: int) -> dict[str, list[Callable[[Book], None]]]:
    """What each part measures, in processes of their own."""
    return {
        "start": [start],
        "training": [partial(training, cases=[case], pairs=pairs) for case in cases],
        "networks": [partial(required, pairs=max(1, pairs // 10))],
        "frozen": [partial(frozen, pairs=pairs)],
        "peers": [partial(peers, pairs=pairs)],
        "latency": [latency],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="of interleaved steps")
    parser.add_argument("--parts", nargs="+", choices=PARTS)
    parser.add_argument("--case", default="", help="of the trainings those whose name and precision contain this")
    options = parser.parse_args(arguments)
    cases = [case for case in CASES if options.case in f"{case.name}, {case.precision}"]
    book, begun = Book(), time.perf_counter()
    for part, todo in tasks(cases, options.pairs).items():
        for task in todo if part in (options.parts or PARTS) else ():
            before = time.perf_counter()
            alone(book, task)
            sys.stdout.write(f"  ({part}: {time.perf_counter() - before:.0f} s)\n")
            sys.stdout.flush()
    if torch.cuda.is_available() and not options.parts:
        from benchmarks.gpu import gpu

        alone(book, gpu)
    if options.pairs >= PAIRS and not options.parts and not options.case:
        book.write(RESULTS)
    missed, gated = len(book.missed), sum(row.ok is not None for row in book.rows)
    sys.stdout.write(f"{missed} of {gated} targets missed, {time.perf_counter() - begun:.0f} s\n")
    return 1 if book.missed else 0


if __name__ == "__main__":
    sys.exit(main())
