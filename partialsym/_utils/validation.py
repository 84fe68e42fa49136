"""Checks of settings. All messages have one form: the key, the value, and what would be right."""

import difflib
from collections.abc import Collection
from typing import Any

from partialsym.errors import ConfigError


def one_of(key: str, value: str, valid: Collection[str]) -> None:
    """Raise ConfigError if `value` is not in `valid`; the message suggests the most similar one."""
    if value in valid:
        return
    near = [v for v in valid if v.lower() == value.lower()] or difflib.get_close_matches(value, valid, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    check(key, value, False, f"one of {', '.join(valid)}", hint)


def check(key: str, value: Any, good: bool, right: str, hint: str = "") -> None:
    """Raise ConfigError if not `good`; the message says that `value` must be `right`."""
    if not good:
        raise ConfigError(f"{key} is {value!r}: must be {right}.{hint}")
