"""The command `reproduce`: run the rows of a table of the paper."""

import logging
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace

from partialsym.cli.output import progress, say
from partialsym.config import ConfigError, Experiment
from partialsym.errors import InputError
from partialsym.reproduction.table import TINY, load_table, render
from partialsym.training.fit import load_data, run_folder, train

log = logging.getLogger(__name__)


def parse_seeds(text: str) -> list[int]:
    """`0,1,2` → [0, 1, 2]."""
    try:
        seeds = [int(seed) for seed in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds is {text!r}: must be distinct whole numbers ≥ 0, such as 0,1,2.")
    return seeds


def run(options: Namespace) -> None:
    """Run the rows of a table that have no results yet, one after the other.

    Raises:
        ValueError: some runs failed; the later ones were run nevertheless.
    """
    table = load_table(options.table)
    budget = table.budget(options.budget)
    if budget == TINY and options.publish:
        raise ConfigError(
            f"--publish is {options.publish}: must be left out, because the budget tiny produces no results."
        )
    default = "0" if budget == TINY else "0,1,2"
    seeds = parse_seeds(default if options.seeds is None else options.seeds)
    rows, out = table.select(options.rows), Path(options.out)
    results = Path(options.publish or out) / table.name
    there = {row: table.results(results, row, budget) for row in rows}
    done = {(row, result["config"]["seed"]) for row in rows for result in there[row]}
    queue = [(row, table.experiment(row, seed, budget)) for seed in seeds for row in rows if (row, seed) not in done]
    _look_ahead(queue, there, options)
    failed = []
    for row, config in queue:
        log.info("%s, seed %d, budget %s", row, config.seed, budget)
        try:
            trained = train(config, out, resume=True, progress=progress(options), root=options.data.root)
            if options.publish:
                trained.publish(results / table.place(row, budget) / f"seed{config.seed}.json")
        except (ValueError, OSError, torch.OutOfMemoryError) as error:
            log.error("%s, seed %d, failed: %s", row, config.seed, error)
            failed.append(f"{row} (seed {config.seed})")
    say(render(table, results, rows, [budget]))
    if failed:
        raise InputError(f"{len(failed)} of {len(queue)} runs failed, for reasons given above: {', '.join(failed)}.")


def _look_ahead(
    queue: list[tuple[str, Experiment]], there: dict[str, list[dict[str, Any]]], options: Namespace
) -> None:
    """Detect errors that would otherwise occur hours later.

    Raises:
        ValueError: a folder belongs to another run, or the existing results used other data.
        OSError: data are missing, or the folder to publish to cannot be created.
    """
    if options.publish:
        Path(options.publish).mkdir(parents=True, exist_ok=True)
    found: dict[str | None, str] = {}
    for row, config in queue:
        folder, name = run_folder(config, options.out), config.data.name
        folder.check(config, resume=True)
        if name not in found and not folder.finished:
            found[name] = load_data(config.data, options.data.root).name
        if name in found and (other := {r.get("data", found[name]) for r in there[row]} - {found[name]}):
            raise InputError(f"{row} was run on {other.pop()}, not on {found[name]}: use another --publish.")
