"""The cost of the models, and the provenance of the numbers."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from partialsym.report.collect import Method, Seed
from partialsym.report.text import Table, count, shared, spread


class RunRecord(NamedTuple):
    """The provenance of the numbers of one run."""

    seed: int
    lines: dict[str, str]  # name of a fact → the fact
    config: str  # the whole config as YAML


def costs(methods: Sequence[Method]) -> Table:
    """The costs, with one row per method."""
    rows: list[list[str]] = []
    for method in methods:
        operations = [seed.operations for seed in method.seeds if seed.operations is not None]
        rows.append(
            [
                method.title,
                _network(method.results[0]["config"]["model"]),
                shared(_machine(result["machine"]) for result in method.results),
                shared(f"{result['parameters']:,}" for result in method.results),
                f"{statistics.mean(operations) / 1e6:,.1f} M" if operations else "–",
                shared(str(result["epochs"]) for result in method.results),
                spread([result["seconds"] for result in method.results], 0),
            ]
        )
    head = ["method", "network", "trained on", "parameters", "multiply–adds per image", "epochs", "seconds of training"]
    return Table(head, rows)


def provenance(methods: Sequence[Method]) -> list[tuple[str, list[RunRecord]]]:
    """The provenance of all runs: (title of a method, its runs)."""
    return [(method.title, [_record(method.data, seed) for seed in method.seeds]) for method in methods]


def _network(model: Mapping[str, Any]) -> str:
    """`SE2, 8 elements, partial`."""
    kept = "" if model["group"] == "T2" else ", partial" if model["partial"] else ", full"
    elements = f", {count(model['samples'], 'element')}" if model["samples"] and model["group"] != "T2" else ""
    around = f", Augerino {model['augerino']}" if model.get("augerino") else ""
    return f"{model['group']}{elements}{kept}{around}"


def _record(data: str, seed: Seed) -> RunRecord:
    result = seed.result
    git = result.get("git") or {}
    commit = (git.get("commit") or "unknown") + (", with changes not committed" if git.get("dirty") else "")
    lines = {
        "name": str(result["config"]["name"]),
        "finished": str(result["finished"]),
        "commit": commit,
        "precision of training": str(result["precision"]),
        "versions": ", ".join(f"{name} {version}" for name, version in result["versions"].items() if version),
        "machine": f"{_machine(result['machine'])}, {result['machine'].get('system', '')}".strip(", "),
        "data": data,
        "images": ", ".join(f"{number:,} {split}" for split, number in result["images"].items()),
    }
    if "pretrained" in result:
        lines["pretrained model"] = (
            f"{result['config']['model'].get('pretrained')}, sha256 {result['pretrained']['sha256']}"
        )
    if "copy_gap" in result:
        lines["largest difference of logits between an original and its copy"] = f"{result['copy_gap']:.3g}"
    return RunRecord(seed.number, lines, yaml.safe_dump(result["config"], sort_keys=False, allow_unicode=True))


def _machine(machine: Mapping[str, Any]) -> str:
    return machine.get("gpu") or f"{machine.get('processor')}, {count(machine.get('threads') or 1, 'thread')}"
