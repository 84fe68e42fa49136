"""The networks that a question compares. They differ in the group, in whether layers learn which part of it they use,
and in whether training images are turned and mirrored."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from partialsym._utils.validation import check, one_of
from partialsym.config import DataConfig, ModelConfig
from partialsym.registry import NETWORKS, PRESETS, takes

NETWORK = "CNN3"  # it reaches the highest accuracy per training time
GRID = "Grid"  # the kernel of CNN3: filters on the taps train in fewer steps than a SIREN, and at a higher rate
KERNEL = 5  # pixels, for the ResNet: a third cheaper than the paper's 7, so that more steps fit into the budget
ROTATIONS = 4  # rotations in every layer; with mirroring, there are as many mirrored ones
_PLAIN: dict[str, Any] = {"group": "T2", "partial": False}
_ROTATED: dict[str, Any] = {"group": "SE2", "partial": False, "samples": ROTATIONS}
_MIRRORED: dict[str, Any] = {"group": "Mirror", "partial": False}
_BOTH: dict[str, Any] = {"group": "E2", "partial": False, "samples": 2 * ROTATIONS}
AUGMENTED = "augmented"  # the plain CNN whose training images are transformed by the question's group
AUGMENTATIONS = {"SE2": ("rotate",), "Mirror": ("flip",), "E2": ("rotate", "flip")}
# group of the question → name → settings, the most important method first
METHODS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "SE2": {"plain": _PLAIN, "SE2-full": _ROTATED, AUGMENTED: _PLAIN, "SE2-partial": _ROTATED | {"partial": True}},
    "Mirror": {
        "plain": _PLAIN,
        "Mirror-full": _MIRRORED,
        AUGMENTED: _PLAIN,
        "Mirror-partial": _MIRRORED | {"partial": True},
    },
    "E2": {
        "plain": _PLAIN,
        "SE2-full": _ROTATED,
        "Mirror-full": _MIRRORED,
        "E2-full": _BOTH,
        AUGMENTED: _PLAIN,
        "E2-partial": _BOTH | {"partial": True},
    },
}


class Shape(NamedTuple):
    """The shape of the task: height and width of the images, their channels, and the number of classes."""

    size: tuple[int, int]
    channels: int
    classes: int


def methods(group: str, shape: Shape, width: int, network: str = NETWORK) -> dict[str, ModelConfig]:
    """Name → network for every method that a question about `group` needs.

    The larger the images are, the more CNN3 and ResNet pool. A registered network must accept `group`, `partial` and
    `samples`. It also receives the width, the kernel size and the pools if it accepts them. A preset retains its kernel
    size.

    Args:
        group: SE2, Mirror or E2.
        shape: the shape of the task.
        width: channels after lifting.
        network: name of the network: CNN3, ResNet, a preset or a registered one.
    Raises:
        ConfigError: the group is another one, the network is unknown, or it does not accept these settings.
    """
    one_of("group", group, tuple(METHODS))
    one_of("network", network, NETWORKS)
    for needed in ("group", "partial", "samples"):
        check("network", network, takes(network, needed), f"one with the argument {needed!r}, in which methods differ")
    side = min(shape.size)
    pools = [place for place, least in (("lifting", 12), ("block1", 24), ("block2", 48)) if side >= least]
    free = {"width": width, "pools": tuple(pools)}
    free |= {} if network in (NETWORK, *PRESETS) else {"kernel_size": KERNEL}
    shared: dict[str, Any] = {key: value for key, value in free.items() if takes(network, key)}
    if network == NETWORK:
        shared["kernel"] = GRID
        shared["options"] = {"stride": 2 if side >= 64 else 1, "first_pool": 4 if side >= 24 else 2}
    return {name: ModelConfig(network=network, **shared, **settings) for name, settings in METHODS[group].items()}


def images_for(name: str, group: str, data: DataConfig) -> DataConfig:
    """The images of a method: `augmented` also turns and mirrors its training images, as the group does."""
    extra = () if name != AUGMENTED else (a for a in AUGMENTATIONS[group] if a not in data.augment)
    return replace(data, augment=(*data.augment, *extra))
