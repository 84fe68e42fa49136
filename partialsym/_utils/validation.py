"""Checks of settings, in one form: the key, the value, and what would be right."""

import difflib
from typing import Any


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names the key, quotes the value and says what would be right."""


def one_of(key: str, value: str, valid: tuple[str, ...]) -> None:
    """Raise ConfigError where `value` is none of `valid`, naming the nearest of them."""
    near = [v for v in valid if v.lower() == value.lower()] or difflib.get_close_matches(value, valid, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    check(key, value, value in valid, f"one of {', '.join(valid)}", hint)


def check(key: str, value: Any, good: bool, right: str, hint: str = "") -> None:
    """Raise ConfigError where `value` is not good: it must be what `right` says."""
    if not good:
        raise ConfigError(f"{key} is {value!r}: must be {right}.{hint}")
