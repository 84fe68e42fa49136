"""Runs → one HTML page and its figures."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from partialsym.config import DataConfig, ModelConfig, TrainingConfig
from partialsym.figures import responses, save, subsets, training
from partialsym.files import replace_text
from partialsym.page import Method, page
from partialsym.run import Run


def report(runs: Sequence[Run], out: Path) -> Path:
    """Write OUT/index.html, one self-contained page, and its figures beside it as PNG; returns the page's path.

    Args:
        runs: finished runs; those that differ in nothing but their seed are one method.
        out: folder to write to; nothing is written unless every run can be read.
    Raises:
        FileNotFoundError: a run has not finished.
        ValueError: no runs, or one seed of a method twice.
    """
    methods = gather(runs)
    figures = draw(methods)
    html = page(methods, figures)
    for name, figure in figures.items():
        save(figure, Path(out) / f"{name}.png")
    target = Path(out) / "index.html"
    replace_text(target, html)
    return target


def gather(runs: Sequence[Run]) -> list[Method]:
    """The methods of `runs`, in the order they were given; a name shared by different configs gets a number."""
    if not runs:
        raise ValueError("There is nothing to report: no runs were given.")
    read = {run.folder.resolve(): (run, run.result()) for run in runs}
    methods: list[tuple[dict[str, Any], Method]] = []
    for run, result in read.values():
        settings = _without_seed(result["config"])
        method = next((m for s, m in methods if s == settings), None)
        if method is None:
            name = str(result["config"]["name"])
            same = sum(s["name"] == name for s, _ in methods)
            method = Method(f"{name} ({same + 1})" if same else name)
            methods.append((settings, method))
        if (seed := result["config"]["seed"]) in method.seeds:
            raise ValueError(f"{run.folder} is seed {seed} of {method.name!r}, which was given already.")
        method.results.append(result)
        method.histories.append(run.history() or result.get("history", []))
    return [method for _, method in methods]


def draw(methods: Sequence[Method]) -> dict[str, Figure]:
    """The figures these methods have something to show in."""
    figures = {"subsets": subsets({m.name: m.results for m in methods})}
    if turned := {m.name: m.results for m in methods if any("response" in result for result in m.results)}:
        figures["responses"] = responses(turned)
    if histories := {m.name: m.histories for m in methods if any(m.histories)}:
        figures["training"] = training(histories)
    return figures


def _without_seed(config: dict[str, Any]) -> dict[str, Any]:
    """What makes two runs the same method: neither their seed nor where the data lies."""
    model = asdict(ModelConfig()) | config["model"]  # a result may be older than a key
    training = asdict(TrainingConfig()) | config["training"]
    data = asdict(DataConfig()) | config["data"] | {"root": None}
    return {key: value for key, value in config.items() if key != "seed"} | {
        "data": data,
        "model": model,
        "training": training,
    }
