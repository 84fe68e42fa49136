"""The first question: do the images show how they are oriented? The answer is stored in images.json."""

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
    bonferroni,
    look_for,
    needed,
    prepared,
)
from partialsym.ask.workers import as_they_end
from partialsym.data import Dataset
from partialsym.errors import InputError
from partialsym.runs.schema import read_json

log = logging.getLogger(__name__)
FORMAT = 1
FILE = "images.json"
SHARE, MOST_SECONDS = 0.12, 240.0  # the time limit of this question: share of the budget, and seconds


def seconds(budget: float) -> float:
    """The largest number of seconds that this question uses of a budget in seconds."""
    return min(MOST_SECONDS, SHARE * budget)


def whole(left: float) -> float:
    """The budget in seconds of which this question leaves `left` seconds."""
    return min(left + MOST_SECONDS, left / (1 - SHARE))


def look(executor: Executor, workers: int, group: str, data: Dataset, out: Path, budget: float) -> list[Visibility]:
    """Run `visibility` on the images of all splits; images with the same original count as one.

    Args:
        executor: the processes that run the tests.
        workers: number of these processes.
        group: group of the question: SE2, Mirror or E2.
        data: the images.
        out: folder of the question. The results are written to images.json there, and read from it the next time.
        budget: time for all tests, in seconds.
    Returns:
        One result for each transformation of the group; empty if there are too few images.
    """
    path = out / FILE
    if path.is_file():
        return read(path)
    found: list[Visibility] = []
    try:
        x, unit = prepared(*_sample(data))
    except InputError as error:
        log.info("it is unknown whether a network sees that images are turned: %s", error)
    else:
        kinds = TRANSFORMATIONS[group]
        log.info("training small networks to tell images from their copies: %s", listed([kind.name for kind in kinds]))
        each = budget * min(workers, len(kinds)) / len(kinds)
        jobs = {executor.submit(look_for, x, unit, kind, bonferroni(len(kinds)), STEPS, each): kind for kind in kinds}
        by_kind = dict(as_they_end(jobs, lambda kind: kind.name))
        found = [by_kind[kind] for kind in kinds]
    replace_text(path, json_of(found))
    return found


def read(path: Path) -> list[Visibility]:
    """The results that `look` wrote; empty if it was stopped before that, or had too few images.

    Raises:
        ValueError: the file is damaged, or has another format version.
    """
    if not path.is_file():
        return []
    held = read_json(path)
    if not isinstance(held, Mapping) or held.get("format") != FORMAT:
        raise InputError(f"{path} is damaged, or has another format version: delete it, and `ask` writes it again.")
    try:
        return [
            Visibility(
                **{key: one[key] for key in Visibility._fields if key != "share"}, share=Interval(**one["share"])
            )
            for one in held["transformations"]
        ]
    except (KeyError, TypeError):
        raise InputError(f"{path} is damaged: delete it, and `ask` writes it again.") from None


def plain(one: Visibility) -> dict[str, Any]:
    """The result as a dict for JSON."""
    return one._asdict() | {"share": one.share._asdict()}


def json_of(found: Sequence[Visibility]) -> str:
    return json.dumps({"format": FORMAT, "transformations": [plain(one) for one in found]}, indent=1) + "\n"


def _sample(data: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of all splits in proportion, limited to the number that the tests use, and the original of each."""
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
    """The results in words: first turns, then mirroring."""
    turns = [one for one in seen if one.degrees]
    flips = [one for one in seen if not one.degrees]
    said = [_of_turns(turns, len(seen))] if turns else []
    return said + [_of_one(one, "that an image is mirrored", len(seen)) for one in flips]


def _of_turns(turns: Sequence[Visibility], count: int) -> str:
    visible = {one.degrees for one in turns if one.answer == VISIBLE}
    if not visible:
        if all(one.answer == INVISIBLE for one in turns):
            most = max(turns, key=lambda one: one.share.high)
            return (
                f"Turns are not visible: of {most.pairs:,} pairs of an image and its copy, a network can distinguish "
                f"at most {100 * most.share.high:.0f} %; chance alone gives half. This network would lose nothing if "
                "it treated all orientations alike."
            )
        return _too_few(turns, "whether turns are visible", count)
    least = max(visible)
    for degrees in sorted((one.degrees for one in turns if one.degrees <= 90), reverse=True):
        if degrees not in visible:
            break
        least = degrees
    smallest = min(one.degrees for one in turns)
    share = next(one.share.mean for one in turns if one.degrees == least)
    tried = " (the smallest turn tested)" if least == smallest else ""
    return (
        f"Turns are visible, from {least:g}° on{tried}: at that turn a network distinguishes {100 * share:.0f} % of "
        "images from their copies; chance alone gives half. The images have a preferred orientation."
    )


def _of_one(one: Visibility, what: str, count: int) -> str:
    if one.answer == VISIBLE:
        return (
            f"A network sees {what}, in {100 * one.share.mean:.0f} % of {one.pairs:,} pairs of an image and its copy."
        )
    if one.answer == INVISIBLE:
        high = f"{100 * one.share.high:.0f} %"
        return (
            f"A network does not see {what}: of {one.pairs:,} pairs of an image and its copy, it can distinguish at "
            f"most {high}; chance alone gives half."
        )
    return _too_few([one], f"whether a network sees {what}", count)


def _too_few(some: Sequence[Visibility], what: str, count: int) -> str:
    most, take = max(some, key=lambda one: one.share.high), needed(bonferroni(count))
    pairs = most.pairs
    if pairs >= take:
        told, high = (f"{100 * share:.0f} %" for share in (most.share.mean, most.share.high))
        return (
            f"It is undecided {what}: of {pairs:,} pairs of an image and a copy that was {most.name}, a network "
            f"distinguished {told}, and up to {high} are possible."
        )
    return (
        f"There are too few images to decide {what}: they form {pairs:,} pairs of an image and its copy, and about "
        f"{take:,} are needed to show that a network distinguishes fewer than {100 * HARDLY:.0f} % of them."
    )
