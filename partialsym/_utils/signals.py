"""Stopping on request: Ctrl-C, and the signals of a cluster that wants its machine back."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

GO_ON = "the same command (`fit`: with --resume) goes on"
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


STOPPED = 130  # the exit status


class Stopped(KeyboardInterrupt):
    """Training was stopped by the user; the message says how to go on."""

    status = STOPPED


class Preempted(Stopped):
    """Training was stopped by SIGTERM or SIGUSR1."""

    status = 75  # EX_TEMPFAIL: try again later


class Interruption:
    """A context that a Ctrl-C ends for certain. Python drops a KeyboardInterrupt that is raised in a `__del__`, and a
    `finally` may make another error of it: at the end of the context it is raised all the same. A Ctrl-C that an outer
    Interruption has noted is raised at the start.

    Where SIGINT is ignored, as in what a script starts in the background, or is somebody else's, it is left as it is.
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
        if _main():  # elsewhere they cannot be had
            self._before = before
            for number in before:
                signal.signal(number, self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: not of Python's making
        if self.raised and not isinstance(error, Stopped):
            raise self.error() from error

    def error(self) -> KeyboardInterrupt:
        """That a signal has stopped what is in the context."""
        return KeyboardInterrupt()

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.caught, self.raised = number, True
        self._before[number](number, frame)


class Preemption(Interruption):
    """A context in which SIGTERM and SIGUSR1 raise Preempted: at once, or in `deferred` when the caller is ready. After
    a Ctrl-C, which raises KeyboardInterrupt at once, it ends in Stopped.

    Args:
        subject: what is stopped, for the message.
    """

    signals = (signal.SIGINT, *SIGNALS)

    def __init__(self, subject: object) -> None:
        super().__init__()
        self.subject = subject
        self._deferred = False

    def listen(self) -> None:
        """Take SIGTERM and SIGUSR1 from somebody who took them meanwhile."""
        if _main():
            for number in SIGNALS:
                signal.signal(number, self._take)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only note SIGTERM and SIGUSR1; raise Preempted at the end."""
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
