"""Does what a network learns say what symmetry the data have? Measured where that is known: on orientation sectors.

`python -m studies.identifiability --runs runs` measures every finished run of `partialsym reproduce sectors --out
runs` that has not been measured, and writes results/identifiability/ROW/seed<k>.json. `make tables` writes the tables
of docs/identifiability.md.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.tables import fill
from partialsym._utils.atomic import replace_text
from partialsym.data import in_turn
from partialsym.measure import preserved_ranges, turned_logits
from partialsym.reproduction.table import load_table, mean_std
from partialsym.runs.provenance import provenance
from partialsym.runs.run import Run
from partialsym.runs.schema import read_json
from partialsym.training.fit import load_data

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "identifiability"
DOCUMENT = ROOT / "docs" / "identifiability.md"
FORMAT = 1
ANGLES, IMAGES = tuple(range(0, 360, 10)), 200
SECTORS = (2, 3, 4, 6)
KINDS = {
    "T2/plain": "plain CNN",
    "SE2-8/all+free": "all layers",
    "SE2-8/last+free": "last layer",
    "SE2-8/all+haar": "all layers, KL to Haar",
    "SE2-8/last+haar": "last layer, KL to Haar",
    "SE2-8/all+width": "all layers, width reward",
    "SE2-8/last+width": "last layer, width reward",
    "SE2-8/full": "full",
}


def measured(run: Run) -> dict[str, Any]:
    """The preserved range of test images anywhere in their sectors, beside what the run's result says."""
    trained, result = run.model(), run.result()
    test = load_data(run.config().data).test
    some = test[in_turn(test.labels, IMAGES)]
    circle = turned_logits(trained.model, some.images, trained.preprocess, ANGLES).argmax(2)
    right = circle[0] == some.labels
    ranges = preserved_ranges(circle, ANGLES)[right]
    return {
        "format": FORMAT,
        "config": result["config"],
        "accuracy": result["accuracy"]["test"],
        "theta_deg": [subset["theta_deg"] for subset in result["subsets"][1:] if "theta_deg" in subset],
        "measured_range": result["turned"]["range"],
        "preserved_range": {"median": float(ranges.median()), "images": int(right.sum()), "grid": 10},
        **provenance(),
    }


def texts() -> dict[str, str]:
    """What stands between the marks of docs/identifiability.md."""
    found = {(kind, k): _read(kind, k) for kind in KINDS for k in SECTORS}
    return {"readouts": _readouts(found), "theta": _theta(found), "checks": _checks(found)}


def _read(kind: str, count: int) -> list[dict[str, Any]]:
    files = sorted((RESULTS / kind / f"sectors-{count}").glob("seed*.json"))
    results = [read_json(file) for file in files]
    for file, result in zip(files, results, strict=True):
        if result["format"] != FORMAT or result["config"]["name"] != f"sectors/{kind}/sectors-{count}":
            raise ValueError(f"{file} is of {result['config']['name']!r}, format {result['format']}.")
    return results


Found = Mapping[tuple[str, int], Sequence[Mapping[str, Any]]]


def _readouts(found: Found) -> str:
    """A line a kind and K: accuracy and the two ranges, beside the truth."""
    lines = ["| network | K | truth | preserved range, by seed | measured range, by seed | accuracy, % | n |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for (kind, k), results in found.items():
        if results:
            preserved = ", ".join(f"{r['preserved_range']['median']:.0f}" for r in results)
            ranges = ", ".join(f"{r['measured_range']:.0f}" for r in results)
            accuracy = mean_std([100 * r["accuracy"] for r in results], 1)
            cells = [KINDS[kind], str(k), f"{180 / k:.0f}", preserved, ranges, accuracy, str(len(results))]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _theta(found: Found) -> str:
    """A line a kind and K: ±θ of every layer after lifting, the mean over seeds."""
    lines = ["| learned | K | truth | ±θ of the layers, degrees | last layer, by seed | n |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for (kind, k), results in found.items():
        if results and "+" in kind:
            layers = " ".join(f"{mean(values):.0f}" for values in zip(*(r["theta_deg"] for r in results), strict=True))
            last = ", ".join(f"{r['theta_deg'][-1]:.0f}" for r in results)
            lines.append(
                "| " + " | ".join([KINDS[kind], str(k), f"{180 / k:.0f}", layers, last, str(len(results))]) + " |"
            )
    return "\n".join(lines)


READOUTS = {
    "preserved range": lambda r: r["preserved_range"]["median"],
    "measured range": lambda r: r["measured_range"],
    "±θ of the last layer": lambda r: r["theta_deg"][-1] if r["theta_deg"] else None,
    "median ±θ of all layers": lambda r: median(r["theta_deg"]) if r["theta_deg"] else None,
}


def solved(result: Mapping[str, Any], count: int) -> bool:
    """Whether a network of `count` sectors is nearer to perfect than to guessing."""
    return bool(result["accuracy"] > (1 + 1 / count) / 2)


def _checks(found: Found) -> str:
    """Of each readout, over runs that solved their task: in how many seeds that solved all it falls as K grows, and how
    far from the truth it is at worst."""
    lines = ["| network | solved | readout | seeds with K in order | largest error, degrees | runs within ±15° |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for kind, title in KINDS.items():
        runs = [(k, r) for k in SECTORS for r in found[kind, k]]
        good = [(k, r) for k, r in runs if solved(r, k)]
        seeds = sorted({r["config"]["seed"] for _, r in good})
        by_seed = [{k: r for k, r in good if r["config"]["seed"] == seed} for seed in seeds]
        whole = [by_count for by_count in by_seed if len(by_count) == len(SECTORS)]
        for name, read in READOUTS.items():
            if not good or read(good[0][1]) is None:
                continue
            ordered = sum(all(read(a[k]) > read(a[m]) for k, m in pairwise(SECTORS)) for a in whole)
            errors = [abs(read(r) - 180 / k) for k, r in good]
            order = f"{ordered} of {len(whole)}" if whole else "–"
            near = f"{sum(e <= 15 for e in errors)} of {len(errors)}"
            cells = [title, f"{len(good)} of {len(runs)}", name, order, f"{max(errors):.0f}", near]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=None, help="folder given to `reproduce sectors --out`")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    table = load_table("sectors")
    for row in table.rows if options.runs else ():
        for folder in sorted((options.runs / "sectors" / row).glob("seed*")):
            target = options.out / row / f"{folder.name}.json"
            if Run(folder).finished and not target.exists():
                replace_text(target, json.dumps(measured(Run(folder)), indent=1, ensure_ascii=False) + "\n")
    if options.out == RESULTS:
        for mark, text in texts().items():
            fill(DOCUMENT, mark, text)


if __name__ == "__main__":
    main()
