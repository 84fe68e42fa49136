"""Write what was measured into docs/performance.md, processes.md and networks.md: `python -m benchmarks.tables`."""

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
    every = processes(_rows("processes"))
    if (ROOT / "networks.json").exists():
        every |= networks(json.loads((ROOT / "networks.json").read_text(encoding="utf-8")))
    for path, text in every.items():
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


def networks(found: dict[str, Any]) -> dict[Path, str]:
    """The same of the named networks: ours / dense twin, empty where a step was counted and not run."""
    head = (
        "",
        "pixels",
        "images",
        "parameters, M",
        "operations, G",
        "memory, MB",
        "checkpointed, MB",
        "step, s",
        "quotient",
    )
    table = f"| {' | '.join(head)} |\n|{' --- |' * len(head)}\n"
    for row in found["networks"]:
        size = f"{row['name']} | {row['side']} | {row['images']}"
        numbers = [_both(row, key, unit) for key, unit in (("parameters", 1e6), ("operations", 1e9), ("memory", 1e6))]
        again = _one(row["checkpointed"], 1e6)
        table += (
            f"| {size} | {' | '.join(numbers)} | {again} | {_both(row, 'seconds', 1)} | {_one(row['quotient'], 1)} |\n"
        )
    rows = found["required"]
    limits = "| | value | 95 % interval | required |\n| --- | --- | --- | --- |\n"
    limits += "".join(f"| {row['name']} | {_value(row)} | {_interval(row)} | {_target(row)} |\n" for row in rows)
    about = _about(rows, f"{rows[0]['machine']['threads']} threads")
    return {ROOT.parent / "docs" / "networks.md": f"{about}\n\n{table}\n{limits}"}


def _both(row: dict[str, Any], key: str, unit: float) -> str:
    ours, twin = (row[of][key] for of in ("ours", "twin"))
    return "" if ours is None else f"{ours / unit:,.3g} / {twin / unit:,.3g}"


def _one(value: float | None, unit: float) -> str:
    return "" if value is None else f"{value / unit:,.3g}"


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
    value = f"{row['value']:.3g} {row['unit'] if row['unit'] != 'of the twin' else ''}".strip()
    return f"{value} ({row['note']})" if row["note"] else value


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
