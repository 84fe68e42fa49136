"""A question and its plan, as stored in ask.json."""

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from partialsym._utils.atomic import replace_text
from partialsym.ask.methods import METHODS, Shape, images_for, methods
from partialsym.ask.planning import Length, Plan, Seconds
from partialsym.config import DataConfig, Experiment
from partialsym.data import Dataset
from partialsym.errors import ConfigError, InputError
from partialsym.runs.run import Run
from partialsym.runs.schema import read_json
from partialsym.training.fit import run_folder

FORMAT = 2
MOST_SEEDS = 30  # largest number of runs of a method
ELSEWHERE = ("root", "stream", "workers")  # these say where the images are and how they are read, not which they are


class Question(NamedTuple):
    """A question: which symmetries of `group` do these images have?

    Attributes:
        data: the images.
        group: SE2, Mirror or E2.
        out: the folder of this question.
        digest: SHA-256 of the pixels and labels.
        network: the kind of network.
        plan: how the networks are trained; None before planning.
    """

    data: DataConfig
    group: str
    out: Path
    digest: str
    network: str = "ResNet"
    plan: Plan | None = None

    @classmethod
    def of(cls, data: DataConfig, group: str, out: Path, images: Dataset, network: str = "ResNet") -> "Question":
        """A new question, or the question that is stored in `out`, with its plan.

        Raises:
            ConfigError: the folder belongs to another question or to other images, or contains other files.
            ValueError: ask.json is damaged.
        """
        asked = cls(data.complete(), group, out, _digest(images), network)
        if not asked.file.is_file():
            if out.is_dir() and any(out.iterdir()):
                raise ConfigError(f"{out} exists, but it contains no question: choose another --out.")
            return asked
        held = read_json(asked.file)
        if not isinstance(held, dict) or held.get("format") != FORMAT:
            raise InputError(f"{asked.file} is damaged, or has another format version: this version reads {FORMAT}.")
        for key, now in asked.about().items():
            if held.get(key, "ResNet" if key == "network" else None) != now:  # the first files have no network
                before, given = (f" = {held.get(key)!r}", f"{now!r}") if key != "images" else ("", "these")
                raise ConfigError(
                    f"{out} contains a question with other {key}{before}, not {given}: choose another --out."
                )
        if (plan := _plan(held.get("plan"), METHODS[group])) is None:
            raise InputError(f"{asked.file} contains no valid plan: choose another --out.")
        return asked._replace(plan=plan)

    @property
    def file(self) -> Path:
        return self.out / "ask.json"

    @property
    def folder(self) -> Path:
        """The folder of the runs."""
        return self.out / "runs"

    def about(self) -> dict[str, Any]:
        """What identifies this question; the place of the images does not."""
        data = json.loads(json.dumps(asdict(replace(self.data, root=None))))
        return {
            "group": self.group,
            "network": self.network,
            "images": self.digest,
            **{f"data.{key}": value for key, value in data.items() if key not in ELSEWHERE},
        }

    def planned(self, plan: Plan) -> "Question":
        """The question with this plan, after writing both to ask.json."""
        content = {"format": FORMAT, **self.about(), "plan": plan._asdict()}
        replace_text(self.file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        return self._replace(plan=plan)

    def images(self, seed: int) -> DataConfig:
        """The images of a seed, at the plan's size: its fold, if the images are divided into folds."""
        plan, data = self.plan, self.data
        assert plan is not None
        if data.folds is not None:
            data = replace(data, fold=seed % data.folds)
        if plan.size is not None:
            data = replace(data, size=plan.size)
        count = plan.length(seed).images
        return data if count is None else replace(data, train_images=count)

    def experiment(self, method: str, seed: int, shape: Shape) -> Experiment:
        """The experiment of one run; `shape` is the shape of the original images."""
        plan = self.plan
        assert plan is not None
        model = methods(self.group, shape._replace(size=plan.size or shape.size), plan.width, self.network)[method]
        return plan.experiment(method, seed, images_for(method, self.group, self.images(seed)), model)

    def finished(self, shape: Shape) -> list[Run]:
        """The finished runs, sorted by method, then by seed."""
        if self.plan is None:
            return []
        configs = [self.experiment(name, seed, shape) for name in self.plan.methods for seed in range(MOST_SEEDS)]
        return [run for run in (run_folder(config, self.folder) for config in configs) if run.finished]


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
    """The plan as read from a file; None if it is incomplete or invalid."""
    if not isinstance(held, dict) or held.keys() != set(Plan._fields):
        return None
    try:
        plan = Plan(
            held["width"],
            None if held["size"] is None else tuple(held["size"]),
            tuple(held["methods"]),
            held["batch"],
            tuple(Length(*length) for length in held["lengths"]),
            {name: Seconds(*seconds) for name, seconds in held["seconds"].items()},
            dict(held["after"]),
        )
    except (TypeError, AttributeError):
        return None
    counts = [plan.width, plan.batch, *plan.after.values(), *(plan.size or ())]
    counts += [1 if n is None else n for length in plan.lengths for n in length]
    whole = all(type(n) is int and 1 <= n < 2**31 for n in counts) and len(plan.lengths) > 0
    times = [s for one in plan.seconds.values() for s in one]
    known = len(plan.methods) > 1 and {*plan.methods} <= {*names} and len(plan.size or (0, 0)) == 2
    same = {*plan.methods} <= plan.seconds.keys() and {*plan.methods} <= plan.after.keys()
    return plan if whole and known and same and all(isinstance(s, int | float) for s in times) else None
