"""One experiment: data, model, training, trainer and seed, as one validated tree."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from partialsym._utils.validation import check
from partialsym.config.data import DataConfig
from partialsym.config.model import ModelConfig
from partialsym.config.trainer import TrainerConfig
from partialsym.config.training import TrainingConfig
from partialsym.errors import ConfigError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


@dataclass(frozen=True)
class Experiment:
    """One experiment: data, model, training, trainer and seed.

    Args:
        name: name of the run; its folder is OUT/NAME/seed<seed>.
        seed: seed of everything random.
        data: the images. If the name is left out, it is filled in.
        model: the network. Settings that are left out become the defaults of the network.
        training: the training.
        trainer: the machines and processes.
    """

    name: str
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        plain = re.fullmatch(r"[\w][\w.+-]*(/[\w][\w.+-]*)*", self.name) is not None
        check("name", self.name, plain, "letters, digits and .+-_ in one or more folders")
        check("seed", self.seed, 0 <= self.seed < 2**32, "in [0, 2³²)")
        size, processes = self.training.batch_size, self.trainer.processes
        check("training.batch_size", size, size % processes == 0, f"a multiple of {processes}, the number of processes")
        compile = self.training.compile
        good = compile != "always" or processes == 1
        check("training.compile", compile, good, "auto or never: the steps of several processes are not compiled")
        object.__setattr__(self, "data", self.data.complete())
        # last, because the checks must distinguish defaults from choices
        object.__setattr__(self, "model", self.model.complete())

    def to_dict(self) -> dict[str, Any]:
        """The experiment as dicts, lists and scalars, as in config.yaml."""
        return _plain(asdict(self))

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> "Experiment":
        """The inverse of `to_dict`.

        Raises:
            ConfigError: unknown keys, wrong types, values out of range.
        """
        check_keys(cls, tree)
        parser = _parser()
        try:
            return cls(**vars(parser.instantiate(parser.parse_object(dict(tree)))))
        except ConfigError:
            raise
        except Exception as error:  # jsonargparse raises several kinds
            raise ConfigError(" ".join(str(error).split())) from None


@cache
def _parser() -> "ArgumentParser":
    """The parser; it is cached, because building it takes as long as parsing."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Experiment)
    return parser


def keys_of(cls: type) -> Iterator[str]:
    """The dotted keys of a config class."""
    for f in fields(cls):
        default = f.default_factory if f.default_factory is not dict else None
        if is_dataclass(default):
            yield from (f"{f.name}.{key}" for key in keys_of(default))
        else:
            yield f.name


def check_keys(cls: type, tree: Mapping[str, Any], prefix: str = "") -> None:
    """Raise ConfigError for the first key of `tree` that the class does not have; it names the nearest valid key."""
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{prefix.rstrip('.') or 'the config'} is {tree!r}: must be a mapping of keys to values.")
    nested: dict[str, Any] = {f.name: f.default_factory for f in fields(cls) if is_dataclass(f.default_factory)}
    for key, value in tree.items():
        if key not in {f.name for f in fields(cls)}:
            raise ConfigError(unknown_key(f"{prefix}{key}"))
        if key in nested:
            check_keys(nested[key], value, f"{prefix}{key}.")


def unknown_key(key: str, valid: Sequence[str] = ()) -> str:
    """The error message for an invalid key; the valid ones are by default those of an experiment."""
    valid = list(valid or keys_of(Experiment))
    near = difflib.get_close_matches(key, valid, 1, 0.5) or [k for k in valid if k.endswith("." + key.split(".")[-1])]
    return f"unknown key {key!r}" + (f": did you mean {near[0]!r}?" if near else f"; valid keys: {', '.join(valid)}.")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value
