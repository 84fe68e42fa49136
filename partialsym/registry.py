"""The groups, kernels, networks and data sets that a config can name. This module does not import torch.

Another package registers its own with a decorator, and declares the module that does so as an entry point. The module
is imported when an unknown name is looked up:

    [project.entry-points.partialsym]
    mine = "mypackage.networks"
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import cache, partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from partialsym.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from partialsym.data.base import Dataset
    from partialsym.groups.base import Group
    from partialsym.kernels.base import Kernel

T = TypeVar("T")
U = TypeVar("U", bound=Callable[..., Any])


class Reference(NamedTuple):
    """An object of this package that is imported when it is used. `arguments` precede those of a call, and `settings`
    are its defaults."""

    module: str
    name: str
    arguments: tuple[Any, ...] = ()
    settings: Mapping[str, Any] = {}

    def load(self) -> Any:
        found = getattr(import_module(self.module), self.name)
        return partial(found, *self.arguments, **self.settings) if self.arguments or self.settings else found


class Registry(MutableMapping[str, T]):
    """A mapping from names to registered objects.

    Args:
        kind: the kind of object, for messages.
        own: the objects of this package.
    """

    def __init__(self, kind: str, own: Mapping[str, Reference]) -> None:
        self.kind = kind
        self._held: dict[str, Any] = dict(own)

    def register(self, name: str) -> Callable[[U], U]:
        """A decorator that registers the decorated object under `name`.

        Raises:
            InputError: another object has this name.
        """

        def add(what: U) -> U:
            held = self._held.get(name)
            same = getattr(held, "__qualname__", None) == what.__qualname__ and held.__module__ == what.__module__
            if held is not None and not same:  # the same module may be executed twice
                raise InputError(f"there is a {self.kind} {name!r} already: choose another name.")
            self._held[name] = what
            return what

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self:
            raise KeyError(name)
        held = self._held[name]
        return held.load() if isinstance(held, Reference) else held

    def __contains__(self, name: object) -> bool:
        if name not in self._held:
            _load_plugins()
        return name in self._held

    def __setitem__(self, name: str, what: T) -> None:
        self._held[name] = what

    def __delitem__(self, name: str) -> None:
        del self._held[name]

    def __iter__(self) -> Iterator[str]:
        _load_plugins()
        return iter(self._held)

    def __len__(self) -> int:
        _load_plugins()
        return len(self._held)


@cache
def _load_plugins() -> None:
    """Import the entry points of other packages, which register their objects."""
    for point in entry_points(group="partialsym"):
        try:
            point.load()
        except Exception as error:  # another package's own
            said = " ".join(str(error).split())
            raise InputError(
                f"the entry point {point.name!r} cannot be loaded from {point.value}: {type(error).__name__}: {said}."
            ) from error


def _data(module: str, name: str, *arguments: Any, **settings: Any) -> Reference:
    return Reference(f"partialsym.data.sources.{module}", name, arguments, settings)


GROUPS: Registry[Callable[[], Group]] = Registry(
    "group", {name: Reference(f"partialsym.groups.{name.lower()}", name) for name in ("T2", "Mirror", "SE2", "E2")}
)
KERNELS: Registry[Callable[..., Kernel]] = Registry(
    "kernel",
    {
        "SIREN": Reference("partialsym.kernels.siren", "SIREN"),
        "MLP": Reference("partialsym.kernels.mlp", "MLP"),
        **{name: Reference("partialsym.kernels.mfn", name) for name in ("Fourier", "Gabor", "MAGNet")},
        "Grid": Reference("partialsym.kernels.grid", "Grid"),
    },
)
_RESNETS: dict[str, dict[str, Any]] = {
    "gresnet18": {"blocks": (2, 2, 2, 2)},
    "gresnet34": {"blocks": (3, 4, 6, 3)},
    "gresnet50": {"blocks": (3, 4, 6, 3), "block": "bottleneck"},
}
_WIDE: dict[str, Any] = {"block": "preactivated", "stem": "cifar", "stem_width": 16}
_STAGED: dict[str, dict[str, Any]] = {
    **_RESNETS,
    **{f"{name}_cifar": {**settings, "stem": "cifar"} for name, settings in _RESNETS.items()},
    "gwrn16_4": {"width": 64, "blocks": (2, 2, 2), **_WIDE},
    "gwrn28_10": {"width": 160, "blocks": (4, 4, 4), **_WIDE},
}
_SEPARABLE: dict[str, dict[str, Any]] = {
    "gconvnext": {"stem_stride": 4},
    "gconvnext_cifar": {"stem_stride": 2, "blocks": (2, 4, 2)},
}
NETWORKS: Registry[Callable[..., nn.Module]] = Registry(
    "network",
    {
        "ResNet": Reference("partialsym.models.gresnet", "GResNet"),
        "CNN13": Reference("partialsym.models.gcnn13", "GCNN13"),
        "CNN3": Reference("partialsym.models.gcnn3", "GCNN3"),
        **{n: Reference("partialsym.models.staged", "GStagedResNet", (), s) for n, s in _STAGED.items()},
        **{n: Reference("partialsym.models.convnext", "GConvNeXt", (), s) for n, s in _SEPARABLE.items()},
    },
)
PRESETS = (*_STAGED, *_SEPARABLE)
LIFTED = "Lifted"  # a network that only a file can hold: `partialsym.lift` makes it
DENSE_NETWORKS: Registry[Callable[..., nn.Module]] = Registry(  # an answer a pixel, which no config trains
    "network for dense answers", {"gunet": Reference("partialsym.models.unet", "GUNet")}
)
DATASETS: Registry[Callable[..., Dataset]] = Registry(
    "data set",
    {
        "digits-6-180": _data("digits", "digits", "180"),
        "digits-6-M": _data("digits", "digits", "M"),
        "MNIST": _data("mnist", "mnist"),
        "MNIST6-180": _data("mnist", "mnist6", "180"),
        "MNIST6-M": _data("mnist", "mnist6", "M"),
        **{f"resplit-MNIST6-{k}": _data("mnist", "mnist6", k, resplit=True) for k in ("180", "M")},
        "rotMNIST": _data("rotmnist", "rotmnist"),
        **{f"sectors-{count}": _data("sectors", "sectors", count) for count in (2, 3, 4, 6)},
        "CIFAR-10": _data("cifar", "cifar", "CIFAR-10"),
        "CIFAR-100": _data("cifar", "cifar", "CIFAR-100"),
        "PCam": _data("pcam", "pcam"),
    },
)
SETTINGS = ("width", "kernel_size", "hidden", "pools", "dropout", "head")  # for which a network may have a default
_DEFAULTS: dict[
    str, dict[str, Any]
] = {  # of our networks, without importing torch; a test compares them with the classes
    "ResNet": {
        "width": 32,
        "kernel_size": 7,
        "hidden": 32,
        "pools": ("lifting", "block1"),
        "dropout": 0.0,
        "head": "group",
    },
    "CNN13": {"width": 128, "kernel_size": 3, "hidden": 8, "dropout": 0.3},
    "CNN3": {"width": 16, "kernel_size": 3, "hidden": 16, "dropout": 0.0},
    LIFTED: {},
    **{n: {"width": s.get("width", 64), "kernel_size": 3, "hidden": 8, "dropout": 0.0} for n, s in _STAGED.items()},
    **{n: {"width": 32, "kernel_size": 5, "hidden": 8, "dropout": 0.0} for n in _SEPARABLE},
}


def network_defaults(name: str) -> dict[str, Any]:
    """The defaults of the network with this name for those of `SETTINGS` that it accepts.

    Defaults that a registered network sets within its `**options` are not included.
    """
    if name in _DEFAULTS:
        return _DEFAULTS[name]
    given = inspect.signature(NETWORKS[name]).parameters
    return {key: given[key].default for key in SETTINGS if key in given}


def takes(name: str, setting: str) -> bool:
    """Whether the network with this name accepts this argument."""
    if name in _DEFAULTS and setting in SETTINGS:
        return setting in _DEFAULTS[name]
    given = inspect.signature(NETWORKS[name]).parameters
    return setting in given or any(p.kind is p.VAR_KEYWORD for p in given.values())


def register_group(name: str) -> Callable[[U], U]:
    """A class decorator: `ps.group(name)` and `--model.group NAME` create an instance of it, without arguments.

    >>> import partialsym as ps
    >>> @ps.register_group("Flipped")
    ... class Flipped(ps.Mirror):
    ...     name = "Flipped"
    >>> ps.group("Flipped").name
    'Flipped'
    """
    return GROUPS.register(name)


def register_kernel(name: str) -> Callable[[U], U]:
    """A class decorator: networks accept the `Kernel` as `kernel=name`, and configs as `--model.kernel NAME`."""
    return KERNELS.register(name)


def register_network(name: str) -> Callable[[U], U]:
    """A class decorator: `--model.network NAME` creates an instance, and `save_model` and `load_model` support it.

    The constructor must accept `in_channels` and `num_classes`. It may accept settings of a config, such as `group`,
    `partial`, `samples` and `width`. Other arguments are passed as `--model.options`. The attribute `settings` must be
    a dict of plain values, the arguments that create the same network again.
    """
    return NETWORKS.register(name)


def register_dataset(name: str) -> Callable[[U], U]:
    """A decorator for a function (root, *, validation, split_seed) → `Dataset`, which `--data.name NAME` calls."""
    return DATASETS.register(name)
