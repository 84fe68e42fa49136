"""What the models cost, and where the numbers come from."""

import statistics
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import yaml

from partialsym.report.collect import Method, Seed
from partialsym.report.markup import Row, count, details, paragraph, section, shared, spread, table

COST = "What each method costs: numbers to store, work to answer one image, and time to train."
COST_NOTE = (
    "Multiply–adds: of the convolutions and matrix products for one image, kernels evaluated beforehand, as in a "
    "frozen model. Seconds: of training alone; mean ± standard deviation over seeds."
)


def costs(methods: Sequence[Method]) -> str:
    """A row a method."""
    rows: list[Row] = []
    for method in methods:
        operations = [seed.operations for seed in method.seeds if seed.operations is not None]
        rows.append(
            [
                method.title,
                _kept(method.results[0]["config"]["model"]),
                shared(_machine(result["machine"]) for result in method.results),
                shared(f"{result['parameters']:,}" for result in method.results),
                f"{statistics.mean(operations) / 1e6:,.1f} M" if operations else "–",
                shared(str(result["epochs"]) for result in method.results),
                spread([result["seconds"] for result in method.results], 0),
            ]
        )
    head = ["method", "network", "trained on", "parameters", "multiply–adds an image", "epochs", "seconds of training"]
    return section("cost", "Cost", paragraph(COST), table(head, rows, COST_NOTE, texts=3))


def provenance(methods: Sequence[Method]) -> str:
    """Versions, machine, commit and config of every run."""
    runs = [details(method.title, *(_run(method, seed) for seed in method.seeds)) for method in methods]
    lead = paragraph("Versions, machine, commit and the whole config of every run.")
    return section("provenance", "Where the numbers come from", lead, *runs)


def _kept(model: Mapping[str, Any]) -> str:
    """`SE2, 8 elements, partial`."""
    kept = "" if model["group"] == "T2" else ", partial" if model["partial"] else ", full"
    elements = f", {count(model['samples'], 'element')}" if model["samples"] and model["group"] != "T2" else ""
    around = f", Augerino {model['augerino']}" if model.get("augerino") else ""
    return f"{model['group']}{elements}{kept}{around}"


def _run(method: Method, seed: Seed) -> str:
    result = seed.result
    git = result.get("git") or {}
    commit = (git.get("commit") or "unknown") + (", with changes not committed" if git.get("dirty") else "")
    lines = {
        "name": str(result["config"]["name"]),
        "finished": result["finished"],
        "commit": commit,
        "precision of training": result["precision"],
        "versions": ", ".join(f"{name} {version}" for name, version in result["versions"].items() if version),
        "machine": f"{_machine(result['machine'])}, {result['machine'].get('system', '')}".strip(", "),
        "data": method.data,
        "images": ", ".join(f"{number:,} {split}" for split, number in result["images"].items()),
    }
    if "copy_gap" in result:
        lines["largest difference of logits between an original and its copy"] = f"{result['copy_gap']:.3g}"
    rows = "".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(str(v))}</td></tr>' for k, v in lines.items())
    config = yaml.safe_dump(result["config"], sort_keys=False, allow_unicode=True)
    body = f'<div class="wide"><table class="plain"><tbody>{rows}</tbody></table></div>\n<pre>{escape(config)}</pre>'
    return details(f"Seed {seed.number}", body)


def _machine(machine: Mapping[str, Any]) -> str:
    return machine.get("gpu") or f"{machine.get('processor')}, {count(machine.get('threads') or 1, 'thread')}"
