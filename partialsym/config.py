"""What an experiment is: one typed, validated tree. Imports neither torch nor lightning."""

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

from partialsym.checks import ConfigError, check, one_of

GROUPS = ("T2", "Mirror", "SE2", "E2")  # and C<n>, D<n>
KERNELS = ("SIREN", "MLP", "Fourier", "Gabor", "MAGNet")
DATASETS = ("digits-6-180", "digits-6-M", "MNIST", "MNIST6-180", "MNIST6-M")
NETWORKS = ("ResNet", "CNN13")
PLACES = ("lifting", "block1", "block2")
_OWN: dict[str, dict[str, Any]] = {  # what each network takes where a config leaves it out
    "ResNet": {"width": 10, "kernel_size": 7, "hidden": 32, "pools": ("lifting", "block1"), "dropout": 0.0},
    "CNN13": {"width": 128, "kernel_size": 3, "hidden": 8, "dropout": 0.3},
}


@dataclass(frozen=True)
class DataConfig:
    """The images.

    Args:
        name: digits-6-180, digits-6-M (embedded), MNIST, MNIST6-180 or MNIST6-M.
        root: directory that holds mnist.npz or the official idx files; else PARTIALSYM_DATA, else a download.
        validation: share of the training originals held out for validation, in (0, 0.5].
        split_seed: seed of that split; the same for every training seed, so that seeds differ in training alone.
    """

    name: str = "MNIST6-180"
    root: str | None = None
    validation: float = 0.1
    split_seed: int = 0

    def __post_init__(self) -> None:
        one_of("data.name", self.name, DATASETS)
        check("data.validation", self.validation, 0 < self.validation <= 0.5, "in (0, 0.5]")
        check("data.split_seed", self.split_seed, self.split_seed >= 0, "at least 0")


@dataclass(frozen=True)
class ModelConfig:
    """The network: see partialsym.GResNet and GCNN13.

    Args:
        group: T2, Mirror, SE2, E2, C<n> or D<n>.
        network: ResNet or CNN13, the 13-layer CNN.
        partial: learn which part of the group each layer keeps.
        samples: group elements of every layer; default 8, or all of a finite group.
        width: channels after lifting; default 10, CNN13 128.
        kernel_size: pixels, odd; default 7, CNN13 3.
        kernel: SIREN, MLP, Fourier, Gabor or MAGNet.
        hidden: features of the kernel network; default 32, CNN13 8.
        kernel_options: other arguments of the kernel network, such as {omega0: 10}.
        pools: of the ResNet: where 2×2 maxima are taken, of lifting, block1, block2; default lifting and block1.
        dropout: in [0, 1); default 0, CNN13 0.3.
        sampling: systematic or iid.
        proportional: evaluate on ceil(r·theta) rotations instead of r.
    """

    group: str = "SE2"
    network: str = "ResNet"
    partial: bool = True
    samples: int | None = None
    width: int | None = None
    kernel_size: int | None = None
    kernel: str = "SIREN"
    hidden: int | None = None
    kernel_options: dict[str, int | float | str] = field(default_factory=dict)
    pools: tuple[str, ...] | None = None
    dropout: float | None = None
    sampling: Literal["systematic", "iid"] = "systematic"
    proportional: bool = False

    def __post_init__(self) -> None:
        if self.group not in GROUPS and not re.fullmatch(r"[CD][1-9]\d{0,3}", self.group):
            near = [name for name in GROUPS if name.lower() == self.group.lower()]
            hint = f" Did you mean {near[0]!r}?" if near else ""
            check("model.group", self.group, False, f"one of {', '.join(GROUPS)}, C<n> or D<n>", hint)
        one_of("model.network", self.network, NETWORKS)
        one_of("model.kernel", self.kernel, KERNELS)
        free = "pools" in _OWN[self.network] or self.pools is None
        check("model.pools", self.pools, free, f"left out: the places of its pools are part of the {self.network}")
        for place in self.pools or ():
            one_of("model.pools", place, PLACES)
        for name in ("samples", "width", "hidden"):
            value = getattr(self, name)
            check(f"model.{name}", value, value is None or value >= 1, "at least 1")
        odd = self.kernel_size is None or (self.kernel_size >= 1 and self.kernel_size % 2 == 1)
        check("model.kernel_size", self.kernel_size, odd, "odd and positive, so that the kernel has a centre")
        check("model.dropout", self.dropout, self.dropout is None or 0 <= self.dropout < 1, "in [0, 1)")

    def complete(self) -> "ModelConfig":
        """With what its network takes where a setting is left out."""
        return replace(self, **{key: value for key, value in _OWN[self.network].items() if getattr(self, key) is None})


@dataclass(frozen=True)
class TrainingConfig:
    """How it is trained.

    Args:
        epochs: passes over the training split.
        batch_size: images a step.
        lr: learning rate of Adam; the peak of a schedule.
        density_lr: learning rate of the densities (theta and logits); default lr.
        schedule: constant, cosine (to 1e-3 of the peak) or one-cycle.
        warmup_epochs: linear, before constant or cosine; may be a fraction.
        kernel_norm: weight of the sum of kernel norms over all convolutions.
        monotonic: weight of sum(relu(theta[l+1] - theta[l])).
        temperature: of the relaxed Bernoulli, first and last, linear in between.
        precision: auto takes bf16-mixed where the processor has it in hardware, else 32. Evaluation is in float32.
        compile: the training step, with torch.compile; auto does in runs of 5,000 steps and more.
        recalibration_images: training images that BatchNorm statistics are recomputed on before each validation.
        select: last takes the last epoch, best the one of the highest validation accuracy.
    """

    epochs: int = 10
    batch_size: int = 64
    lr: float = 1e-3
    density_lr: float | None = None
    schedule: Literal["constant", "cosine", "one-cycle"] = "cosine"
    warmup_epochs: float = 0.0
    kernel_norm: float = 0.0
    monotonic: float = 0.0
    temperature: tuple[float, float] = (0.5, 0.1)
    precision: Literal["auto", "bf16-mixed", "32"] = "auto"
    compile: Literal["auto", "always", "never"] = "auto"
    recalibration_images: int = 2000
    select: Literal["last", "best"] = "last"

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 2), ("recalibration_images", 1)):
            value = getattr(self, name)
            check(f"training.{name}", value, value >= least, f"at least {least}")
        for name in ("lr", "density_lr"):
            value = getattr(self, name)
            check(f"training.{name}", value, value is None or 0 < value < math.inf, "positive")
        for name in ("kernel_norm", "monotonic"):
            value = getattr(self, name)
            check(f"training.{name}", value, 0 <= value < math.inf, "at least 0")
        in_range = 0 <= self.warmup_epochs < self.epochs
        if self.schedule == "one-cycle" and self.warmup_epochs:
            raise ConfigError(f"training.warmup_epochs is {self.warmup_epochs!r}: one-cycle has a warm-up of its own.")
        check("training.warmup_epochs", self.warmup_epochs, in_range, f"in [0, {self.epochs}), below epochs")
        positive = all(0 < t < math.inf for t in self.temperature)
        check("training.temperature", self.temperature, positive, "two positive numbers")


@dataclass(frozen=True)
class Experiment:
    """One experiment: data, model, training and seed.

    Args:
        name: of the run folder OUT/NAME/seed<seed>.
        seed: of everything random.
        data: the images.
        model: the network; held complete, with its own values where settings are left out.
        training: how it is trained.
    """

    name: str
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        plain = re.fullmatch(r"[\w][\w.+-]*(/[\w][\w.+-]*)*", self.name) is not None
        check("name", self.name, plain, "letters, digits and .+-_ in one or more folders")
        check("seed", self.seed, 0 <= self.seed < 2**32, "in [0, 2³²)")
        object.__setattr__(self, "model", self.model.complete())  # not earlier: a default must not look like a choice

    def to_dict(self) -> dict[str, Any]:
        """As plain dicts, lists and scalars: what config.yaml holds."""
        return _plain(asdict(self))

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> "Experiment":
        """The inverse of `to_dict`.

        Raises:
            ConfigError: unknown keys, wrong types, values out of range.
        """
        from jsonargparse import ArgumentParser

        check_keys(cls, tree)
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(cls)
        try:
            return cls(**vars(parser.instantiate(parser.parse_object(dict(tree)))))
        except ConfigError:
            raise
        except Exception as error:  # jsonargparse raises several kinds
            raise ConfigError(" ".join(str(error).split())) from None


def keys_of(cls: type) -> Iterator[str]:
    """The dotted keys of a config class."""
    for f in fields(cls):
        default = f.default_factory if f.default_factory is not dict else None
        if is_dataclass(default):
            yield from (f"{f.name}.{key}" for key in keys_of(default))
        else:
            yield f.name


def check_keys(cls: type, tree: Mapping[str, Any], prefix: str = "") -> None:
    """Raise ConfigError at the first key of `tree` that the class does not have, naming the nearest valid one."""
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{prefix.rstrip('.') or 'the config'} is {tree!r}: must be a mapping of keys to values.")
    nested: dict[str, Any] = {f.name: f.default_factory for f in fields(cls) if is_dataclass(f.default_factory)}
    for key, value in tree.items():
        if key not in {f.name for f in fields(cls)}:
            raise ConfigError(unknown_key(f"{prefix}{key}"))
        if key in nested:
            check_keys(nested[key], value, f"{prefix}{key}.")


def unknown_key(key: str) -> str:
    """The message for a key that does not exist."""
    valid = list(keys_of(Experiment))
    near = difflib.get_close_matches(key, valid, 1, 0.5) or [k for k in valid if k.endswith("." + key.split(".")[-1])]
    return f"unknown key {key!r}" + (f": did you mean {near[0]!r}?" if near else f"; valid keys: {', '.join(valid)}.")


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping from a YAML file; raises ConfigError where it holds anything else, OSError where there is none."""
    import yaml  # of the extra `train`: the command line says so where it is missing

    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds {type(tree).__name__}, must be a mapping of keys to values.")
    return tree


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value
