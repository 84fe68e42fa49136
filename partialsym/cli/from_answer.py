"""The config that trains the recommended network of an answer longer. This module imports no torch."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from partialsym.config import ConfigError, read_yaml
from partialsym.config.migration import migrated
from partialsym.errors import InputError
from partialsym.runs.schema import read_json

FORMAT = 1  # format number of answer.json
EPOCHS, PATIENCE = 100, 15
STEPS = 50  # smallest number per epoch, so that validation takes a small part of the time


def config_from(folder: Path) -> dict[str, Any]:
    """The config of the run that FOLDER/answer.json recommends, with a longer training.

    It trains up to 100 epochs of at least 50 steps, and stops when the validation accuracy has not risen for 15 epochs.
    The best epoch is saved, and all classes have the same weight in the loss.

    Raises:
        ConfigError: there is no answer, it is damaged, or it recommends no network.
    """
    path = folder / "answer.json"
    if not path.is_file():
        raise ConfigError(f"{folder} has no answer.json: --from needs the folder --out of `partialsym ask`.")
    try:
        answer = read_json(path)
    except InputError as error:
        raise ConfigError(str(error)) from None
    version = answer.get("format") if isinstance(answer, Mapping) else None
    if version != FORMAT:
        raise ConfigError(f"{path} has format version {version!r}: this version reads {FORMAT}.")
    advice = answer.get("recommendation")
    if not isinstance(advice, Mapping) or not isinstance(advice.get("run"), str):
        said = advice.get("sentence") if isinstance(advice, Mapping) else None
        raise ConfigError(f"{path} recommends no network: {said or answer.get('problem') or 'it is damaged'}")
    run = folder / advice["run"]
    if not run.resolve().is_relative_to(folder.resolve()) or not (run / "config.yaml").is_file():
        raise ConfigError(f"{path} names the run {advice['run']!r}: there is no such run in {folder}.")
    tree = read_yaml(run / "config.yaml")
    if not isinstance(tree, dict) or not all(isinstance(tree.get(key), dict) for key in ("data", "training")):
        raise ConfigError(f"{run / 'config.yaml'} is not the config of a run.")
    return _longer(migrated(tree), folder, answer)


def _longer(tree: dict[str, Any], folder: Path, answer: Mapping[str, Any]) -> dict[str, Any]:
    training, images = tree["training"], answer.get("images")
    count = images.get("train") if isinstance(images, Mapping) else None
    count = count if isinstance(count, int) and count > 0 else 1
    name = f"{folder.resolve().name}-{tree['name']}"
    return tree | {
        "name": re.sub(r"[^\w.+-]", "_", name).lstrip(".+-") or "answer",
        "data": tree["data"] | {"train_images": None},
        "training": training
        | {
            "epochs": EPOCHS,
            "repeats": max(1, -(-STEPS * int(training["batch_size"]) // count)),
            "schedule": "cosine",
            "warmup_epochs": 1.0,
            "patience": PATIENCE,
            "select": "best",
            "class_weights": "balanced",
            "compile": "auto",
        },
    }
