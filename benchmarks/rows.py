"""One measured number, its interval, and whether it meets its target."""

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.cores import PATIENCE, Together
from partialsym._utils.atomic import replace_text
from partialsym.profiling import interleaved
from partialsym.runs.provenance import provenance

PAIRS = 20


@dataclass(frozen=True)
class Row:
    """`value` with its 95 % `interval`, of `n` values; None where it was not measured.

    `note` says why it was not, or what was amiss.

    `target` is an upper limit, required, and `aim` one that is hoped for; `ok` is None where nothing is to be met.
    `ours` and `twin` are the two seconds or bytes of a quotient.
    """

    name: str
    value: float | None
    interval: tuple[float, float] | None
    target: float | None
    unit: str
    precision: str
    ours: float | None = None
    twin: float | None = None
    aim: float | None = None
    n: int = 1
    note: str = ""

    @property
    def ok(self) -> bool | None:
        return None if self.target is None or self.value is None else self.value <= self.target

    def line(self) -> str:
        spread = f"[{self.interval[0]:.3g}, {self.interval[1]:.3g}]" if self.interval else ""
        target = "" if self.target is None else f"≤ {self.target:g}"
        aim = "" if self.aim is None else f"aim ≤ {self.aim:g}"
        mark = {None: "", True: "ok", False: "MISSED"}[self.ok]
        value = self.note if self.value is None else f"{self.value:>9.4g} {spread:<16} {self.unit:<17}"
        mark = f"{mark} {self.note}".strip() if self.value is not None else mark
        return f"{self.name:<72} {self.precision:<8} {value:<44} {target:<7} {aim:<11} {mark}".rstrip()


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
    together: Together | None = None,
) -> Row:
    """The median of ours / twin over interleaved pairs."""
    together = together or Together(0.0)
    _, a, b = zip(*interleaved(together, ours, twin, pairs=pairs, warm_up=warm_up), strict=True)
    return quotient_of(name, a, b, precision=precision, target=target, unit=unit, note=together.note())


def quotient_of(
    name: str,
    ours: Sequence[float],
    twin: Sequence[float],
    *,
    precision: str,
    target: float | None = None,
    aim: float | None = None,
    unit: str = "of the twin",
    note: str = "",
) -> Row:
    """The median of ours / twin, of the seconds of interleaved pairs."""
    quotients = [a / b for a, b in zip(ours, twin, strict=True)]
    value, a, b = (statistics.median(column) for column in (quotients, ours, twin))
    return Row(name, value, median_interval(quotients), target, unit, precision, a, b, aim, len(quotients), note)


class Book:
    """Collects rows, prints each as it comes, writes them all as JSON; `together` is to run before each round."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.rows: list[Row] = []
        self.together = Together(patience)
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
