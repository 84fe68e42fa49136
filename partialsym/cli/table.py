"""The command `table`: print a table of the paper from existing results."""

import logging
from pathlib import Path

from jsonargparse import Namespace

import partialsym
from partialsym._utils.atomic import replace_text
from partialsym.cli.output import say
from partialsym.figures import of_table, save
from partialsym.reproduction.table import Table, load_table, render

log = logging.getLogger(__name__)
FIGURES = {
    "subsets": "learned subsets per layer",
    "depths": "learned subsets against depth",
    "sizes": "accuracy against the size of the training set",
    "responses": "responses to images turned through 360°",
}


def run(options: Namespace) -> None:
    chosen = load_table(options.table)
    results = Path(options.results) if options.results else _found(chosen.name)
    if not results.exists():
        raise FileNotFoundError(
            f"{results} does not exist: pass the folder `results` of a checkout of partialsym as --results, or create "
            f"it with `reproduce --publish {results}`."
        )
    if not results.is_dir():
        raise NotADirectoryError(f"{results} is not a folder: pass the folder of all results, such as `results`.")
    folder = results / chosen.name
    if not folder.is_dir():
        log.warning("no row of %s has been run: %s does not exist", chosen.name, folder)
    text = render(chosen, folder)
    say(text)
    if options.out:
        replace_text(Path(options.out) / "table.md", text + "\n")
        _figures(chosen, folder, Path(options.out))


def _found(table: str) -> Path:
    """The folder `results` here if it contains that table, else the one beside the package if that is a checkout."""
    here, checkout = Path("results"), Path(partialsym.__file__).parents[1] / "results"
    if not (here / table).is_dir() and (checkout / table).is_dir():
        log.info("results of %s", checkout)
        return checkout
    return here


def _figures(table: Table, folder: Path, out: Path) -> None:
    for name, figure in of_table(table.longest(folder)).items():
        say(f"{FIGURES[name]}: {save(figure, out / f'{name}.png')}")
