"""The network of an experiment that starts from the weights of a saved one."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from partialsym.config import ConfigError, ModelConfig
from partialsym.config.pretrained import check_lifted, record_path
from partialsym.data import Dataset
from partialsym.errors import InputError
from partialsym.inference import evaluating
from partialsym.lifting import Lifted
from partialsym.models.augerino import Augerino
from partialsym.models.saving import load_model, settings_of
from partialsym.runs.run import Run

log = logging.getLogger(__name__)


def starting(run: Run, config: ModelConfig) -> ModelConfig:
    """`config` with the run's own copy of the pretrained model, where the run has one.

    Raises:
        ConfigError: that is another than the one that the config names.
    """
    if config.pretrained is None or not run.pretrained.is_file():
        return config
    held, given = run.pretrained, Path(config.pretrained)
    if given.exists() and fingerprint(record_path(given)) != fingerprint(held):
        raise ConfigError(f"{run.folder} has started from another model than {given} is now: cannot resume.")
    return replace(config, pretrained=str(held))


def fingerprint(record: Path) -> str:
    """The sha256 of a model's record, which holds that of its weights."""
    return hashlib.sha256(record.read_bytes()).hexdigest()


def load_pretrained(config: ModelConfig) -> tuple[nn.Module, dict[str, Any]]:
    """The model that a config starts from, in float32 and train mode, and its record.

    Raises:
        ConfigError: there is none, or a lifted network that other keys of the config contradict.
        StoreError: it cannot be read.
    """
    check_lifted(config)
    model, record = load_model(record_path(str(config.pretrained)).parent)
    return model.float().train(), record


def pretrained_network(
    config: ModelConfig, channels: int, num_classes: int, make: Callable[[], nn.Module]
) -> nn.Module:
    """The network of a config with the weights of its pretrained model; the last layer is new if it has other classes.

    Args:
        make: makes the network of the config, if that is no lifted one, with fresh weights.
    Raises:
        ConfigError: the model is for other channels, answers per pixel, or has other settings than the config.
    """
    held, record = load_pretrained(config)
    inside = held.model if isinstance(held, Augerino) else held
    into = settings_of(inside).get("in_channels", channels)
    if into != channels:
        raise ConfigError(
            f"{config.pretrained} takes images with {into} channel{'s' * (into != 1)}, but those of data have "
            f"{channels}: for own images, give --data.channels {into}."
        )
    model = _lifted(held, config, num_classes) if isinstance(held, Lifted) else _alike(held, record, config, make())
    log.info("training starts from the weights of %s", config.pretrained)
    return model


def normalised_alike(data: Dataset, record: Mapping[str, Any]) -> Dataset:
    """The data with the mean and std of the pretrained model's record, which its weights expect, if it has them."""
    if "mean" not in record or "std" not in record:
        return data
    try:
        return replace(data, mean=tuple(record["mean"]), std=tuple(record["std"]))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"the pretrained model was saved with an invalid mean or std: {error}") from None


@torch.no_grad()
def _lifted(held: Lifted, config: ModelConfig, num_classes: int) -> Lifted:
    """The lifted network with logits of `num_classes` classes as its answers."""
    if held.output == "maps":
        raise ConfigError(f"{config.pretrained} answers pixel by pixel: train it in a loop of your own.")
    with evaluating(held):
        classes = held(torch.zeros(1, held.in_channels, *held.settings["size"])).shape[1]
    if classes != num_classes:
        try:
            model = held.with_head(num_classes)
        except InputError as error:
            raise ConfigError(
                f"{config.pretrained} has {classes} classes, and the data have {num_classes}: {error}"
            ) from None
        _say_new(classes, num_classes)
        return model
    held.output = held.settings["output"] = "vector"  # the loss takes logits
    return held


def _alike(held: nn.Module, record: Mapping[str, Any], config: ModelConfig, model: nn.Module) -> nn.Module:
    """`model` with the weights of `held`, which must be built alike but for the classes."""
    kind, found = type(model).__name__, str(record["model"])
    if kind != found:
        raise ConfigError(f"the keys of model make a {kind}: {config.pretrained} holds a {found}.")
    own, theirs = (_flat(settings_of(network)) for network in (model, held))
    for key in sorted(own.keys() | theirs.keys()):
        if key != "num_classes" and own.get(key) != theirs.get(key):
            right = f"{theirs.get(key)!r}, as in {config.pretrained}"
            raise ConfigError(f"model.{key} is {own.get(key)!r}: must be {right}.")
    state, fresh = held.state_dict(), model.state_dict()
    new = [key for key, value in fresh.items() if state[key].shape != value.shape]
    model.load_state_dict(state | {key: fresh[key] for key in new})
    if new:
        _say_new(theirs["num_classes"], own["num_classes"])
    return model


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as a record stores them; for an Augerino, those of its network are included."""
    plain = json.loads(json.dumps(settings))
    return plain | plain.pop("settings", {})


def _say_new(before: object, now: object) -> None:
    log.info("the last layer is new: it has %s classes, and that of the pretrained model has %s", now, before)
