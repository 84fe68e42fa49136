"""Format numbers for the tables and sentences of the page."""

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """The texts of a table. The first cell of a row is its name."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """`mean ± std` (n − 1 in the denominator); only the mean for a single value."""
    text = f"{statistics.mean(values):.{digits}f}"
    return text if len(values) < 2 else f"{text} ± {statistics.stdev(values):.{digits}f}"


def shared(texts: Iterable[str]) -> str:
    """The distinct texts, such as the one that all seeds share."""
    return "; ".join(dict.fromkeys(texts))


def count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"
