"""Write the tables of results/ into docs/reproduction.md: `python -m studies.reproduction`, or `make tables`."""

from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.tables import fill
from partialsym.figures.points import points_of
from partialsym.measure import subset_spread
from partialsym.reproduction.table import load_table, mean_std, render, tables
from partialsym.runs.schema import sampled_accuracy
from studies.departures import RESULTS as DEPARTURES, TASKS, experiment

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "reproduction.md"


def main() -> None:
    for mark, text in texts().items():
        fill(DOCUMENT, mark, text)


def texts() -> dict[str, str]:
    """What stands between each pair of marks: a table, without its title."""
    found = {name: _without_title(render(load_table(name), ROOT / "results" / name)) for name in tables()}
    return found | {"departures": departures(), "efficiency": efficiency(), "subsets": subsets()}


def efficiency() -> str:
    """Test accuracy by method and size of the training set: mean ± std over seeds."""
    points = points_of(load_table("data_efficiency").longest(ROOT / "results" / "data_efficiency"))
    methods = list(dict.fromkeys(point.method for point in points))
    cells = {(point.data, point.size, point.method): mean_std(point.accuracies, 1) for point in points}
    lines = ["| images | " + " | ".join(methods) + " |", "| --- |" + " --- |" * len(methods)]
    for data, size in dict.fromkeys((point.data, point.size) for point in points):
        found = [cells.get((data, size, method), "") for method in methods]
        lines.append(f"| {data}, {size:,} | " + " | ".join(found) + " |")
    return "\n".join(lines)


def departures() -> str:
    """Accuracy, and that under drawn elements, of our networks, and of the same with one departure taken back."""
    shown = "ours | sampled | n | as published | sampled | n"
    lines = [f"| row | taken back | {shown} |", "| --- |" + " --- |" * 7]
    for task in TASKS:
        table = load_table(task.table)
        ours = table.results(ROOT / "results" / task.table, task.row)
        for departure in task.departures:
            folder = DEPARTURES / task.row / departure
            theirs = table.results_in(folder, experiment(task, departure, 0), departure)
            lines.append("| " + " | ".join([task.row, departure, *_cells(ours), *_cells(theirs)]) + " |")
    return "\n".join(lines)


def subsets() -> str:
    """Where all layers learn, what each keeps, the mean over seeds, and which of them keeps least, by seed."""
    lines = ["| row | epochs | kept | layers after lifting | least, by seed | n |", "| --- |" + " --- |" * 5]
    for name in tables():
        for row, results in load_table(name).longest(ROOT / "results" / name).items():
            model = results[0]["config"]["model"]
            if not model["partial"] or model["group"] == "T2" or model.get("learned_layers", "all") != "all":
                continue  # nothing to compare
            layers = subset_spread(results)[1:]
            for key in (key for key in layers[0] if key not in ("layer", "group")):
                values = [[v / (180 if key == "theta_deg" else 1) for v in layer[key]["values"]] for layer in layers]
                means = " ".join(f"{mean(v):.3f}".replace("0.", ".") for v in values)
                least = [1 + seed.index(min(seed)) for seed in zip(*values, strict=True)]
                shown = "θ" if key == "theta_deg" else key
                cells = [f"{name}: {row}", results[0]["epochs"], shown, means, ", ".join(map(str, least)), len(results)]
                lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _cells(results: list[dict[str, Any]]) -> list[str]:
    test = [100 * result["accuracy"]["test"] for result in results]
    sampled = [100 * sampled_accuracy(result) for result in results]
    return [mean_std(test), mean_std(sampled), str(len(results) or "")]


def _without_title(text: str) -> str:
    return text.partition("\n\n")[2]


if __name__ == "__main__":
    main()
