"""Models on disk: a folder of safetensors and JSON, no pickle."""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from partialsym.files import replace_file, replace_text
from partialsym.models import MODELS

FORMAT = 1


class StoreError(ValueError):
    """A model folder that cannot be read; the message names the file and says what is wrong."""


def save_model(model: nn.Module, folder: str | Path, **about: Any) -> None:
    """Write `folder/model.json` and the weights it names.

    At any moment the folder holds the previous model or the new one, whole.

    Args:
        model: one of `partialsym.models.MODELS`.
        folder: made where it does not exist.
        about: plain values kept beside it, such as classes and normalisation.
    """
    name = type(model).__name__
    if name not in MODELS:
        raise ValueError(f"{name} cannot be saved: must be one of {', '.join(MODELS)}. Use its state_dict instead.")
    folder = Path(folder)
    weights = save({key: value.contiguous() for key, value in model.state_dict().items()})
    digest = hashlib.sha256(weights).hexdigest()
    file = folder / f"weights-{digest[:12]}.safetensors"
    replace_file(file, lambda path: path.write_bytes(weights))
    settings: Any = model.settings
    record = {"format": FORMAT, "model": name, "settings": settings, "weights": file.name, "sha256": digest, **about}
    replace_text(folder / "model.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    for old in folder.glob("weights-*.safetensors"):
        if old != file:
            old.unlink()


def load_model(folder: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """The model of a folder, in eval mode, and its record.

    Raises:
        FileNotFoundError: there is no model in the folder.
        StoreError: another format version, damaged or foreign files.
    """
    path = Path(folder) / "model.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no model: there is no model.json in it.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        version, name, settings = record["format"], record["model"], record["settings"]
        weights, digest = record["weights"], record["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is not a model record ({error}).") from None
    if version != FORMAT:
        raise StoreError(f"{path} has format version {version!r}; this version of partialsym reads {FORMAT}.")
    if name not in MODELS:
        raise StoreError(f"{path} names the model {name!r}: must be one of {', '.join(MODELS)}.")
    if Path(str(weights)).name != weights or not (path.parent / weights).is_file():
        raise StoreError(f"{path} names the weights {weights!r}: no such file beside it.")
    data = (path.parent / weights).read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise StoreError(f"{path.parent / weights} is damaged: its sha256 is {found}, expected {digest}.")
    try:
        model = MODELS[name](**settings)
        model.load_state_dict(load(data))
    except (TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise StoreError(f"{path.parent} does not fit {name}: {' '.join(str(error).split())}") from None
    return model.eval(), record
