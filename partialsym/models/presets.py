"""Networks by name: `create("gresnet18", group="SE2", samples=4)`."""

import difflib
import inspect
from functools import partial
from typing import Any

from torch import nn

from partialsym.errors import InputError
from partialsym.models.layers import Layers
from partialsym.registry import DENSE_NETWORKS, NETWORKS


def list_models() -> list[str]:
    """The names that `create` accepts, including those of registered networks.

    >>> "gresnet18" in list_models()
    True
    """
    return [*NETWORKS, *DENSE_NETWORKS]


def create(name: str, **settings: Any) -> nn.Module:
    """Create a network by name, with new weights.

    Args:
        name: one of `list_models()`: `gresnet18`, `gresnet34`, `gresnet50`, with the ImageNet stem, and the same with
            `_cifar` for small images; `gwrn16_4`, `gwrn28_10`; `gconvnext`, `gconvnext_cifar`; `gunet` for dense
            prediction; `ResNet` and `CNN13` of the paper; and the names registered by `register_network`.
        settings: arguments of its class: `group`, `partial`, `samples`, `in_channels`, `num_classes`, `width`, …
    Raises:
        ValueError: the name or a setting is unknown, or a value is out of range.

    >>> net = create("gresnet18", group="SE2", samples=4, width=4, num_classes=0)
    >>> net.num_features
    32
    """
    held = NETWORKS if name in NETWORKS else DENSE_NETWORKS
    if name not in held:
        near = difflib.get_close_matches(name, list_models(), 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(f"name is {name!r}: must be one of {', '.join(list_models())}.{hint}")
    network = held[name]
    own = network.func if isinstance(network, partial) else network
    taken = dict(inspect.signature(own).parameters)
    if str(own.__module__).startswith("partialsym."):  # their `options` are the arguments of Layers
        taken = {key: p for key, p in taken.items() if p.kind is not p.VAR_KEYWORD} | dict(
            inspect.signature(Layers).parameters
        )
    if not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        for key in settings.keys() - taken.keys():
            near = difflib.get_close_matches(key, taken, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise InputError(f"{name} has no setting {key!r}: must be one of {', '.join(taken)}.{hint}")
    return network(**settings)
