"""Stopping on request: Ctrl-C, and the signals by which a cluster preempts a job."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

GO_ON = "the same command (`fit`: with --resume) continues"
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


STOPPED = 130  # the exit status


class Stopped(KeyboardInterrupt):
    """Training was stopped by the user. The message says how to resume it."""

    status = STOPPED


class Preempted(Stopped):
    """Training was stopped by SIGTERM or SIGUSR1."""

    status = 75  # EX_TEMPFAIL: try again later


class Interruption:
    """A context that raises KeyboardInterrupt at its end if Ctrl-C was pressed within it.

    Python ignores a KeyboardInterrupt that is raised in a `__del__`, and a `finally` may replace it by another error.
    This context raises it again when it ends. A Ctrl-C that an outer Interruption has received is raised at the start.

    If SIGINT is ignored (as in a process that a script starts in the background) or another handler is installed, the
    handler is not changed.
    """

    signals: tuple[int, ...] = (signal.SIGINT,)

    def __init__(self) -> None:
        self.caught, self.raised = 0, False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        before = {number: signal.getsignal(number) for number in self.signals}
        outer = getattr(before[signal.SIGINT], "__self__", None)
        if isinstance(outer, Interruption):
            if outer.caught:
                self.caught = outer.caught
                raise self.error()
        elif before[signal.SIGINT] is not signal.default_int_handler:
            del before[signal.SIGINT]
        if _main():  # only the main thread can set handlers
            self._before = before
            for number in before:
                signal.signal(number, self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: not installed by Python
        if self.raised and not isinstance(error, Stopped):
            raise self.error() from error

    def error(self) -> KeyboardInterrupt:
        """The error to raise after a signal."""
        return KeyboardInterrupt()

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.caught, self.raised = number, True
        self._before[number](number, frame)


class Preemption(Interruption):
    """A context in which SIGTERM and SIGUSR1 raise Preempted: immediately, or at the end of `deferred`.

    Ctrl-C raises KeyboardInterrupt immediately, and the context then raises Stopped at its end.

    Args:
        subject: what is stopped, for the message.
    """

    signals = (signal.SIGINT, *SIGNALS)

    def __init__(self, subject: object) -> None:
        super().__init__()
        self.subject = subject
        self._deferred = False

    def listen(self) -> None:
        """Install the handlers of SIGTERM and SIGUSR1 again, if other code has replaced them."""
        if _main():
            for number in SIGNALS:
                signal.signal(number, self._take)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Record SIGTERM and SIGUSR1, and raise Preempted only at the end."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.caught:
            raise self.error()

    def error(self) -> Stopped:
        if self.caught not in SIGNALS:
            return Stopped(f"{self.subject} is stopped; {GO_ON} after its last epoch.")
        name = signal.Signals(self.caught).name
        return Preempted(f"{self.subject} is stopped by {name}; {GO_ON} where it was.")

    def _take(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            super()._take(number, frame)
        else:
            self.caught = number
            if not self._deferred:
                self.raised = True
                raise self.error()


def _main() -> bool:
    return threading.current_thread() is threading.main_thread()
