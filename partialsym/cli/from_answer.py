"""The config that trains what an answer recommends, longer. Imports no torch."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from partialsym.config import ConfigError, read_yaml
from partialsym.config.migration import migrated
from partialsym.errors import InputError
from partialsym.runs.schema import read_json

FORMAT = 1  # of answer.json
EPOCHS, PATIENCE, STEPS = (
    100,
    15,
    50,
)  # steps of an epoch at least, so that validation images are not asked all the time


def config_from(folder: Path) -> dict[str, Any]:
    """The config of the run that FOLDER/answer.json recommends, with a longer training: up to 100 epochs of at least 50
    steps, until the validation accuracy has not risen for 15 of them; the best one is saved, and classes weigh alike.

    Raises:
        ConfigError: there is no answer, or nothing is recommended.
    """
    path = folder / "answer.json"
    if not path.is_file():
        raise ConfigError(f"{folder} has no answer.json: --from needs the folder that `partialsym ask` wrote, --out.")
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
        raise ConfigError(f"{run / 'config.yaml'} is no config of a run.")
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
