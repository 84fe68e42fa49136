"""Tables: running their rows, and printing what is there."""

import logging
from pathlib import Path

import torch
from jsonargparse import Namespace

from partialsym.commands.saying import progress, say
from partialsym.config import ConfigError, Experiment
from partialsym.files import replace_text
from partialsym.table import Table, load_table, render
from partialsym.train import load_data, run_folder, train

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
    """Run rows of a table, one after the other, but for those whose results are there.

    Raises:
        ValueError: some runs failed; those after them were run all the same.
    """
    table = load_table(options.table)
    rows, seeds = table.select(options.rows), parse_seeds(options.seeds)
    out = Path(options.out)
    budget = table.budget(options.budget)
    results = Path(options.publish or out) / table.name
    done = {(row, result["config"]["seed"]) for row in rows for result in table.results(results, row, budget)}
    queue = [(row, table.experiment(row, seed, budget)) for seed in seeds for row in rows if (row, seed) not in done]
    _look_ahead([config for _, config in queue], out, options)
    failed = []
    for row, config in queue:
        log.info("%s, seed %d, budget %s", row, config.seed, budget)
        try:
            run = train(config, out, resume=True, progress=progress(options), root=options.data.root)
        except (ValueError, OSError, torch.OutOfMemoryError) as error:
            log.error("%s, seed %d, failed: %s", row, config.seed, error)
            failed.append(f"{row} (seed {config.seed})")
            continue
        if options.publish:
            run.publish(results / table.place(row, budget) / f"seed{config.seed}.json")
    say(render(table, results, rows, [budget]))
    if failed:
        raise ValueError(f"{len(failed)} of {len(queue)} runs failed, for reasons given above: {', '.join(failed)}.")


def _look_ahead(queue: list[Experiment], out: Path, options: Namespace) -> None:
    """Raise now what would stop the queue hours later: folders of other runs, missing data, nowhere to publish."""
    for config in queue:
        run_folder(config, out).check(config, resume=True)
    for data in {c.data.name: c.data for c in queue if not run_folder(c, out).finished}.values():
        load_data(data, options.data.root)
    if options.publish:
        Path(options.publish).mkdir(parents=True, exist_ok=True)


def table(options: Namespace) -> None:
    chosen = load_table(options.table)
    results = Path(options.results)
    if not results.exists():
        raise FileNotFoundError(f"{results} does not exist: `reproduce --publish {results}` makes it.")
    if not results.is_dir():
        raise NotADirectoryError(f"{results} is no folder: give that of all results, such as `results`.")
    folder = results / chosen.name
    if not folder.is_dir():
        log.warning("no row of %s has been run: %s is not there", chosen.name, folder)
    text = render(chosen, folder)
    say(text)
    if options.out:
        replace_text(Path(options.out) / "table.md", text + "\n")
        _figures(chosen, folder, Path(options.out))


def _figures(table: Table, folder: Path, out: Path) -> None:
    from partialsym.figures import of_table, save

    for name, figure in of_table(table.longest(folder)).items():
        say(f"{FIGURES[name]}: {save(figure, out / f'{name}.png')}")
