"""Configs in files."""

from pathlib import Path
from typing import Any

from partialsym.checks import ConfigError


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
