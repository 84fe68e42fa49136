"""Saved models: a folder with safetensors and JSON, without pickle."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from partialsym._utils.atomic import replace_file, replace_text
from partialsym._utils.limited_read import read_bytes
from partialsym.densities import Density
from partialsym.errors import InputError
from partialsym.lifting.network import Lifted
from partialsym.models.augerino import Augerino
from partialsym.models.round_trip import answers_otherwise, built_otherwise, described, learns_theta
from partialsym.nn.conv import GroupConv
from partialsym.nn.frozen import FrozenConv
from partialsym.nn.local import LocalConv
from partialsym.registry import DENSE_NETWORKS, NETWORKS

FORMAT = 2
RENAMED = {"classes": "num_classes", "learn": "learned_layers"}  # settings of format 1 → present names
_OWN = {"format", "model", "settings", "dtype", "weights", "sha256", "difference"}
MOST_RECORD, MOST_WEIGHTS = 2**20, 2**30  # bytes
MOST_FEATURES = 2**25  # kernel features that a layer computes at construction: a few seconds and some 100 MB
MOST_ELEMENTS, MOST_PIXELS = 1024, 511  # of a finite group, and across a kernel: far more than in practice
_DTYPES = {str(d).removeprefix("torch."): d for d in (torch.float32, torch.float64, torch.float16, torch.bfloat16)}


class StoreError(InputError):
    """A model folder cannot be read; the message names the file and says what is wrong."""


def save_model(model: nn.Module, folder: str | Path, *, altered: str | None = None, **about: Any) -> None:
    """Write a model to `folder/model.json` and a file of weights, provided that `load_model` can restore it.

    The function first rebuilds the network from its settings and compares it with the given one: modules and their
    attributes, parameters, buffers, and the outputs for one image in eval mode. `load_model` restores a new
    `classifier = nn.Linear(…, num_classes)`, the choice of `set_proportional` and the dtype. It does not restore
    `requires_grad` or hooks that change nothing.

    At any moment the folder contains the whole previous model or the whole new one.

    Args:
        model: a network of `partialsym.models`, a lifted or a registered one, or an Augerino of one; in float32,
            float64, float16 or bfloat16, on any device.
        folder: created if it does not exist.
        altered: name of a change that the settings do not describe. The weights are then saved even if the network
            cannot be rebuilt; the record says so, and `load_model` refuses it.
        about: plain values that the record contains, too, such as classes and normalisation.
    Raises:
        ValueError: `load_model` would not restore the network; the message names the first difference.
    """
    name = type(model).__name__
    for kind in (name, type(model.model).__name__) if isinstance(model, Augerino) else (name,):
        if kind not in (known := _classes()):
            raise InputError(
                f"{kind} cannot be saved: must be one of {', '.join(known)}. Save its state_dict, or register the "
                "class with partialsym.register_network."
            )
    if any(isinstance(module, FrozenConv) for module in model.modules()):
        raise InputError(f"this {name} is frozen and cannot be saved: save the model before freezing, or export it.")
    if clash := _OWN & about.keys():
        raise InputError(f"about has {sorted(clash)[0]!r}: the model record uses that name itself.")
    path, dtype = Path(folder) / "model.json", str(next(model.parameters()).dtype).removeprefix("torch.")
    record = {
        "format": FORMAT,
        "model": name,
        "settings": settings_of(model),
        "dtype": dtype,
        "weights": "",
        "sha256": "",
    }
    record |= about if altered is None else about | {"altered": altered}
    record = json.loads(json.dumps(record))  # as load_model reads it
    with torch.device("cpu"):  # not the default device
        wrong = _lost(model, path, record)
    if wrong:
        if altered is None:
            undo = "undo the change, or save its state_dict with the code that builds it"
            raise InputError(f"load_model would not restore this {name}: {wrong}. It uses the settings only: {undo}.")
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


def copy_model(record: Path, folder: Path) -> None:
    """Copy a model to another folder, the weights before the record; errors are those of `load_model`."""
    weights = str(_record(record)["weights"])
    if Path(weights).name != weights:
        raise StoreError(f"{record} names the weights file {weights!r}: there is no such file beside it.")
    content = read_bytes(record, MOST_RECORD)
    replace_file(folder / weights, lambda path: shutil.copyfile(record.with_name(weights), path))
    replace_file(folder / record.name, lambda path: path.write_bytes(content))


def load_model(folder: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Load a model from a folder.

    Args:
        folder: a folder that `save_model` has written, or the folder of a run, which contains one as `model`.
    Returns:
        The model in eval mode, and its record.
    Raises:
        FileNotFoundError: there is no model in the folder.
        StoreError: the files have another format version, or are damaged or foreign.
    """
    path = Path(folder) / "model.json"
    if not path.is_file() and (of_run := path.parent / "model" / path.name).is_file():
        path = of_run
    if not path.is_file():
        raise FileNotFoundError(f"{folder} contains no model: there is no model.json in it, nor in its folder `model`.")
    record = _record(path)
    with _refused(path, record["model"]):
        weights = _weights(path, record)
        _check_fit(path, record, weights)
        model = _made(path, record)
        model.load_state_dict(weights)
    for key, value in model.state_dict().items():
        if not value.isfinite().all():
            raise StoreError(f"{path.parent / record['weights']} has weights that are not finite, in {key}.")
    return model.eval(), record


def _record(path: Path) -> dict[str, Any]:
    """The record of a model that can be rebuilt, with its settings under their present names."""
    try:
        record = json.loads(read_bytes(path, MOST_RECORD))
        if record["format"] not in (1, FORMAT):
            raise StoreError(f"{path} has format version {record['format']!r}; this version reads 1 and {FORMAT}.")
        if record["format"] == 1:
            record["settings"] = _migrated(record["settings"])
        _ = record["model"], record["settings"], record["weights"], record["sha256"], _DTYPES[record["dtype"]]
        wrong = record.get("difference")
    except StoreError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"{path} is not a model record ({error}).") from None
    if wrong:
        altered, said = record.get("altered"), " ".join(str(wrong).split())
        raise StoreError(f"{path} has a network altered by {altered!r}: it cannot be rebuilt ({said}).")
    return record


def _weights(path: Path, record: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors in the file that a record names; safetensors refuses sizes that the file does not contain."""
    name = record["weights"]
    if Path(str(name)).name != name or not (file := path.parent / name).is_file():
        raise StoreError(f"{path} names the weights file {name!r}: there is no such file beside it.")
    try:
        data = read_bytes(file, MOST_WEIGHTS)
    except ValueError as error:
        raise StoreError(str(error)) from None
    found = hashlib.sha256(data).hexdigest()
    if found != record["sha256"]:
        raise StoreError(f"{file} is damaged: its sha256 is {found}, expected {record['sha256']}.")
    return load(data)


def _migrated(settings: Any) -> Any:
    """Settings of format 1 under their names in format 2, including those inside an Augerino."""
    if not isinstance(settings, dict):
        return settings  # `rebuild` refuses it
    inside = {"settings": _migrated(settings["settings"])} if "settings" in settings else {}
    return {RENAMED.get(key, key): value for key, value in settings.items()} | inside


def _classes() -> dict[str, Callable[..., nn.Module]]:
    """The classes of networks by the names in saved models; a preset has the name of its class."""
    every = (*NETWORKS.values(), *DENSE_NETWORKS.values(), Augerino, Lifted)
    classes = (network.func if isinstance(network, partial) else network for network in every)
    return {network.__name__: network for network in classes}


def settings_of(model: nn.Module) -> dict[str, Any]:
    """The arguments that build the network in its present state.

    They include the number of classes of a new head, and the choice of `set_proportional` if all learned densities
    have the same.
    """
    if isinstance(model, Augerino):
        inside = {"model": type(model.model).__name__, "settings": settings_of(model.model)}
        return {**model.settings, **inside, "proportional": model.density.proportional}
    settings = dict(model.settings)  # type: ignore[arg-type]
    if isinstance(head := getattr(model, "classifier", None), nn.Linear):
        settings["num_classes"] = head.out_features
    chosen = {m.proportional for m in model.modules() if isinstance(m, Density) and learns_theta(m)}
    return settings | {"proportional": chosen.pop()} if len(chosen) == 1 else settings


def _lost(model: nn.Module, path: Path, record: dict[str, Any]) -> str | None:
    """What the record and the weights would not restore, in words; None if they restore the whole model."""
    state = model.state_dict()
    size = sum(value.nbytes for value in state.values())
    if record["dtype"] not in _DTYPES:
        return f"its weights are {record['dtype']}, and must be {', '.join(_DTYPES)}"
    if size > MOST_WEIGHTS:
        return f"its weights have {size:,} bytes, and load_model reads at most {MOST_WEIGHTS:,}"
    for key, value in state.items():
        if value.is_meta or not value.isfinite().all():
            return f"{key} has {'no values, on the meta device' if value.is_meta else 'values that are not finite'}"
    with _refused(path, record["model"]), torch.random.fork_rng(devices=()):
        _check_before(path, record["settings"], len(state))
        again = _made(path, record)
    if wrong := built_otherwise(model, again):
        return wrong
    _check_cost(path, again)
    again.load_state_dict(state)
    inside = record["settings"].get("settings") or record["settings"]
    kernel_size, pools = inside.get("kernel_size", 7), inside.get("pools", "12")
    side = (kernel_size + 1) * 2 ** len(pools)  # even before each pool, and a kernel fits after the last
    size = inside.get("size", (side, side))
    images = torch.randn(1, inside["in_channels"], *size, generator=torch.Generator().manual_seed(0))
    return answers_otherwise(model, again, images)


def _made(path: Path, record: dict[str, Any]) -> nn.Module:
    """The model of a record, with new weights; a 16-bit model is built in float32, which some sums need.

    Errors are those of `rebuild`.
    """
    dtype, default = _DTYPES[record["dtype"]], torch.get_default_dtype()
    try:
        torch.set_default_dtype(
            torch.promote_types(dtype, torch.float32)
        )  # .to() would not restore the constants' lost digits
        return rebuild(path, record["model"], record["settings"]).to(dtype)
    finally:
        torch.set_default_dtype(default)


@contextmanager
def _refused(path: Path, name: object) -> Iterator[None]:
    """A context that turns errors which foreign records or weights cause in a constructor into a StoreError."""
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
        said = shorten(str(error), 500, placeholder=" …")  # torch's messages can have pages
        raise StoreError(f"{path.parent} does not fit {name}: {said}") from None


def _check_fit(path: Path, record: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Raise StoreError if the network does not fit `weights` in names, shapes or dtypes, or is too expensive to build.

    The check builds the network on `meta`, so that it needs no memory.
    """
    _check_before(path, record["settings"], len(weights))
    _classes()  # imports other packages, whose own tensors must not be on `meta`
    with torch.device("meta"):
        network = _made(path, record)
    for key, value in network.state_dict().items():
        if key in weights and (found := described(weights[key])) != (expected := described(value)):
            raise StoreError(
                f"{path} does not fit its weights: {key} is {found} in the file, but {expected} in the network."
            )
    network.load_state_dict(weights, assign=True)  # refuses missing and unexpected keys
    _check_cost(path, network)


def _check_before(path: Path, settings: object, tensors: int) -> None:
    """Raise StoreError for settings that need much time or memory even on `meta`.

    Finite groups and the pixels of a kernel are computed on the CPU. Each layer of a kernel is a module with weights,
    so it cannot have more layers than `tensors`.
    """
    while isinstance(settings, dict):
        options = settings.get("kernel_options")
        finite = re.fullmatch(r"([CD])(\d{1,4})", str(settings.get("group")))
        order = int(finite[2]) * (2 if finite[1] == "D" else 1) if finite else 1
        for what, value, most in (
            ("a group of order", order, MOST_ELEMENTS),
            ("kernel_size", settings.get("kernel_size"), MOST_PIXELS),
            ("kernel_size", _largest_kernel(settings), MOST_PIXELS),
            ("layers", options.get("layers") if isinstance(options, dict) else 1, tensors),
        ):
            if isinstance(value, int | float) and value > most:
                raise StoreError(f"{path} has a network with {what} {value}: too large, must be at most {most}.")
        settings = settings.get("settings")  # those of the network inside an Augerino


def _largest_kernel(settings: dict[str, Any]) -> int | float:
    """Pixels per side of the largest kernel of a lifted network, including its margin."""
    steps, margin = settings.get("steps"), settings.get("margin")
    options = [step.get("options") for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    sizes = [given.get("kernel_size", 1) for given in options if isinstance(given, dict)]
    numbers = [size for size in sizes if isinstance(size, int | float)]
    return max(numbers, default=0) + 2 * (margin if isinstance(margin, int | float) else 0)


def _check_cost(path: Path, model: nn.Module) -> None:
    """Raise StoreError if the kernels of a network have too many features.

    The weights do not show on how many elements and pixels a layer evaluates its kernel.
    """
    for conv in (module for module in model.modules() if isinstance(module, GroupConv)):
        elements = max(len(conv.domain_grid), conv.codomain.samples if conv.codomain else 1)
        hidden, layers = conv.kernel.linear.in_features, sum(isinstance(m, nn.Linear) for m in conv.kernel.modules())
        pairs = elements if isinstance(conv, LocalConv) else elements**2
        if pairs * len(conv.taps) * hidden * layers > MOST_FEATURES:
            why = f"kernels of {elements} elements, {conv.kernel_size}×{conv.kernel_size} pixels and {hidden} features"
            raise StoreError(f"{path} has a network with {why}: too large to build.")


def rebuild(path: Path, name: object, settings: object) -> nn.Module:
    """Build the model of a record, with new weights.

    The settings of an Augerino contain the name and the settings of the network inside it.

    Raises:
        StoreError: the name is not registered, an Augerino contains another, or settings are not a dict.
        Exception: whatever the constructor raises for invalid settings.
    """
    classes = _classes()
    if not isinstance(name, str) or name not in classes:
        raise StoreError(f"{path} names the model {name!r}: must be one of {', '.join(classes)}.")
    if not isinstance(settings, dict):
        raise StoreError(f"{path} has the settings {settings!r} of {name}: must be a dict.")
    if classes[name] is not Augerino:
        return classes[name](**settings)
    rest = {key: value for key, value in settings.items() if key not in ("model", "settings")}
    if settings.get("model") == name:  # this would recurse
        raise StoreError(f"{path} has an Augerino in an Augerino: must have a single one.")
    return Augerino(rebuild(path, settings.get("model"), settings.get("settings")), **rest)
