"""Stopping on request: Ctrl-C, and the signals of a cluster that wants its machine back."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

GO_ON = "the same command (`fit`: with --resume) goes on"
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """Training was stopped by the user; the message says how to go on."""

    status = 130


class Preempted(Stopped):
    """Training was stopped by SIGTERM or SIGUSR1."""

    status = 75  # EX_TEMPFAIL: try again later


class Preemption:
    """A context in which SIGTERM and SIGUSR1 raise Preempted: at once, or in `deferred` when the caller is ready.

    Args:
        subject: what is stopped, for the message.
    """

    def __init__(self, subject: object) -> None:
        self.subject, self.caught = subject, 0
        self._deferred = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Preemption":
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        self.listen()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if _main():
            for number, handler in self._before.items():
                signal.signal(number, handler or signal.SIG_DFL)  # None: not of Python's making

    def listen(self) -> None:
        """Take the signals, also from somebody who took them meanwhile. Outside the main thread they cannot be had."""
        if _main():
            for number in SIGNALS:
                signal.signal(number, self._take)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only note a signal; raise Preempted at the end."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.caught:
            raise self.error()

    def error(self) -> Preempted:
        name = signal.Signals(self.caught).name
        return Preempted(f"{self.subject} is stopped by {name}; {GO_ON} where it was.")

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.caught = number
        if not self._deferred:
            raise self.error()


def _main() -> bool:
    return threading.current_thread() is threading.main_thread()
