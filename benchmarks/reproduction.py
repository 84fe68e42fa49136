"""Write the tables of results/ into docs/reproduction.md: `python -m benchmarks.reproduction`, or `make tables`."""

from pathlib import Path

from benchmarks.departures import RESULTS as DEPARTURES
from benchmarks.departures import TASKS
from benchmarks.tables import fill
from partialsym.results import read_result
from partialsym.table import load_table, mean_std, render, tables

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "reproduction.md"


def main() -> None:
    for mark, text in texts().items():
        fill(DOCUMENT, mark, text)


def texts() -> dict[str, str]:
    """What stands between each pair of marks: a table, without its title."""
    found = {name: _without_title(render(load_table(name), ROOT / "results" / name)) for name in tables()}
    return found | {"departures": departures()}


def departures() -> str:
    """Accuracy of our networks, and of the same with one departure taken back; n seeds each."""
    lines = ["| row | taken back | ours | n | as published | n |", "| --- | --- | --- | --- | --- | --- |"]
    for task in TASKS:
        table = load_table(task.table)
        ours = [100 * r["accuracy"]["test"] for r in table.results(ROOT / "results" / task.table, task.row)]
        for departure in task.departures:
            files = sorted((DEPARTURES / task.row / departure).glob("seed*.json"))
            results = [read_result(file) for file in files]
            if strange := [f for f, r in zip(files, results, strict=True) if r.get("altered") != departure]:
                raise ValueError(f"{strange[0]} is not of a network altered by {departure!r}.")
            theirs = [100 * result["accuracy"]["test"] for result in results]
            cells = [task.row, departure, mean_std(ours), _count(ours), mean_std(theirs), _count(theirs)]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _count(values: list[float]) -> str:
    return str(len(values)) if values else ""


def _without_title(text: str) -> str:
    return text.partition("\n\n")[2]


if __name__ == "__main__":
    main()
