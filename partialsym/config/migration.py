"""Rename the settings of earlier formats to their present names."""

from collections.abc import Mapping
from typing import Any

RENAMED = {"learn": "learned_layers"}  # since format 2, in `model`


def migrated(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the config of a run from format 1 to format 2; anything else is returned as it is, for later checks."""
    model = tree.get("model")
    if not isinstance(model, Mapping):
        return dict(tree)
    return {**tree, "model": {RENAMED.get(key, key): value for key, value in model.items()}}
