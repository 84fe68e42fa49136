"""A question and what came of planning it, as ask.json holds them."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from partialsym.asking.methods import METHODS, Shape, methods
from partialsym.asking.planning import Plan
from partialsym.checks import ConfigError, one_of
from partialsym.config import DataConfig, Experiment
from partialsym.files import replace_text
from partialsym.results import read_json

FORMAT = 1


class Question(NamedTuple):
    """Which part of `group` do these images keep to? Asked in a folder of its own."""

    data: DataConfig
    group: str
    out: Path
    plan: Plan | None = None

    @classmethod
    def of(cls, data: DataConfig, group: str, out: Path) -> "Question":
        """A new question, or the one that was asked in `out` before, with its plan.

        Raises:
            ConfigError: an unknown group; another question was asked there, or something else lies there.
            ValueError: ask.json is damaged.
        """
        one_of("group", group, tuple(METHODS))
        asked = cls(data.complete(), group, out)
        if not asked.file.is_file():
            if out.is_dir() and any(out.iterdir()):
                raise ConfigError(f"{out} exists and holds no question: choose another --out.")
            return asked
        held = read_json(asked.file)
        if not isinstance(held, dict) or held.get("format") != FORMAT:
            raise ValueError(f"{asked.file} is damaged, or of another format version: this version reads {FORMAT}.")
        for key, now in asked.about().items():
            if held.get(key) != now:
                raise ConfigError(
                    f"{out} holds a question with {key} = {held.get(key)!r}, not {now!r}: choose another --out."
                )
        try:
            return asked._replace(plan=Plan(**held["plan"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"{asked.file} holds no plan ({error}).") from None

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
        return {"group": self.group, **{f"data.{key}": value for key, value in data.items() if key != "root"}}

    def planned(self, plan: Plan) -> "Question":
        """With that plan, kept in ask.json."""
        content = {"format": FORMAT, **self.about(), "plan": plan._asdict()}
        replace_text(self.file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        return self._replace(plan=plan)

    def experiments(self, shape: Shape, seeds: int) -> list[Experiment]:
        """All runs, seed after seed, the longest of a seed first."""
        plan = self.plan
        assert plan is not None
        found = methods(self.group, shape, plan.width)
        data = self.data if plan.images is None else replace(self.data, train_images=plan.images)
        names = sorted(found, key=lambda name: -plan.seconds[name])
        return [plan.experiment(name, seed, data, found[name]) for seed in range(seeds) for name in names]
