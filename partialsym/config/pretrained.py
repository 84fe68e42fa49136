"""What a saved network says of the model of a config, read from its record alone. Imports no torch."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from partialsym._utils.limited_read import read_bytes
from partialsym.config.model import ModelConfig
from partialsym.errors import ConfigError, InputError
from partialsym.registry import LIFTED

MOST_RECORD = 2**20  # bytes
_OWN = {"group": str, "samples": int, "partial": bool, "proportional": bool}  # of a lifted network's settings


def record_path(given: str | Path) -> Path:
    """The model.json of a folder that `save_model` has written, of the folder of a run, or itself.

    Raises:
        ConfigError: it is none of these.
    """
    path = Path(given)
    for file in (path / "model.json", path / "model" / "model.json", path):
        if file.name == "model.json" and file.is_file():
            return file
    found = "is no saved model" if path.exists() else "does not exist"
    right = "a folder that ps.save_model has written, or the folder of a run; ps.lift converts a CNN of torch"
    raise ConfigError(f"{path} {found}: model.pretrained must be {right}.")


def lifted_settings(given: str | Path) -> dict[str, Any]:
    """All keys of `model` in the config of a lifted network, which is read from its file. {} for other networks.

    Raises:
        ConfigError: there is no such file, or it is damaged.
    """
    path = record_path(given)
    try:
        record = json.loads(read_bytes(path, MOST_RECORD))
        if record["model"] != LIFTED:
            return {}
        own = {key: record["settings"][key] for key in _OWN}
        own["partial"] = own["partial"] is True  # not so where the layers have the identity alone
        if wrong := [key for key, kind in _OWN.items() if not isinstance(own[key], kind)]:
            raise TypeError(f"{wrong[0]} is {own[wrong[0]]!r}")
        return asdict(ModelConfig(network=LIFTED, kernel="Grid", pretrained=str(given), **own))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (InputError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path} is not a model record ({error}).") from None


def check_lifted(config: ModelConfig) -> None:
    """Raise ConfigError at the first key that contradicts the lifted network of `pretrained`, or the lack of one."""
    held = lifted_settings(str(config.pretrained))
    if not held:
        if config.network == LIFTED:
            raise ConfigError(f"model.network is {LIFTED!r}: {config.pretrained} holds another network.")
        return
    for key, value in asdict(config).items():
        if key != "pretrained" and value != held[key]:
            right = f"left out, or {held[key]!r} as in the lifted network of {config.pretrained}"
            raise ConfigError(f"model.{key} is {value!r}: must be {right}.")
