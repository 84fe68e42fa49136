"""One measured number, its interval, and whether it meets its target."""

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from partialsym._utils.atomic import replace_text
from partialsym.profiling import interleaved
from partialsym.runs.provenance import provenance

PAIRS = 20


@dataclass(frozen=True)
class Row:
    """`value` with its 95 % `interval`; `ok` is None where there is no `target`, an upper limit, to meet.

    `ours` and `twin` are the two seconds or bytes of a quotient.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    target: float | None
    unit: str
    precision: str
    ours: float | None = None
    twin: float | None = None

    @property
    def ok(self) -> bool | None:
        return None if self.target is None else self.value <= self.target

    def line(self) -> str:
        spread = f"[{self.interval[0]:.3g}, {self.interval[1]:.3g}]" if self.interval else ""
        target = "" if self.target is None else f"≤ {self.target:g}"
        mark = {None: "", True: "ok", False: "MISSED"}[self.ok]
        return f"{self.name:<52} {self.precision:<8} {self.value:>9.4g} {spread:<16} {self.unit:<12} {target:<8} {mark}"


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the median that holds for any distribution, by order statistics; None below 6 values."""
    ordered, n = sorted(values), len(values)
    if n < 6:
        return None
    spread = 0.98 * n**0.5  # 1.96 standard deviations of Binomial(n, ½)
    low, high = max(0, int(n / 2 - spread)), min(n - 1, int(n / 2 + spread + 0.999))
    return ordered[low], ordered[high]


def quotient(
    name: str,
    ours: Callable[[], Any],
    twin: Callable[[], Any],
    *,
    precision: str,
    target: float | None = None,
    pairs: int = PAIRS,
    warm_up: int = 1,
    unit: str = "of the twin",
) -> Row:
    """The median of ours / twin over interleaved pairs."""
    rounds = interleaved(ours, twin, pairs=pairs, warm_up=warm_up)
    quotients = [a / b for a, b in rounds]
    a, b = (statistics.median(column) for column in zip(*rounds, strict=True))
    return Row(name, statistics.median(quotients), median_interval(quotients), target, unit, precision, a, b)


class Book:
    """Collects rows, prints each as it comes, writes them all as JSON."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.origin = provenance()

    def add(self, *rows: Row) -> None:
        for row in rows:
            self.rows.append(row)
            sys.stdout.write(row.line() + "\n")
            sys.stdout.flush()

    @property
    def missed(self) -> list[Row]:
        return [row for row in self.rows if row.ok is False]

    def write(self, path: Path) -> None:
        """Each row with the machine, torch and commit it was measured with."""
        machine, git = self.origin["machine"] | {"bf16": bf16()}, self.origin["git"]
        about = {"machine": machine, "torch": torch.__version__, "git": git}
        rows = [asdict(row) | {"ok": row.ok} | about for row in self.rows]
        replace_text(path, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


def bf16() -> str:
    """What the processor has for bfloat16."""
    processor = torch.cpu.get_capabilities()
    if processor.get("amx_tile"):
        return "AMX"
    return "AVX-512" if processor.get("avx512_bf16") else "none"
