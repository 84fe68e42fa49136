"""Settings of an earlier format under the names that they have now."""

from collections.abc import Mapping
from typing import Any

RENAMED = {"learn": "learned_layers"}  # since format 2, in `model`


def migrated(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a run of format 1 as one of format 2; what is no such config is left for others to refuse."""
    model = tree.get("model")
    if not isinstance(model, Mapping):
        return dict(tree)
    return {**tree, "model": {RENAMED.get(key, key): value for key, value in model.items()}}
