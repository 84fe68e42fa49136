"""Write what was measured into docs/performance.md and docs/processes.md: `python -m benchmarks.tables`."""

import json
import re
from pathlib import Path
from typing import Any

from partialsym._utils.atomic import replace_text

Rows = list[dict[str, Any]]
ROOT = Path(__file__).parent
PERFORMANCE = ROOT.parent / "docs" / "performance.md"


def main() -> None:
    fill(PERFORMANCE, "measured", steps(_rows("results")))
    fill(PERFORMANCE, "growth", growth(_rows("scaling")))
    for path, text in processes(_rows("processes")).items():
        fill(path, "measured", text)


def _rows(name: str) -> Rows:
    return json.loads((ROOT / f"{name}.json").read_text(encoding="utf-8"))


def steps(rows: Rows) -> str:
    """What `make bench` measured."""
    table = "| | precision | value | 95 % interval | n | required | aim |\n| --- |" + " --- |" * 6 + "\n"
    for row in rows:
        aim = f"≤ {row['aim']:g}" if row["aim"] else ""
        of = f"{_interval(row)} | {row['n']} | {_target(row)} | {aim}"
        table += f"| {row['name']} | {row['precision']} | {_value(row)} | {of} |\n"
    return f"{_about(rows, _threads(rows))}\n\n{table}"


def growth(rows: Rows) -> str:
    """The table of `benchmarks.scaling`."""
    table = "| | value | required |\n| --- | --- | --- |\n"
    table += "".join(f"| {row['name']} | {_value(row)} | {_target(row)} |\n" for row in rows)
    return f"{_about(rows, _threads(rows))}\n\n{table}"


def processes(rows: list[dict[str, Any]]) -> dict[Path, str]:
    """The same of the benchmark of two processes."""
    table = "| | precision | two processes, s | one, s | quotient | 95 % interval |\n| --- |" + " --- |" * 5 + "\n"
    for row in rows:
        seconds = f"{row['ours']:.3g} | {row['twin']:.3g}"
        table += f"| {row['name']} | {row['precision']} | {seconds} | {row['value']:.3g} | {_interval(row)} |\n"
    return {ROOT.parent / "docs" / "processes.md": f"{table}\n{_about(rows, 'a core each')}"}


def _about(rows: list[dict[str, Any]], how: str) -> str:
    row, git = rows[0], rows[0]["git"]
    if any(row["precision"] == "bf16" for row in rows):
        how += f", bf16 by {row['machine']['bf16']}"
    commit = (git["commit"] or "unknown")[:7] + ", edited" * bool(git["dirty"])
    return f"{row['machine']['processor']}, {how}, torch {row['torch']}, commit {commit}."


def _threads(rows: Rows) -> str:
    return f"{rows[0]['machine']['threads']} threads"


def _value(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return str(row["note"])
    return f"{row['value']:.3g} {row['unit'] if row['unit'] != 'of the twin' else ''}".strip()


def _interval(row: dict[str, Any]) -> str:
    return "{:.3g}–{:.3g}".format(*row["interval"]) if row["interval"] else ""


def _target(row: dict[str, Any]) -> str:
    return f"≤ {row['target']:g}{', missed' if row['ok'] is False else ''}" if row["target"] else ""


def fill(path: Path, mark: str, text: str) -> None:
    """Replace what stands in the file between `<!-- mark -->` and `<!-- /mark -->`; ValueError where they are not."""
    before = path.read_text(encoding="utf-8")
    pattern = rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)"
    if not re.search(pattern, before, re.DOTALL):
        raise ValueError(f"{path} has no marks <!-- {mark} --> … <!-- /{mark} --> to write between.")
    replace_text(path, re.sub(pattern, lambda m: f"{m[1]}\n{text}\n{m[2]}", before, flags=re.DOTALL))


if __name__ == "__main__":
    main()
