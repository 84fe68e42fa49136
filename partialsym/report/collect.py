"""Collect the input of the page: runs, grouped by method, with their behaviour."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from partialsym.config import DataConfig, ModelConfig, TrainingConfig
from partialsym.errors import InputError
from partialsym.runs.run import Run
from partialsym.training.behaviour import behaviour


@dataclass(frozen=True)
class Seed:
    """One run.

    Attributes:
        behaviour: see `partialsym.training.behaviour`; None if the model or data are missing, and `problem` says why.
        operations: multiply–adds of the trained network for one image; None if unknown.
    """

    result: dict[str, Any]
    history: Sequence[dict[str, float]] = ()
    behaviour: dict[str, Any] | None = None
    operations: int | None = None
    problem: str = ""

    @property
    def number(self) -> int:
        return int(self.result["config"]["seed"])


@dataclass(frozen=True)
class Method:
    """Runs that differ only in the seed; `title` is their name on the page."""

    name: str
    title: str
    seeds: list[Seed] = field(default_factory=list)

    @property
    def results(self) -> list[dict[str, Any]]:
        return [seed.result for seed in self.seeds]

    @property
    def measured(self) -> list[tuple[Seed, dict[str, Any]]]:
        """The seeds whose behaviour is known, with their behaviour."""
        return [(seed, seed.behaviour) for seed in self.seeds if seed.behaviour is not None]

    @property
    def data(self) -> str:
        """The name of the data set."""
        result = self.seeds[0].result
        return str(result.get("data") or result["config"]["data"]["name"])


def gather(runs: Sequence[Run], root: str | Path | None = None, lengths: bool = True) -> list[Method]:
    """The methods of `runs`, in the order they were given; a name shared by different configs gets a number.

    Args:
        root: folder of the data. It overrides the configs'.
        lengths: whether runs of different length belong to different methods.
    Raises:
        FileNotFoundError: a run has not finished.
        ValueError: there are no runs, or a seed of a method occurs twice.
    """
    if not runs:
        raise InputError("There is nothing to report: no runs were given.")
    read = {run.folder.resolve(): (run, run.result()) for run in runs}
    methods: list[tuple[dict[str, Any], str, dict[int, tuple[Run, dict[str, Any]]]]] = []
    for run, result in read.values():
        settings, name, seed = (
            _without_seed(result["config"], lengths),
            str(result["config"]["name"]),
            result["config"]["seed"],
        )
        found = next((m for m in methods if m[0] == settings), None)
        if found is None:
            same = sum(s["name"] == name for s, *_ in methods)
            found = (settings, f"{name} ({same + 1})" if same else name, {})
            methods.append(found)
        if seed in found[2]:
            raise InputError(f"{run.folder} is seed {seed} of {found[1]!r}, which was given already.")
        found[2][seed] = (run, result)
    return [Method(name, name, [_measure(*one, root) for one in seeds.values()]) for _, name, seeds in methods]


def _measure(run: Run, result: dict[str, Any], root: str | Path | None) -> Seed:
    history = run.history() or result.get("history", [])
    if not (run.folder / "behaviour.json").is_file() and (run.folder / "model").is_dir():
        logging.getLogger(__name__).info("measuring how %s behaves as its images turn", run.folder)
    try:
        found = behaviour(run, root)
    except (OSError, ValueError, ImportError) as error:  # no model, no data, or an extra that reads them
        return Seed(result, history, problem=str(error))
    return Seed(result, history, found, found["multiply_adds"])


def _without_seed(config: dict[str, Any], lengths: bool) -> dict[str, Any]:
    """What identifies a method: the config without the seed, the test fold and the location of the data."""
    model = asdict(ModelConfig()) | config["model"]  # older results lack newer keys
    training = asdict(TrainingConfig()) | config["training"]
    data = asdict(DataConfig()) | config["data"] | {"root": None, "fold": 0}
    if not lengths:
        data, training = data | {"train_images": None}, training | {"epochs": 0, "repeats": 0}
    return {key: value for key, value in config.items() if key != "seed"} | {
        "data": data,
        "model": model,
        "training": training,
    }
