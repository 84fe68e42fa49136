"""A run on disk: one folder with its config, metrics, result, model, checkpoints and their hashes."""

import csv
import hashlib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from torch import nn

from partialsym._utils.atomic import leftovers, replace_text
from partialsym.config import ConfigError, Experiment, read_yaml
from partialsym.config.migration import migrated
from partialsym.config.pretrained import record_path
from partialsym.data import Preprocessing
from partialsym.data.base import check_statistics
from partialsym.data.reading import WIDE, Fit, Range, check_range
from partialsym.errors import InputError
from partialsym.models.saving import StoreError, copy_model, load_model
from partialsym.runs.schema import read_json, read_result

FORMAT = 2  # of config.yaml, stored in a comment so that `--config` can read the file; format 1 had other setting names
MANIFEST_FORMAT = 1
MANIFEST = "manifest.json"
FREE = ("data.root", "data.workers", "training.diverged")


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode, with what is needed to use it.

    Attributes:
        model: the model.
        preprocess: its normalisation.
        classes: names of the classes.
        size: height and width of the images.
        fit: how images are brought to that size.
        range: values of 16-bit grey that become 0 and 1.
    """

    model: nn.Module
    preprocess: Preprocessing
    classes: tuple[str, ...]
    size: tuple[int, int]
    fit: Fit = "resize"
    range: Range = WIDE


@dataclass(frozen=True)
class Run:
    """The folder OUT/NAME/seed<seed> of one experiment."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def pretrained(self) -> Path:
        """The record of the model that training started from, of a run that has one."""
        return self.folder / "pretrained" / "model.json"

    @property
    def finished(self) -> bool:
        return (self.folder / "result.json").is_file()

    def config(self) -> Experiment:
        """Read the config. Raise FileNotFoundError if this is no run folder, ConfigError if the config is invalid."""
        path = self._settings()
        with open(path, "rb") as file:
            found = re.match(rb"# format (\d+)\n", file.read(64))
        version = int(found[1]) if found else 1  # files of format 1 have no such comment
        if version not in (1, FORMAT):
            raise ConfigError(f"{path} has format version {version}: this version reads 1 and {FORMAT}.")
        tree = read_yaml(path)
        return Experiment.from_dict(migrated(tree) if version == 1 and isinstance(tree, dict) else tree)

    def result(self) -> dict[str, Any]:
        """Read the result. Raise FileNotFoundError if the run has not finished, ValueError if the file is damaged."""
        if not self.finished:
            self._settings()
            raise FileNotFoundError(f"{self.folder} has no result.json: it has not finished; `--resume` continues it.")
        return read_result(self.folder / "result.json")

    def _settings(self) -> Path:
        path = self.folder / "config.yaml"
        if not path.is_file():
            raise FileNotFoundError(f"{self.folder} is not a run folder: there is no config.yaml in it.")
        return path

    def history(self) -> list[dict[str, float]]:
        """One row per epoch, from metrics.csv. Raise ValueError if the file is damaged."""
        path = self.folder / "metrics.csv"
        if not path.is_file():
            return []
        try:
            with open(path, newline="", encoding="utf-8") as file:
                return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
        except (csv.Error, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is damaged ({error}).") from None

    def model(self) -> LoadedModel:
        """Load the trained model. Raise FileNotFoundError if it is missing, StoreError if it cannot be read."""
        model, about = load_model(self.folder / "model")
        if "altered" in about:
            raise StoreError(f"{self.folder} has a network altered by {about['altered']!r}: it cannot be rebuilt.")
        try:
            preprocess = Preprocessing(tuple(about["mean"]), tuple(about["std"]))
            height, width = about["size"]
            fit = about.get("fit", "resize")
            if fit not in get_args(Fit):
                raise ValueError(f"fit is {fit!r}")
            check_range(range := tuple(about.get("range") or WIDE))  # earlier versions did not store it
            check_statistics(len(preprocess.mean), preprocess.mean, preprocess.std)
            if not all(isinstance(name, str) for name in about["classes"]) or not 0 < height * width < 2**32:
                raise ValueError(f"classes are {about['classes']!r}, size {about['size']!r}")
            return LoadedModel(model, preprocess, tuple(about["classes"]), (height, width), fit, range)
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{self.folder / 'model' / 'model.json'} is incomplete ({error}).") from None

    def check(self, config: Experiment, resume: bool) -> None:
        """Raise ConfigError if the folder exists and `resume` is False, or if its config differs."""
        path = self.folder / "config.yaml"
        if not path.exists():
            # a run that died before its first file leaves only hidden files: a lock and temporary files
            if self.folder.is_dir() and any(not file.name.startswith(".") for file in self.folder.iterdir()):
                raise ConfigError(f"{self.folder} exists and is not a run folder: choose another name or --out.")
            return
        if not resume:
            raise ConfigError(f"{self.folder} exists: resume it (--resume), or choose another name, seed or --out.")
        before, now = identity(self.config()), identity(config)
        for key in now:
            if before[key] != now[key]:
                held, given = before[key], now[key]
                raise ConfigError(f"{path} has {key} = {held!r}, but this run has {given!r}: cannot resume.")

    def begin(self, config: Experiment) -> None:
        """Write config.yaml if it does not exist, copy the model that training starts from, so that the run can be
        resumed elsewhere, and remove files that a killed process left half written."""
        path = self.folder / "config.yaml"
        for file in leftovers(self.folder):
            file.unlink()
        if not path.exists():
            text = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True)
            replace_text(path, f"# format {FORMAT}\n{text}")
        if config.model.pretrained is not None and not self.pretrained.is_file():
            copy_model(record_path(config.model.pretrained), self.pretrained.parent)

    def write_history(self, history: list[dict[str, float]]) -> None:
        if not history:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        replace_text(self.folder / "metrics.csv", text.getvalue())

    def write_result(self, result: dict[str, Any]) -> None:
        """Write manifest.json, the sha256 of every file, and then result.json, which marks the run as finished."""
        text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
        hashes = self.hashes() | {"result.json": hashlib.sha256(text.encode()).hexdigest()}
        replace_text(self.folder / MANIFEST, json.dumps({"format": MANIFEST_FORMAT, "sha256": hashes}, indent=1) + "\n")
        replace_text(self.folder / "result.json", text)

    def hashes(self) -> dict[str, str]:
        """The sha256 of every file of the run, except the manifest and hidden files, by path relative to the folder."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and name != MANIFEST and not path.name.startswith("."):
                with open(path, "rb") as file:
                    found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        return found

    def manifest(self) -> dict[str, str] | None:
        """The hashes recorded when the run finished, or None for a run of an earlier version, which had no manifest.

        Raises:
            ValueError: the manifest is damaged, or has another format version.
        """
        path = self.folder / MANIFEST
        if not path.is_file():
            return None
        content = read_json(path)
        version = content.get("format") if isinstance(content, dict) else None
        if version != MANIFEST_FORMAT:
            raise InputError(f"{path} has format version {version!r}: this version reads {MANIFEST_FORMAT}.")
        if not isinstance(content.get("sha256"), dict):
            raise InputError(f"{path} is damaged: it contains no sha256 hashes.")
        return content["sha256"]

    def publish(self, target: Path) -> None:
        """Copy the result to `target`."""
        replace_text(target, (self.folder / "result.json").read_text(encoding="utf-8"))


def identity(config: Experiment) -> dict[str, Any]:
    """The settings that define a run, by dotted key.

    A resumed run may change the others: the location of the images and of the pretrained model, the number of workers,
    the reaction to a step that is not finite, and the trainer's settings.
    """
    settings = flatten(config.to_dict())
    if settings["model.pretrained"] is not None:
        settings["model.pretrained"] = "a model"  # the run has a copy
    return {key: value for key, value in settings.items() if key not in FREE and not key.startswith("trainer.")}


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Convert nested keys to dotted keys. `kernel_options` remains a dict."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and key != "kernel_options":
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
