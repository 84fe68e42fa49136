"""Models on disk: a folder of safetensors and JSON, no pickle."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from partialsym._utils.atomic import replace_file, replace_text
from partialsym._utils.limited_read import read_bytes
from partialsym.densities import Density
from partialsym.models.augerino import Augerino
from partialsym.models.round_trip import answers_otherwise, built_otherwise, learns_theta
from partialsym.nn.conv import HAAR_ROTATIONS
from partialsym.nn.frozen import FrozenConv
from partialsym.registry import NETWORKS

FORMAT = 2
RENAMED = {"classes": "num_classes", "learn": "learned_layers"}  # settings of format 1
_OWN = {"format", "model", "settings", "dtype", "weights", "sha256", "difference"}
COUNTS = ("width", "in_channels", "hidden", "num_classes", "kernel_size", "samples", "layers")
MOST_RECORD, MOST_WEIGHTS = 2**20, 2**30  # bytes
MOST_FEATURES = 2**25  # of the kernels' features at a time: a few seconds and some 100 MB
_DTYPES = {str(d).removeprefix("torch."): d for d in (torch.float32, torch.float64, torch.float16, torch.bfloat16)}


class StoreError(ValueError):
    """A model folder that cannot be read; the message names the file and says what is wrong."""


def save_model(model: nn.Module, folder: str | Path, *, altered: str | None = None, **about: Any) -> None:
    """Write `folder/model.json` and the weights it names, if `load_model` gives back what was given.

    The network is made anew from its settings and compared with the one given: modules, their attributes, parameters
    and buffers, and the answers to one image in eval mode. A new `classifier = nn.Linear(…, classes)`, the choice of
    `set_proportional` and the dtype come back; whether parameters are frozen, and hooks that change nothing, do not.

    At any moment the folder holds the previous model or the new one, whole.

    Args:
        model: a GResNet, a GCNN13, a registered network, or an Augerino of one; in float32, float64, float16 or
            bfloat16, on any device.
        folder: made where it does not exist.
        altered: the name of a change that no settings describe. The weights are then kept even where the network would
            come back as another; the record says so, and `load_model` refuses it.
        about: plain values kept beside it, such as classes and normalisation.
    Raises:
        ValueError: the network would not come back as it is; the message names the first difference.
    """
    name = type(model).__name__
    for kind in (name, type(model.model).__name__) if isinstance(model, Augerino) else (name,):
        if kind not in (known := _classes()):
            raise ValueError(
                f"{kind} cannot be saved: must be one of {', '.join(known)}. Use its state_dict, or register it by "
                "partialsym.register_network."
            )
    if any(isinstance(module, FrozenConv) for module in model.modules()):
        raise ValueError(f"this {name} is frozen and cannot be saved: save the model it was made of, or export it.")
    if clash := _OWN & about.keys():
        raise ValueError(f"about has {sorted(clash)[0]!r}: that name is taken by the model record itself.")
    path, dtype = Path(folder) / "model.json", str(next(model.parameters()).dtype).removeprefix("torch.")
    record = {
        "format": FORMAT,
        "model": name,
        "settings": _settings(model),
        "dtype": dtype,
        "weights": "",
        "sha256": "",
    }
    record |= about if altered is None else about | {"altered": altered}
    record = json.loads(json.dumps(record))  # as it will be read
    with torch.device("cpu"):  # whatever the default is
        wrong = _lost(model, path, record)
    if wrong:
        if altered is None:
            undo = "undo that, or keep its state_dict beside the code that makes it"
            raise ValueError(f"this {name} would not come back as it is: {wrong}. Models are made of settings: {undo}.")
        record["difference"] = wrong
    weights = save({key: value.cpu().contiguous() for key, value in model.state_dict().items()})
    digest = hashlib.sha256(weights).hexdigest()
    file = path.with_name(f"weights-{digest[:12]}.safetensors")
    text = json.dumps(record | {"weights": file.name, "sha256": digest}, indent=1, ensure_ascii=False)
    replace_file(file, lambda path: path.write_bytes(weights))
    replace_text(path, text + "\n")
    for old in path.parent.glob("weights-*.safetensors"):
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
        if record["format"] not in (1, FORMAT):
            raise StoreError(f"{path} has format version {record['format']!r}; this version reads 1 and {FORMAT}.")
        if record["format"] == 1:
            record["settings"] = _migrated(record["settings"])
        name, settings, dtype = record["model"], record["settings"], _DTYPES[record["dtype"]]
        weights, digest = record["weights"], record["sha256"]
        if wrong := record.get("difference"):
            altered, said = record.get("altered"), " ".join(str(wrong).split())
            raise StoreError(f"{path} is of a network altered by {altered!r}: it cannot be rebuilt ({said}).")
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
    with _refused(path, name):
        model = _made(path, name, settings, dtype, len(data))
        model.load_state_dict(load(data))
    for key, value in model.state_dict().items():
        if not value.isfinite().all():
            raise StoreError(f"{path.parent / weights} has weights that are not finite, in {key}.")
    return model.eval(), record


def _migrated(settings: Any) -> Any:
    """Settings of format 1 under the names they have in format 2, those inside an Augerino too."""
    if not isinstance(settings, dict):
        return settings  # which is refused by name
    inside = {"settings": _migrated(settings["settings"])} if "settings" in settings else {}
    return {RENAMED.get(key, key): value for key, value in settings.items()} | inside


def _classes() -> dict[str, Callable[..., nn.Module]]:
    """As a saved model names them."""
    return {network.__name__: network for network in (*NETWORKS.values(), Augerino)}


def _settings(model: nn.Module) -> dict[str, Any]:
    """The arguments that make the network as it is now: with the classes of a new head, and what `set_proportional`
    chose for its learned densities, if that is one for all."""
    if isinstance(model, Augerino):
        inside = {"model": type(model.model).__name__, "settings": _settings(model.model)}
        return {**model.settings, **inside, "proportional": model.density.proportional}
    settings = dict(model.settings)  # type: ignore[arg-type]
    if isinstance(head := getattr(model, "classifier", None), nn.Linear):
        settings["num_classes"] = head.out_features
    chosen = {m.proportional for m in model.modules() if isinstance(m, Density) and learns_theta(m)}
    return settings | {"proportional": chosen.pop()} if len(chosen) == 1 else settings


def _lost(model: nn.Module, path: Path, record: dict[str, Any]) -> str | None:
    """What of a model its record and its weights do not bring back, in words, or None."""
    state = model.state_dict()
    size = sum(value.nbytes for value in state.values())
    if record["dtype"] not in _DTYPES:
        return f"its weights are {record['dtype']}, and must be {', '.join(_DTYPES)}"
    if size > MOST_WEIGHTS:
        return f"its weights have {size:,} bytes, and at most {MOST_WEIGHTS:,} are read"
    for key, value in state.items():
        if value.is_meta or not value.isfinite().all():
            return f"{key} has {'no values, on the meta device' if value.is_meta else 'values that are not finite'}"
    name, settings = record["model"], record["settings"]
    with _refused(path, name), torch.random.fork_rng(devices=()):
        again = _made(path, name, settings, _DTYPES[record["dtype"]], size)
    if wrong := built_otherwise(model, again):
        return wrong
    again.load_state_dict(state)
    inside = settings.get("settings") or settings
    kernel_size, pools = inside.get("kernel_size", 7), inside.get("pools", "12")
    side = (kernel_size + 1) * 2 ** len(pools)  # even all the way, and then a kernel
    images = torch.randn(1, inside["in_channels"], side, side, generator=torch.Generator().manual_seed(0))
    return answers_otherwise(model, again, images)


def _made(path: Path, name: object, settings: object, dtype: torch.dtype, size: int) -> nn.Module:
    """The model of a record, with fresh weights; of 16 bits made in 32, which some of its sums need.

    Raises:
        StoreError: settings of a larger network than weights of `size` bytes are of; and as `rebuild` does.
    """
    _check_size(path, settings, size, dtype.itemsize)
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.promote_types(dtype, torch.float32))  # constants cannot be widened afterwards
        return rebuild(path, name, settings).to(dtype)
    finally:
        torch.set_default_dtype(default)


@contextmanager
def _refused(path: Path, name: object) -> Iterator[None]:
    """What a foreign record or foreign weights make a constructor raise, as a StoreError."""
    try:
        yield
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


def _check_size(path: Path, settings: object, size: int, each: int) -> None:
    """Raise StoreError, before anything is made, where settings ask for more than weights of `size` bytes, `each` a
    number, can hold, or for a network that takes minutes and gigabytes to be made."""
    if not isinstance(settings, dict):
        return  # which is refused by name
    _check_size(path, settings.get("settings"), size, each)
    options = settings.get("kernel_options")
    given = {**settings, **(options if isinstance(options, dict) else {})}
    counts = {key: given.get(key) or 1 for key in COUNTS}
    for key, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise StoreError(f"{path} has {key} = {value!r}: must be a whole number, at least 1.")
    width, into, hidden, classes, kernel_size, samples, layers = counts.values()
    if each * width * max(hidden * max(width, into), classes) > size:
        raise StoreError(f"{path} is of a larger network than weights of {size:,} bytes are of.")
    finite = re.fullmatch(r"([CD])(\d{1,4})", str(settings.get("group")))
    elements = max(samples, HAAR_ROTATIONS, int(finite[2]) * (2 if finite[1] == "D" else 1) if finite else 1)
    if elements**2 * kernel_size**2 * hidden * layers > MOST_FEATURES:
        why = f"kernels of {elements} elements, {kernel_size}×{kernel_size} pixels and {hidden} features"
        raise StoreError(f"{path} is of a network with {why}: too large to be made.")


def rebuild(path: Path, name: object, settings: object) -> nn.Module:
    """The model of a record, with fresh weights; an Augerino's settings hold the name and settings of what is inside.

    Raises:
        StoreError: a name that is not registered, an Augerino in another, or settings that are no dict.
        Exception: whatever the constructor raises at settings that do not fit.
    """
    classes = _classes()
    if not isinstance(name, str) or name not in classes:
        raise StoreError(f"{path} names the model {name!r}: must be one of {', '.join(classes)}.")
    if not isinstance(settings, dict):
        raise StoreError(f"{path} has the settings {settings!r} of {name}: must be a dict.")
    if classes[name] is not Augerino:
        return classes[name](**settings)
    rest = {key: value for key, value in settings.items() if key not in ("model", "settings")}
    if settings.get("model") == name:  # before it recurses
        raise StoreError(f"{path} has an Augerino in an Augerino: one is enough.")
    return Augerino(rebuild(path, settings.get("model"), settings.get("settings")), **rest)
