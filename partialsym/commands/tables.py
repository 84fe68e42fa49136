"""Tables: running their rows, and printing what is there."""

import logging
from pathlib import Path

from jsonargparse import Namespace

from partialsym.commands.saying import progress, say
from partialsym.config import ConfigError
from partialsym.files import replace_text
from partialsym.table import Table, load_table, render
from partialsym.train import run_folder, train

log = logging.getLogger(__name__)


FIGURES = {
    "subsets": "learned subsets per layer",
    "depths": "learned subsets against depth",
    "sizes": "accuracy against the size of the training set",
    "responses": "responses to images turned through 360°",
}


def parse_seeds(text: str) -> list[int]:
    """`0,1,2` → [0, 1, 2]."""
    try:
        seeds = [int(seed) for seed in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds is {text!r}: must be distinct whole numbers ≥ 0, such as 0,1,2.")
    return seeds


def reproduce(options: Namespace) -> None:
    table = load_table(options.table)
    rows, seeds = table.select(options.rows), parse_seeds(options.seeds)
    out = Path(options.out)
    budget = table.budget(options.budget)
    queue = [(row, table.experiment(row, seed, budget)) for seed in seeds for row in rows]
    for _, config in queue:
        run_folder(config, out).check(config, resume=True)  # a conflict shows now, not hours later
    for row, config in queue:
        log.info("%s, seed %d, budget %s", row, config.seed, budget)
        run = train(config, out, resume=True, progress=progress(options), root=options.data.root)
        if options.publish:
            run.publish(Path(options.publish) / table.name / table.place(row, budget) / f"seed{config.seed}.json")
    say(render(table, out / table.name, rows, [budget]))


def table(options: Namespace) -> None:
    chosen = load_table(options.table)
    if not Path(options.results).is_dir():
        raise FileNotFoundError(f"{options.results} does not exist: `reproduce --publish {options.results}` makes it.")
    folder = Path(options.results) / chosen.name
    text = render(chosen, folder)
    say(text)
    if options.out:
        replace_text(Path(options.out) / "table.md", text + "\n")
        _figures(chosen, folder, Path(options.out))


def _figures(table: Table, folder: Path, out: Path) -> None:
    from partialsym.figures import of_table, save

    for name, figure in of_table(table.longest(folder)).items():
        say(f"{FIGURES[name]}: {save(figure, out / f'{name}.png')}")
