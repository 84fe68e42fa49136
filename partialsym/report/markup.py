"""Pieces of HTML; every text in them is escaped, once, here."""

import importlib.resources
import statistics
from collections.abc import Iterable, Sequence
from html import escape
from string import Template

Row = Sequence["str | tuple[str]"]  # of a table: texts, or HTML as a tuple of one


def resource(name: str) -> str:
    """A file of this package."""
    return (importlib.resources.files(__package__) / name).read_text(encoding="utf-8")


def fill(name: str, **values: str) -> str:
    """A file of this package with its `$names` filled in by HTML."""
    return Template(resource(name)).substitute(values)


def name_of(text: str) -> str:
    """A name inside a sentence: what is written from right to left in it stays in it."""
    return f"<bdi>{escape(text)}</bdi>"


def paragraph(text: str, kind: str = "") -> str:
    of = f' class="{kind}"' if kind else ""
    return f"<p{of}>{escape(text)}</p>" if text else ""


def section(name: str, title: str, *parts: str) -> str:
    """A part of the page under a heading; nothing where nothing is in it."""
    inside = "\n".join(filter(None, parts))
    return f'<section id="{name}">\n<h2>{escape(title)}</h2>\n{inside}\n</section>' if inside else ""


def details(summary: str, *parts: str) -> str:
    inside = "\n".join(parts)
    return f"<details>\n<summary>{escape(summary)}</summary>\n{inside}\n</details>"


def table(head: Sequence[str], rows: Iterable[Row], caption: str = "", texts: int = 1) -> str:
    """A table whose first column names the rows; the first `texts` columns are words, the others numbers.

    A cell is a text, or HTML as a tuple of one.
    """

    def cells(row: Row, tag: str) -> str:
        made = []
        for i, value in enumerate(row):
            of = ' scope="col"' if tag == "th" else ""
            kind = "" if i < texts else ' class="n"'
            inside = value[0] if isinstance(value, tuple) else escape(value)
            made.append(f'<th scope="row">{inside}</th>' if not i and not of else f"<{tag}{of}{kind}>{inside}</{tag}>")
        return f"<tr>{''.join(made)}</tr>"

    body = "\n".join(cells(row, "td") for row in rows)
    head_row = cells(list(head), "th")
    return (
        f'<div class="wide"><table>\n<thead>{head_row}</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'
        + paragraph(caption, "soft")
    )


def spread(values: Sequence[float], digits: int = 2) -> str:
    """`mean ± std` (n − 1 in the denominator); the mean alone where there is one value."""
    text = f"{statistics.mean(values):.{digits}f}"
    return text if len(values) < 2 else f"{text} ± {statistics.stdev(values):.{digits}f}"


def shared(texts: Iterable[str]) -> str:
    """What the seeds have in common, or all they have."""
    return "; ".join(dict.fromkeys(texts))


def count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"
