"""Write a report to one file or to a folder."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from partialsym._utils.atomic import replace_text
from partialsym.ask.two_sample import Visibility
from partialsym.figures import responses, save, subsets, training
from partialsym.report.collect import Method, gather
from partialsym.report.page import page
from partialsym.report.tables import tables
from partialsym.report.verdicts import Judged, judge
from partialsym.runs.run import Run


def report(runs: Sequence[Run], out: Path, root: str | Path | None = None, asked: str | None = None) -> Path:
    """Write the results of finished runs as an HTML page, and return its path.

    Args:
        runs: run folders. Runs that differ only in the seed form one method.
        out: a file ending in .html, which contains everything; or a folder for index.html, figures (.png) and tables
            (.csv). Nothing is written unless every run can be read.
        root: folder of the data. It overrides the runs' configs. If the data or a model are missing, the page says so
            instead of showing the measurements on them.
        asked: the question in plain words, then a blank line and the conditions.
    Raises:
        FileNotFoundError: a run has not finished.
        ValueError: there are no runs, or a seed of a method occurs twice.
    """
    return write(judge(gather(runs, root)), out, asked)


def write(
    judged: Judged, out: Path, asked: str | None = None, seen: Sequence[Visibility] = (), command: str = ""
) -> Path:
    """Write the page about methods with a verdict, and return its path: see `report`, and `page` for the arguments."""
    out = Path(out)
    files = tables(judged)
    single = out.suffix.lower() == ".html"
    html = page(judged, files, asked=asked, seen=seen, command=command, single=single)
    if single:
        _write(out, html)
        return out
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a letter of a name that the font lacks
        for name, figure in draw(judged.methods).items():
            save(figure, out / f"{name}.png")
    for name, text in files.items():
        _write(out / name, text)
    _write(out / "index.html", html)
    return out / "index.html"


def draw(methods: Sequence[Method]) -> dict[str, Figure]:
    """The figures for which these methods have data. Each figure shows all methods."""
    figures = {"subsets": subsets({m.title: m.results for m in methods})}
    if turned := {m.title: m.results for m in methods if any("response" in result for result in m.results)}:
        figures["responses"] = responses(turned)
    histories = {m.title: [list(seed.history) for seed in m.seeds] for m in methods}
    if trained := {title: seeds for title, seeds in histories.items() if any(seeds)}:
        figures["training"] = training(trained)
    return figures


def _write(path: Path, text: str) -> None:
    """Replace lone surrogates, as in a file name that is not UTF-8, by question marks."""
    replace_text(path, text.encode("utf-8", "replace").decode())
