"""The answer to a question as a file for scripts, as described in docs/ask.md."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from partialsym import __version__
from partialsym._utils.atomic import replace_text
from partialsym.ask import Interval, Question
from partialsym.ask.look import plain, sentences
from partialsym.ask.two_sample import Visibility
from partialsym.report.answers import confusions
from partialsym.report.collect import Method
from partialsym.report.verdicts import Judged
from partialsym.runs.run import Run

FORMAT = 1


def write_answer(
    path: Path,
    judged: Judged,
    seen: Sequence[Visibility],
    question: Question,
    runs: Sequence[Run],
    margin: float,
    command: str,
) -> Path:
    """Write the content of the page as JSON, and return its path.

    Args:
        path: in the folder of the question.
        judged: the methods and the verdict on them.
        seen: the results of the two-sample tests on the images.
        question: the question.
        runs: all finished runs.
        margin: a difference of balanced accuracies that counts as none, in (0, 1).
        command: the command that carries out the recommendation.
    """
    verdict, folders = judged.verdict, dict[str, list[Run]]()
    found = verdict.recommendation if verdict else None
    for run in runs:
        folders.setdefault(str(run.result()["config"]["name"]), []).append(run)
    advice = None
    if found is not None:
        chosen = folders.get(found.method or "", [])
        advice = found._asdict() | {
            "command": command if chosen else None,
            "run": _inside(chosen[0], path) if chosen else None,
        }
    content = {
        "format": FORMAT,
        "partialsym": __version__,
        "question": {
            "group": question.group,
            "network": question.network,
            "margin": margin,
            "images": question.digest,
            "data": asdict(question.data),
        },
        "classes": list(judged.methods[0].measured[0][1]["classes"]) if judged.methods[0].measured else [],
        "images": runs[0].result()["images"],
        "plan": _plan(question, runs),
        "headline": verdict.headline if verdict else None,
        "problem": judged.problem,
        "recommendation": advice,
        "visibility": {"sentences": sentences(seen), "transformations": [plain(one) for one in seen]},
        "findings": [
            f._asdict() | {"difference": _interval(f.difference)} for f in (verdict.findings if verdict else ())
        ],
        "methods": [
            _method(m, judged, [_inside(run, path) for run in folders.get(m.name, [])]) for m in judged.methods
        ],
    }
    replace_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return path


def _method(method: Method, judged: Judged, runs: Sequence[str]) -> dict[str, Any]:
    standing = judged.standings.get(method.name)
    behaviours = [behaviour for _, behaviour in method.measured]
    return {
        "name": method.name,
        "title": method.title,
        "balanced_accuracy": _interval(standing.accuracy) if standing else None,
        "test_images": standing.images if standing else None,
        "accuracies": [result["accuracy"]["test"] for result in method.results],
        "seeds": [seed.number for seed in method.seeds],
        "runs": list(runs),
        "confusion": confusions(behaviours).tolist() if behaviours else None,
        "parameters": method.results[0]["parameters"],
        "multiply_adds": method.seeds[0].operations,
        "image_seconds": [behaviour.get("image_seconds") for behaviour in behaviours],
        "training_seconds": [result["seconds"] for result in method.results],
    }


def _plan(question: Question, runs: Sequence[Run]) -> dict[str, Any] | None:
    """The terms of all methods; the steps are those of each seed."""
    if (plan := question.plan) is None:
        return None
    steps = {}
    for run in runs:
        seed, images = run.result()["config"]["seed"], run.result()["images"]["train"]
        steps[str(seed)] = plan.length(seed).steps(images, plan.batch)
    return {"width": plan.width, "size": plan.size, "batch": plan.batch, "steps": steps}


def _interval(found: Interval | None) -> dict[str, float] | None:
    return None if found is None else {key: float(value) for key, value in found._asdict().items()}


def _inside(run: Run, path: Path) -> str:
    """The folder of a run relative to the folder of the answer."""
    return run.folder.resolve().relative_to(path.parent.resolve()).as_posix()
