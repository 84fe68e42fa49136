"""A run on disk: one folder that holds config, metrics, result, model and checkpoints, and what they hash to."""

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
from partialsym.data import Preprocessing
from partialsym.data.base import check_statistics
from partialsym.data.reading import WIDE, Fit, Range, check_range
from partialsym.errors import InputError
from partialsym.models.saving import StoreError, load_model
from partialsym.runs.schema import read_json, read_result

FORMAT = (
    2  # of config.yaml, in a comment, so that it is a file for `--config` too; in format 1 settings had other names
)
MANIFEST_FORMAT = 1
MANIFEST = "manifest.json"
FREE = ("data.root", "data.workers", "training.diverged")


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode with what surrounds it: preprocessing, class names, height and width of the images, how they
    got that size, and which values of 16 bits are 0 and 1 in them."""

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
    def finished(self) -> bool:
        return (self.folder / "result.json").is_file()

    def config(self) -> Experiment:
        """Raises FileNotFoundError where the folder is no run, ConfigError where its config does not hold."""
        path = self._settings()
        with open(path, "rb") as file:
            found = re.match(rb"# format (\d+)\n", file.read(64))
        version = int(found[1]) if found else 1  # the first ones say nothing
        if version not in (1, FORMAT):
            raise ConfigError(f"{path} has format version {version}: this version reads 1 and {FORMAT}.")
        tree = read_yaml(path)
        return Experiment.from_dict(migrated(tree) if version == 1 and isinstance(tree, dict) else tree)

    def result(self) -> dict[str, Any]:
        """Raises FileNotFoundError where there is no finished run, ValueError where its result is damaged."""
        if not self.finished:
            self._settings()
            raise FileNotFoundError(f"{self.folder} has no result.json: it has not finished; `--resume` goes on.")
        return read_result(self.folder / "result.json")

    def _settings(self) -> Path:
        path = self.folder / "config.yaml"
        if not path.is_file():
            raise FileNotFoundError(f"{self.folder} is not a run folder: there is no config.yaml in it.")
        return path

    def history(self) -> list[dict[str, float]]:
        """One row an epoch, from metrics.csv; raises ValueError where it is damaged."""
        path = self.folder / "metrics.csv"
        if not path.is_file():
            return []
        try:
            with open(path, newline="", encoding="utf-8") as file:
                return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
        except (csv.Error, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is damaged ({error}).") from None

    def model(self) -> LoadedModel:
        """The trained model; raises FileNotFoundError or StoreError where there is none to be read."""
        model, about = load_model(self.folder / "model")
        if "altered" in about:
            raise StoreError(f"{self.folder} is of a network altered by {about['altered']!r}: it cannot be rebuilt.")
        try:
            preprocess = Preprocessing(tuple(about["mean"]), tuple(about["std"]))
            height, width = about["size"]
            fit = about.get("fit", "resize")
            if fit not in get_args(Fit):
                raise InputError(f"fit is {fit!r}")
            check_range(range := tuple(about.get("range") or WIDE))  # earlier ones have none
            check_statistics(len(preprocess.mean), preprocess.mean, preprocess.std)
            if not all(isinstance(name, str) for name in about["classes"]) or not 0 < height * width < 2**32:
                raise InputError(f"classes are {about['classes']!r}, size {about['size']!r}")
            return LoadedModel(model, preprocess, tuple(about["classes"]), (height, width), fit, range)
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{self.folder / 'model' / 'model.json'} is incomplete ({error}).") from None

    def check(self, config: Experiment, resume: bool) -> None:
        """Raise ConfigError where the folder exists and is not to be resumed, or holds another config."""
        path = self.folder / "config.yaml"
        if not path.exists():
            # a lock and leftovers, which are hidden, are all there is of a run that died before its first file
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
        """Write config.yaml where there is none yet, and clear away what a killed process left half written."""
        path = self.folder / "config.yaml"
        for file in leftovers(self.folder):
            file.unlink()
        if not path.exists():
            text = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True)
            replace_text(path, f"# format {FORMAT}\n{text}")

    def write_history(self, history: list[dict[str, float]]) -> None:
        if not history:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        replace_text(self.folder / "metrics.csv", text.getvalue())

    def write_result(self, result: dict[str, Any]) -> None:
        """Write result.json, which makes the run a finished one; before it manifest.json, the sha256 of every file."""
        text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
        hashes = self.hashes() | {"result.json": hashlib.sha256(text.encode()).hexdigest()}
        replace_text(self.folder / MANIFEST, json.dumps({"format": MANIFEST_FORMAT, "sha256": hashes}, indent=1) + "\n")
        replace_text(self.folder / "result.json", text)

    def hashes(self) -> dict[str, str]:
        """The sha256 of every file of the run but the manifest and hidden ones, by its path inside the folder."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and name != MANIFEST and not path.name.startswith("."):
                with open(path, "rb") as file:
                    found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        return found

    def manifest(self) -> dict[str, str] | None:
        """What `hashes` gave when the run finished; None where it was written by a version that kept no manifest.

        Raises:
            ValueError: the manifest is damaged, or of another format version.
        """
        path = self.folder / MANIFEST
        if not path.is_file():
            return None
        content = read_json(path)
        version = content.get("format") if isinstance(content, dict) else None
        if version != MANIFEST_FORMAT:
            raise InputError(f"{path} has format version {version!r}: this version reads {MANIFEST_FORMAT}.")
        if not isinstance(content.get("sha256"), dict):
            raise InputError(f"{path} is damaged: it lists no sha256.")
        return content["sha256"]

    def publish(self, target: Path) -> None:
        """Copy the result to a file of its own."""
        replace_text(target, (self.folder / "result.json").read_text(encoding="utf-8"))


def identity(config: Experiment) -> dict[str, Any]:
    """The settings that make a run what it is, by dotted key; the others may change when it is resumed: where the
    images are and who reads them, what happens to a step that is not finite, and where it is trained."""
    settings = flatten(config.to_dict())
    return {key: value for key, value in settings.items() if key not in FREE and not key.startswith("trainer.")}


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones; `kernel_options` stays whole."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and key != "kernel_options":
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
