"""What `partialsym ask` answers where the truth is known: `python -m studies.answers --ask`, minutes a line.

It asks what results/answers/ lacks, one after another (nothing else should run), each about a new folder of images with
the command that a user would type. Without `--ask`, the table of docs/ask.md is written from results/answers/.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.folders import write_folder
from benchmarks.tables import fill
from partialsym._utils.atomic import replace_text
from partialsym.runs.provenance import provenance
from partialsym.runs.schema import read_json

FORMAT = 1
HERE = Path(__file__).resolve().parents[1]
RESULTS, DOCUMENT = HERE / "results" / "answers", HERE / "docs" / "ask.md"
SIZE, BUDGET = 32, "6m"


@dataclass(frozen=True)
class Case:
    """A question with a known answer.

    Attributes:
        title: name of the images in the table.
        group: group of the question.
        train, test: numbers of images.
        seeds: one folder is made for each, with other images.
        visible, hidden: transformations that are known to be visible, or not visible, in degrees; 0 for mirroring.
        answers: question → the only right answer, for the questions whose answer is known.
        actions: the only right recommendations; empty if they are unknown.
    """

    title: str
    group: str
    train: int = 500
    test: int = 1000
    seeds: tuple[int, ...] = (0,)
    visible: frozenset[float] = frozenset()
    hidden: frozenset[float] = frozenset()
    answers: Mapping[str, str] = field(default_factory=dict)
    actions: tuple[str, ...] = ()


MIRRORED = 0.0
KEEPS_ORIENTATION = ("leave it", "keep a part of it")
CASES = {
    "digits-turned": Case(
        "digits 0 to 8, turned within ±180°",
        "E2",
        seeds=(0, 1),
        visible=frozenset({MIRRORED}),
        hidden=frozenset({180.0, 90.0, 45.0, 22.5}),
        answers={"Rotation": "helps"},
    ),
    "digits-tilted": Case("digits 0 to 8, turned within ±20°", "E2", visible=frozenset({MIRRORED, 90.0, 180.0})),
    "sixes-turned": Case(
        "6 against 6 turned by 180°",
        "SE2",
        test=900,
        seeds=(0, 1),
        visible=frozenset({90.0}),
        hidden=frozenset({180.0}),
        answers={"Rotation": "costs"},
        actions=KEEPS_ORIENTATION,
    ),
    "sevens-mirrored": Case(
        "7 against mirrored 7",
        "Mirror",
        hidden=frozenset({MIRRORED}),
        answers={"Mirroring": "costs"},
        actions=KEEPS_ORIENTATION,
    ),
    "digits-shuffled": Case(
        "digits with shuffled labels", "E2", visible=frozenset({MIRRORED, 180.0}), actions=("nothing to learn",)
    ),
    "cifar-4": Case("four classes of CIFAR-10", "E2", train=700, test=300, seeds=(0, 1), visible=frozenset({180.0})),
}


def asked(kind: str, seed: int, out: Path) -> dict[str, Any]:
    """The content of a file of results/answers/: the answer of the command, and its duration in seconds."""
    case, origin = CASES[kind], provenance()
    with tempfile.TemporaryDirectory() as passing:
        images = Path(passing) / kind
        write_folder(kind, images, case.train, case.test, seed)
        options = ["--data", "folder", "--data.root", str(images), "--data.size", str(SIZE), "--group", case.group]
        command = [sys.executable, "-m", "partialsym", "ask", *options, "--budget", BUDGET, "--out", str(out)]
        started = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - started
    answer = read_json(out / "answer.json")
    for method in answer["methods"]:
        del method["confusion"], method["runs"]
    return {
        "format": FORMAT,
        **origin,
        "kind": kind,
        "seed": seed,
        "budget": BUDGET,
        "seconds": seconds,
        "answer": answer,
    }


def wrong(result: dict[str, Any]) -> list[str]:
    """The parts of the answer that contradict the truth."""
    case, answer = CASES[result["kind"]], result["answer"]
    seen = {one["degrees"]: one["answer"] for one in answer["visibility"]["transformations"]}
    said = {one["question"]: one["answer"] for one in answer["findings"]}
    action = (answer["recommendation"] or {}).get("action")
    return [
        *(f"{degrees:g}°: {seen.get(degrees)}" for degrees in sorted(case.visible) if seen.get(degrees) != "visible"),
        *(f"{degrees:g}°: {seen.get(degrees)}" for degrees in sorted(case.hidden) if seen.get(degrees) == "visible"),
        *(f"{of}: {said.get(of)}" for of, right in case.answers.items() if said.get(of) != right),
        *([f"recommended: {action}"] if case.actions and action not in case.actions else []),
    ]


def results(folder: Path = RESULTS) -> Iterator[dict[str, Any]]:
    """The existing results, in the order of CASES."""
    for kind, case in CASES.items():
        for seed in case.seeds:
            if (path := folder / f"{kind}-{seed}.json").exists():
                yield read_json(path)


def texts() -> dict[str, str]:
    """Mark of the document → the text between its marks."""
    lines = [
        "| images | asked | turned by 180°, 90° | mirrored | verdict | recommendation | steps, runs | budget | min |",
        "| --- |" + " --- |" * 8,
    ]
    for found in results():
        case, answer = CASES[found["kind"]], found["answer"]
        seen = {one["degrees"]: one for one in answer["visibility"]["transformations"]}
        cells = [
            case.title + ("" if found["seed"] == 0 else ", other images"),
            case.group,
            ", ".join(_share(seen[degrees]) for degrees in (180.0, 90.0) if degrees in seen),
            _share(seen[MIRRORED]) if MIRRORED in seen else "",
            answer["headline"],
            (answer["recommendation"] or {}).get("action", ""),
            f"{answer['plan']['steps']['0']}, {sum(len(m['seeds']) for m in answer['methods'])}",
            found["budget"],
            f"{found['seconds'] / 60:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return {"answers": "\n".join(lines)}


def _share(seen: dict[str, Any]) -> str:
    return f"{seen['answer']} ({100 * seen['share']['mean']:.0f} %)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ask", action="store_true", help="ask what results/answers/ lacks")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="these kinds of images")
    parser.add_argument("--out", type=Path, help="where the pages stay; default: nowhere")
    options = parser.parse_args()
    for kind in options.only if options.ask else ():
        for seed in CASES[kind].seeds:
            if (path := RESULTS / f"{kind}-{seed}.json").exists():
                continue
            with tempfile.TemporaryDirectory() as passing:
                found = asked(kind, seed, (options.out or Path(passing)) / f"{kind}-{seed}")
            RESULTS.mkdir(parents=True, exist_ok=True)
            replace_text(path, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    for mark, text in texts().items():
        fill(DOCUMENT, mark, text)


if __name__ == "__main__":
    main()
