"""A run on disk: one folder that holds config, metrics, result, model and checkpoints."""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from torch import nn

from partialsym.config import ConfigError, Experiment, read_yaml
from partialsym.files import replace_text
from partialsym.images import Fit
from partialsym.measure import Preprocessing
from partialsym.results import read_result
from partialsym.store import StoreError, load_model


@dataclass(frozen=True)
class Trained:
    """A model in eval mode with what surrounds it: preprocessing, class names, height and width of the images, and how
    they got that size."""

    model: nn.Module
    preprocess: Preprocessing
    classes: tuple[str, ...]
    size: tuple[int, int]
    fit: Fit = "resize"


@dataclass(frozen=True)
class Run:
    """The folder OUT/NAME/seed<seed> of one experiment."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def finished(self) -> bool:
        return (self.folder / "result.json").is_file()

    def config(self) -> Experiment:
        """Raises FileNotFoundError where the folder is no run, ConfigError where its config does not hold."""
        path = self.folder / "config.yaml"
        if not path.is_file():
            raise FileNotFoundError(f"{self.folder} is not a run folder: there is no config.yaml in it.")
        return Experiment.from_dict(read_yaml(path))

    def result(self) -> dict[str, Any]:
        """Raises FileNotFoundError where the run has not finished, ValueError where its result is damaged."""
        if not self.finished:
            raise FileNotFoundError(f"{self.folder} has no result.json: it has not finished; `--resume` goes on.")
        return read_result(self.folder / "result.json")

    def history(self) -> list[dict[str, float]]:
        """One row an epoch, from metrics.csv."""
        path = self.folder / "metrics.csv"
        if not path.is_file():
            return []
        with open(path, newline="", encoding="utf-8") as file:
            return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]

    def model(self) -> Trained:
        """The trained model; raises FileNotFoundError or StoreError where there is none to be read."""
        model, about = load_model(self.folder / "model")
        if "altered" in about:
            raise StoreError(f"{self.folder} is of a network altered by {about['altered']!r}: it cannot be rebuilt.")
        try:
            preprocess = Preprocessing(tuple(about["mean"]), tuple(about["std"]))
            height, width = about["size"]
            fit = about.get("fit", "resize")
            if fit not in get_args(Fit):
                raise ValueError(f"fit is {fit!r}")
            return Trained(model, preprocess, tuple(about["classes"]), (height, width), fit)
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{self.folder / 'model' / 'model.json'} is incomplete ({error}).") from None

    def check(self, config: Experiment, resume: bool) -> None:
        """Raise ConfigError where the folder exists and is not to be resumed, or holds another config."""
        path = self.folder / "config.yaml"
        if not path.exists():
            if self.folder.is_dir() and any(self.folder.iterdir()):
                raise ConfigError(f"{self.folder} exists and is not a run folder: choose another name or --out.")
            return
        if not resume:
            raise ConfigError(f"{self.folder} exists: resume it (--resume), or choose another name, seed or --out.")
        before, now = flatten(self.config().to_dict()), flatten(config.to_dict())
        for key in now:
            if before.get(key) != now[key] and key != "data.root":
                held, given = before.get(key), now[key]
                raise ConfigError(f"{path} has {key} = {held!r}, but this run has {given!r}: cannot resume.")

    def begin(self, config: Experiment) -> None:
        """Write config.yaml where there is none yet."""
        path = self.folder / "config.yaml"
        if not path.exists():
            replace_text(path, yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True))

    def write_history(self, history: list[dict[str, float]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        replace_text(self.folder / "metrics.csv", text.getvalue())

    def write_result(self, result: dict[str, Any]) -> None:
        replace_text(self.folder / "result.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")

    def publish(self, target: Path) -> None:
        """Copy the result to a file of its own."""
        replace_text(target, (self.folder / "result.json").read_text(encoding="utf-8"))


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones; `kernel_options` stays whole."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and key != "kernel_options":
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
