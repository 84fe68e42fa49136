"""The networks a question is put to: equal in everything but the group, whether they may keep a part of it, and whether
their training images are turned and mirrored instead."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from partialsym._utils.validation import check, one_of
from partialsym.config import DataConfig, ModelConfig
from partialsym.registry import NETWORKS, PRESETS, takes

NETWORK = "CNN3"  # the one with the highest accuracy for its time
KERNEL = 5  # pixels, of the ResNet: a third cheaper than the paper's 7, which buys steps
ROTATIONS = 4  # elements of every layer, and as many mirrored ones
_PLAIN: dict[str, Any] = {"group": "T2", "partial": False}
_ROTATED: dict[str, Any] = {"group": "SE2", "partial": False, "samples": ROTATIONS}
_MIRRORED: dict[str, Any] = {"group": "Mirror", "partial": False}
_BOTH: dict[str, Any] = {"group": "E2", "partial": False, "samples": 2 * ROTATIONS}
AUGMENTED = "augmented"  # the plain CNN whose training images are transformed by the group asked about
AUGMENTATIONS = {"SE2": ("rotate",), "Mirror": ("flip",), "E2": ("rotate", "flip")}
METHODS: Mapping[
    str, Mapping[str, Mapping[str, Any]]
] = {  # group asked about → name → settings, what matters most first
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
    """What the networks have to fit: height and width of the images, their channels, the number of classes."""

    size: tuple[int, int]
    channels: int
    classes: int


def methods(group: str, shape: Shape, width: int, network: str = NETWORK) -> dict[str, ModelConfig]:
    """Name → network for every method that a question about `group` needs: networks of that kind and width.

    The CNN3 pools the more the larger the images are; of the ResNet small images get few pools, large ones one more. A
    registered network must take `group`, `partial` and
    `samples`; it gets the width, the kernel size and the pools if it takes them. A preset keeps its kernel size.

    Raises:
        ConfigError: another group than SE2, Mirror or E2; an unknown network, or one that cannot be asked with.
    """
    one_of("group", group, tuple(METHODS))
    one_of("network", network, NETWORKS)
    for needed in ("group", "partial", "samples"):
        check("network", network, takes(network, needed), f"one that takes {needed!r}: methods differ in it")
    side = min(shape.size)
    pools = [place for place, least in (("lifting", 12), ("block1", 24), ("block2", 48)) if side >= least]
    free = {"width": width, "pools": tuple(pools)}
    free |= {} if network in (NETWORK, *PRESETS) else {"kernel_size": KERNEL}
    shared: dict[str, Any] = {key: value for key, value in free.items() if takes(network, key)}
    if network == NETWORK:
        shared["options"] = {"first_pool": 8 if side >= 64 else 4 if side >= 24 else 2}
    return {name: ModelConfig(network=network, **shared, **settings) for name, settings in METHODS[group].items()}


def images_for(name: str, group: str, data: DataConfig) -> DataConfig:
    """The images that a method trains on: for `augmented` turned and mirrored as well, whatever the group has."""
    extra = () if name != AUGMENTED else (a for a in AUGMENTATIONS[group] if a not in data.augment)
    return replace(data, augment=(*data.augment, *extra))
