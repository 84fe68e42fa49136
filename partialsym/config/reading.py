"""Read configs from YAML files."""

from pathlib import Path
from typing import Any

from partialsym._utils.limited_read import read_bytes
from partialsym.errors import ConfigError

MOST_BYTES = 65_536
MOST_DEPTH = 20
LARGEST = 2**63


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file.

    Only the part of YAML that a config needs is allowed: no aliases, which can expand without limit, no tags, at most
    MOST_DEPTH levels, and only integers of 64 bits.

    Raises:
        ConfigError: the file is not such a mapping, or is larger than MOST_BYTES.
        OSError: the file cannot be read.
    """
    import yaml  # part of the extra `train`; the command line reports it if it is missing

    try:
        text = read_bytes(path, MOST_BYTES).decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    except ValueError as error:
        raise ConfigError(str(error)) from None
    try:
        reason = _refused(text)
        tree = None if reason else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, ArithmeticError) as error:  # the last two: a date or number out of range
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if reason:
        raise ConfigError(f"{path} {reason}.")
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} contains {type(tree).__name__}: it must be a mapping of keys to values.")
    if _endless(tree):
        raise ConfigError(f"{path} contains an integer beyond 64 bits: use a smaller one.")
    return tree


def _refused(text: str) -> str | None:
    """The reason if the text uses a part of YAML that is not allowed, else None; no value is constructed."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        at = f"in line {event.start_mark.line + 1}" if event.start_mark else ""
        if isinstance(event, yaml.AliasEvent):
            return f"has the alias *{event.anchor} {at}: write out its value"
        if tag := getattr(event, "tag", None):
            return f"has the tag {tag!r} {at}: write the value without a tag"
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            return f"nests deeper than {MOST_DEPTH} levels {at}"
    return None


def _endless(value: Any) -> bool:
    """Whether the value contains an integer beyond 64 bits, which may be too long to compute with or to print."""
    if isinstance(value, dict):
        return any(map(_endless, (*value, *value.values())))
    if isinstance(value, list | tuple):
        return any(map(_endless, value))
    return isinstance(value, int) and abs(value) >= LARGEST
