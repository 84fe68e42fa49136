"""The first question: what of their orientation do the images show? Asked once, kept beside the second."""

import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import torch

from partialsym._utils.atomic import replace_text
from partialsym.ask.intervals import Interval
from partialsym.ask.text import listed
from partialsym.ask.two_sample import (
    HARDLY,
    INVISIBLE,
    MOST_IMAGES,
    STEPS,
    TRANSFORMATIONS,
    VISIBLE,
    Visibility,
    judged,
    needed,
    prepared,
    together,
)
from partialsym.ask.workers import as_they_end
from partialsym.data import Dataset
from partialsym.errors import InputError
from partialsym.runs.schema import read_json

log = logging.getLogger(__name__)
FORMAT = 1
FILE = "images.json"
SHARE, MOST_SECONDS = 0.12, 240.0  # of the budget, and in all


def seconds(budget: float) -> float:
    """What of a budget this question takes, at most."""
    return min(MOST_SECONDS, SHARE * budget)


def whole(left: float) -> float:
    """The budget of which this question leaves so many seconds."""
    return min(left + MOST_SECONDS, left / (1 - SHARE))


def look(executor: Executor, workers: int, group: str, data: Dataset, out: Path, budget: float) -> list[Visibility]:
    """See `visibility`: of the images of all splits, of which those with the same original count once.

    Args:
        group: of the question, SE2, Mirror or E2.
        out: folder of the question; what was seen is kept there, in images.json, and read from there again.
        budget: seconds on the clock for all of it.
    Returns:
        One for each transformation of the group; empty where there are too few images.
    """
    path = out / FILE
    if path.is_file():
        return read(path)
    found: list[Visibility] = []
    try:
        x, unit = prepared(*_sample(data))
    except InputError as error:
        log.info("whether a network sees that images are turned is not known: %s", error)
    else:
        kinds = TRANSFORMATIONS[group]
        log.info("training small networks to tell images from their copies: %s", listed([kind.name for kind in kinds]))
        each = budget * min(workers, len(kinds)) / len(kinds)
        jobs = {executor.submit(judged, x, unit, kind, together(len(kinds)), STEPS, each): kind for kind in kinds}
        by_kind = dict(as_they_end(jobs, lambda kind: kind.name))
        found = [by_kind[kind] for kind in kinds]
    replace_text(path, json_of(found))
    return found


def read(path: Path) -> list[Visibility]:
    """What `look` kept; empty where it was stopped before, or saw nothing.

    Raises:
        ValueError: the file is damaged, or of another format version.
    """
    if not path.is_file():
        return []
    held = read_json(path)
    if not isinstance(held, Mapping) or held.get("format") != FORMAT:
        raise InputError(f"{path} is damaged, or of another format version: delete it, and it is made anew.")
    try:
        return [
            Visibility(
                **{key: one[key] for key in Visibility._fields if key != "share"}, share=Interval(**one["share"])
            )
            for one in held["transformations"]
        ]
    except (KeyError, TypeError):
        raise InputError(f"{path} is damaged: delete it, and it is made anew.") from None


def plain(one: Visibility) -> dict[str, Any]:
    """As JSON holds it."""
    return one._asdict() | {"share": one.share._asdict()}


def json_of(found: Sequence[Visibility]) -> str:
    return json.dumps({"format": FORMAT, "transformations": [plain(one) for one in found]}, indent=1) + "\n"


def _sample(data: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of all splits, at most as many as are used, and the original of each."""
    splits = (data.train, data.validation, data.test)
    count = sum(map(len, splits))
    generator = torch.Generator().manual_seed(0)
    images, originals = [], []
    for split in splits:
        part = min(len(split), -(-MOST_IMAGES * len(split) // count))
        index = torch.randperm(len(split), generator=generator)[:part].sort().values
        images.append(split.images[index].to("cpu"))
        originals.append(split.originals[index])
    return torch.cat(images), torch.cat(originals)


def sentences(seen: Sequence[Visibility]) -> list[str]:
    """What was seen, in words: of turns, then of mirroring."""
    turns = [one for one in seen if one.degrees]
    flips = [one for one in seen if not one.degrees]
    said = [_of_turns(turns, len(seen))] if turns else []
    return said + [_of_one(one, "that it is mirrored", len(seen)) for one in flips]


def _of_turns(turns: Sequence[Visibility], count: int) -> str:
    visible = {one.degrees for one in turns if one.answer == VISIBLE}
    if not visible:
        if all(one.answer == INVISIBLE for one in turns):
            most = max(turns, key=lambda one: one.share.high)
            return (
                f"Turns are not visible: of {most.pairs:,} pairs at most {100 * most.share.high:.0f} % can be told. "
                "Nothing that this network sees would be lost by treating all orientations alike."
            )
        return _too_few(turns, "whether turns are visible", count)
    least = max(visible)
    for degrees in sorted((one.degrees for one in turns if one.degrees <= 90), reverse=True):
        if degrees not in visible:
            break
        least = degrees
    smallest = min(one.degrees for one in turns)
    share = next(one.share.mean for one in turns if one.degrees == least)
    tried = ", the least that was tried" if least == smallest else ""
    return (
        f"Turns are visible, from {least:g}° on{tried}: at that turn a network tells {100 * share:.0f} % of images "
        "from their copies, where chance would tell half. The images have a preferred orientation."
    )


def _of_one(one: Visibility, what: str, count: int) -> str:
    if one.answer == VISIBLE:
        return f"A network sees of an image {what}, in {100 * one.share.mean:.0f} % of {one.pairs:,} pairs."
    if one.answer == INVISIBLE:
        high = f"{100 * one.share.high:.0f} %"
        return f"A network does not see of an image {what}: of {one.pairs:,} pairs at most {high} can be told."
    return _too_few([one], f"whether it can be seen of an image {what}", count)


def _too_few(some: Sequence[Visibility], what: str, count: int) -> str:
    most, take = max(some, key=lambda one: one.share.high), needed(together(count))
    pairs = most.pairs
    if pairs >= take:
        told, high = (f"{100 * share:.0f} %" for share in (most.share.mean, most.share.high))
        return f"It is open {what}: of {pairs:,} pairs {told} were told, {most.name}, and up to {high} could be."
    return (
        f"These images are too few to say {what}: {pairs:,} pairs were judged, and it takes some {take:,} to show that "
        f"fewer than {100 * HARDLY:.0f} % can be told."
    )
