"""Pickles of plain arrays, read and never run: one that a stranger wrote can neither call anything nor grow."""

import io
import pickle
import pickletools
from typing import Any

MOST_STEPS = 2**20  # the largest official file takes a third of them
NEEDED = """
PROTO FRAME STOP MARK EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS NONE
NEWTRUE NEWFALSE BININT BININT1 BININT2 BINFLOAT BINSTRING SHORT_BINSTRING BINUNICODE SHORT_BINUNICODE BINBYTES
SHORT_BINBYTES BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD
"""
CODES = {code.name: ord(code.code) for code in pickletools.opcodes}


class Raw:
    """Stands for whatever numpy object a pickle asks for: keeps what it is made of, and does nothing with it."""

    state: Any = None

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state


def unpickle(raw: bytes) -> Any:
    """What the pickle holds, with a Raw for every object of numpy.

    Raises:
        Exception: of a dozen kinds, on whatever plain arrays, lists, strings and dicts of them do not need.
    """
    return _Inert(io.BytesIO(raw), encoding="latin1").load()


class _Inert(pickle._Unpickler):
    """Reads what the official files are made of, and calls nothing, not even numpy."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.dispatch = _Steps()  # type: ignore[misc, assignment]

    def find_class(self, module: str, name: str) -> Any:
        if (module.replace("._core", ".core"), name) not in (
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        ):
            raise _refused(f"{module}.{name}")
        return Raw


class _Steps:
    """What each opcode does: for the few that are needed, and so many times."""

    def __init__(self) -> None:
        self.taken = 0
        self.known = {CODES[name]: _OWN.get(name, pickle._Unpickler.dispatch[CODES[name]]) for name in NEEDED.split()}

    def __getitem__(self, code: int) -> Any:
        self.taken += 1
        if self.taken > MOST_STEPS:
            raise pickle.UnpicklingError(f"it takes more than {MOST_STEPS:,} steps")
        if code not in self.known:
            raise _refused(next((name for name, known in CODES.items() if known == code), f"opcode {code}"))
        return self.known[code]


def _refused(what: str) -> Exception:
    return pickle.UnpicklingError(f"it asks for {what!r}, which plain arrays do not need")


def _get(self: Any, size: int) -> None:
    value = self.memo[int.from_bytes(self.read(size), "little")]
    if isinstance(value, list | tuple | dict):  # what holds one twice, again and again, has no end
        raise _refused("one container twice")
    self.append(value)


def _set(self: Any, items: list[Any]) -> None:
    if not all(isinstance(key, str) for key in items[::2]):  # a deep tuple may take for ever to hash
        raise _refused("keys that are no strings")
    self.stack[-1].update(zip(items[::2], items[1::2], strict=True))


_OWN = {
    "BINGET": lambda self: _get(self, 1),
    "LONG_BINGET": lambda self: _get(self, 4),
    "SETITEM": lambda self: _set(self, [self.stack.pop(-2), self.stack.pop()]),
    "SETITEMS": lambda self: _set(self, self.pop_mark()),
}
