"""Models on disk: a folder of safetensors and JSON, no pickle."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from partialsym.bounded import read_bytes
from partialsym.conv import HAAR_ROTATIONS
from partialsym.files import replace_file, replace_text
from partialsym.freezing import FrozenConv
from partialsym.models import MODELS, Augerino

FORMAT = 1
_OWN = {"format", "model", "settings", "dtype", "weights", "sha256"}
COUNTS = ("width", "in_channels", "hidden", "classes", "kernel_size", "samples", "layers")
MOST_RECORD, MOST_WEIGHTS = 2**20, 2**30  # bytes
MOST_FEATURES = 2**25  # of the kernels' features at a time: a few seconds and some 100 MB
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


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
    for kind in (name, type(model.model).__name__) if isinstance(model, Augerino) else (name,):
        if kind not in MODELS:
            raise ValueError(f"{kind} cannot be saved: must be one of {', '.join(MODELS)}. Use its state_dict instead.")
    if any(isinstance(module, FrozenConv) for module in model.modules()):
        raise ValueError(f"this {name} is frozen and cannot be saved: save the model it was made of, or export it.")
    if clash := _OWN & about.keys():
        raise ValueError(f"about has {sorted(clash)[0]!r}: that name is taken by the model record itself.")
    folder = Path(folder)
    weights = save({key: value.contiguous() for key, value in model.state_dict().items()})
    _check_size(folder / "model.json", model.settings, len(weights))  # what could not be loaded is not saved
    digest = hashlib.sha256(weights).hexdigest()
    file = folder / f"weights-{digest[:12]}.safetensors"
    record = {
        "format": FORMAT,
        "model": name,
        "settings": model.settings,
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "weights": file.name,
        "sha256": digest,
        **about,
    }
    text = json.dumps(record, indent=1, ensure_ascii=False)  # before anything is written
    replace_file(file, lambda path: path.write_bytes(weights))
    replace_text(folder / "model.json", text + "\n")
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
        record = json.loads(read_bytes(path, MOST_RECORD))
        if record["format"] != FORMAT:
            raise StoreError(f"{path} has format version {record['format']!r}; this version reads {FORMAT}.")
        name, settings, dtype = record["model"], record["settings"], _DTYPES[record["dtype"]]
        weights, digest = record["weights"], record["sha256"]
    except StoreError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"{path} is not a model record ({error}).") from None
    if Path(str(weights)).name != weights or not (path.parent / weights).is_file():
        raise StoreError(f"{path} names the weights {weights!r}: no such file beside it.")
    try:
        data = read_bytes(path.parent / weights, MOST_WEIGHTS)
    except ValueError as error:
        raise StoreError(str(error)) from None
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise StoreError(f"{path.parent / weights} is damaged: its sha256 is {found}, expected {digest}.")
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)  # the constants of a group cannot be widened afterwards
        _check_size(path, settings, len(data))
        model = rebuild(path, name, settings)
        model.load_state_dict(load(data))
    except StoreError:
        raise
    except (
        TypeError,
        ValueError,
        RuntimeError,
        ArithmeticError,
        AttributeError,
        LookupError,
        SafetensorError,
    ) as error:
        raise StoreError(f"{path.parent} does not fit {name}: {' '.join(str(error).split())}") from None
    finally:
        torch.set_default_dtype(default)
    for key, value in model.state_dict().items():
        if not value.isfinite().all():
            raise StoreError(f"{path.parent / weights} has weights that are not finite, in {key}.")
    return model.eval(), record


def _check_size(path: Path, settings: object, size: int) -> None:
    """Raise StoreError, before anything is made, where settings ask for more than weights of `size` bytes can hold, or
    for a network that takes minutes and gigabytes to be made."""
    if not isinstance(settings, dict):
        return  # which is refused by name
    _check_size(path, settings.get("settings"), size)
    options = settings.get("kernel_options")
    given = {**settings, **(options if isinstance(options, dict) else {})}
    counts = {key: given.get(key) or 1 for key in COUNTS}
    for key, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise StoreError(f"{path} has {key} = {value!r}: must be a whole number, at least 1.")
    width, into, hidden, classes, kernel_size, samples, layers = counts.values()
    if 4 * width * max(hidden * max(width, into), classes) > size:
        raise StoreError(f"{path} is of a larger network than weights of {size:,} bytes are of.")
    finite = re.fullmatch(r"([CD])(\d{1,4})", str(settings.get("group")))
    elements = max(samples, HAAR_ROTATIONS, int(finite[2]) * (2 if finite[1] == "D" else 1) if finite else 1)
    if elements**2 * kernel_size**2 * hidden * layers > MOST_FEATURES:
        why = f"kernels of {elements} elements, {kernel_size}×{kernel_size} pixels and {hidden} features"
        raise StoreError(f"{path} is of a network with {why}: too large to be made.")


def rebuild(path: Path, name: object, settings: object) -> nn.Module:
    """The model of a record, with fresh weights; an Augerino's settings hold the name and settings of what is inside.

    Raises:
        StoreError: a name that is none of MODELS, an Augerino in another, or settings that are no dict.
        Exception: whatever the constructor raises at settings that do not fit.
    """
    if not isinstance(name, str) or name not in MODELS:
        raise StoreError(f"{path} names the model {name!r}: must be one of {', '.join(MODELS)}.")
    if not isinstance(settings, dict):
        raise StoreError(f"{path} has the settings {settings!r} of {name}: must be a dict.")
    if MODELS[name] is not Augerino:
        return MODELS[name](**settings)
    rest = {key: value for key, value in settings.items() if key not in ("model", "settings")}
    if settings.get("model") == name:  # before it recurses
        raise StoreError(f"{path} has an Augerino in an Augerino: one is enough.")
    return Augerino(rebuild(path, settings.get("model"), settings.get("settings")), **rest)
