"""A question and what came of planning it, as ask.json holds them."""

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from partialsym._utils.atomic import replace_text
from partialsym.ask.methods import METHODS, Shape, images_for, methods
from partialsym.ask.planning import Plan
from partialsym.config import DataConfig, Experiment
from partialsym.data import Dataset
from partialsym.errors import ConfigError, InputError
from partialsym.runs.schema import read_json

FORMAT = 1
ELSEWHERE = ("root", "stream", "workers")  # where images are, not which


class Question(NamedTuple):
    """Which part of `group` do these images keep to? Asked in a folder of its own; `digest` is that of the images."""

    data: DataConfig
    group: str
    out: Path
    digest: str
    network: str = "ResNet"
    plan: Plan | None = None

    @classmethod
    def of(cls, data: DataConfig, group: str, out: Path, images: Dataset, network: str = "ResNet") -> "Question":
        """A new question, or the one that was asked in `out` before, with its plan.

        Raises:
            ConfigError: another question was asked there, or of other images, or something else lies there.
            ValueError: ask.json is damaged.
        """
        asked = cls(data.complete(), group, out, _digest(images), network)
        if not asked.file.is_file():
            if out.is_dir() and any(out.iterdir()):
                raise ConfigError(f"{out} exists and holds no question: choose another --out.")
            return asked
        held = read_json(asked.file)
        if not isinstance(held, dict) or held.get("format") != FORMAT:
            raise InputError(f"{asked.file} is damaged, or of another format version: this version reads {FORMAT}.")
        for key, now in asked.about().items():
            if held.get(key, "ResNet" if key == "network" else None) != now:  # which the first files did not name
                before, given = (f" = {held.get(key)!r}", f"{now!r}") if key != "images" else ("", "those given")
                raise ConfigError(
                    f"{out} holds a question with other {key}{before}, not {given}: choose another --out."
                )
        if (plan := _plan(held.get("plan"), METHODS[group])) is None:
            raise InputError(f"{asked.file} holds no plan that can be followed: choose another --out.")
        return asked._replace(plan=plan)

    @property
    def file(self) -> Path:
        return self.out / "ask.json"

    @property
    def folder(self) -> Path:
        """Of the runs."""
        return self.out / "runs"

    def about(self) -> dict[str, Any]:
        """What makes it this question: where the images lie does not."""
        data = json.loads(json.dumps(asdict(replace(self.data, root=None))))
        return {
            "group": self.group,
            "network": self.network,
            "images": self.digest,
            **{f"data.{key}": value for key, value in data.items() if key not in ELSEWHERE},
        }

    def planned(self, plan: Plan) -> "Question":
        """With that plan, kept in ask.json."""
        content = {"format": FORMAT, **self.about(), "plan": plan._asdict()}
        replace_text(self.file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        return self._replace(plan=plan)

    def experiments(self, shape: Shape, seeds: int) -> list[Experiment]:
        """All runs, seed after seed, the longest of a seed first."""
        plan = self.plan
        assert plan is not None
        found = methods(self.group, shape, plan.width, self.network)
        data = self.data if plan.images is None else replace(self.data, train_images=plan.images)
        names = sorted(found, key=lambda name: -plan.seconds[name])
        given = {name: images_for(name, self.group, data) for name in names}
        return [plan.experiment(name, seed, given[name], found[name]) for seed in range(seeds) for name in names]


def _digest(images: Dataset) -> str:
    """SHA-256 of the pixels and labels of all splits."""
    found = hashlib.sha256()
    for split in (images.train, images.validation, images.test):
        for values in (split.images, split.labels):
            found.update(str(list(values.shape)).encode())
            for part in values.split(256):
                found.update(part.contiguous().numpy().tobytes())
    return found.hexdigest()


def _plan(held: object, names: Collection[str]) -> Plan | None:
    """The plan in a file; None where it is not whole."""
    if not isinstance(held, dict) or held.keys() != set(Plan._fields):
        return None
    found = Plan(**held)
    counts = [found.width, found.epochs, found.repeats, found.batch, 1 if found.images is None else found.images]
    whole = all(type(n) is int and 1 <= n < 2**31 for n in counts)
    seconds = isinstance(found.seconds, dict) and found.seconds.keys() == set(names)
    return found if whole and seconds and all(isinstance(s, int | float) for s in found.seconds.values()) else None
