"""Configs in files."""

from pathlib import Path
from typing import Any

from partialsym._utils.limited_read import read_bytes
from partialsym.errors import ConfigError

MOST_BYTES = 65_536
MOST_DEPTH = 20
LARGEST = 2**63


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping from a YAML file; raises ConfigError where it holds anything else, OSError where there is none.

    Of YAML it takes what a config needs: no aliases, which grow without end, no tags, no deep nesting, no endless
    numbers.
    """
    import yaml  # of the extra `train`: the command line says so where it is missing

    try:
        text = read_bytes(path, MOST_BYTES).decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    except ValueError as error:
        raise ConfigError(str(error)) from None
    try:
        reason = _refused(text)
        tree = None if reason else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, ArithmeticError) as error:  # the latter: a date or number out of its range
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if reason:
        raise ConfigError(f"{path} {reason}.")
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds {type(tree).__name__}, must be a mapping of keys to values.")
    if _endless(tree):
        raise ConfigError(f"{path} holds a whole number beyond 64 bits.")
    return tree


def _refused(text: str) -> str | None:
    """What of YAML the text uses that no config needs, found without building anything."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        at = f"in line {event.start_mark.line + 1}" if event.start_mark else ""
        if isinstance(event, yaml.AliasEvent):
            return f"has the alias *{event.anchor} {at}: write out what it stands for"
        if tag := getattr(event, "tag", None):
            return f"has the tag {tag!r} {at}: values stand without one"
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            return f"nests deeper than {MOST_DEPTH} levels {at}"
    return None


def _endless(value: Any) -> bool:
    """Whether a whole number in it is too long to be computed with, or even shown."""
    if isinstance(value, dict):
        return any(map(_endless, (*value, *value.values())))
    if isinstance(value, list | tuple):
        return any(map(_endless, value))
    return isinstance(value, int) and abs(value) >= LARGEST
