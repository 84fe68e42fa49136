"""Processes that read images ahead of the one that uses them."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

SIGNALS = ("SIGTERM", "SIGUSR1", "SIGINT")


class Keys(Protocol):
    """A sampler, or a sequence."""

    def __iter__(self) -> Iterator[Any]: ...
    def __len__(self) -> int: ...


class Loader(DataLoader[Any]):
    """What workers read, in order; an error of theirs is raised as it was, in a line.

    Nothing is drawn from the global generators. Keys are asked for from the first item on: a training loop may want the
    iterator before it sets the epoch.

    Args:
        items: read by key, in the workers.
        keys: what is read; asked for in this process, two a worker ahead.
        workers: at most, and fewer than keys; with 0 this process reads.
        ready: called on each item, in this process, when it is asked for.
        pinned: tensors are in page-locked memory, from where a GPU takes them while this process goes on.
    """

    def __init__(
        self,
        items: Dataset[Any],
        keys: Keys,
        workers: int,
        ready: Callable[[Any], Any] = lambda item: item,
        *,
        pinned: bool = False,
    ) -> None:
        workers = max(0, min(workers, len(keys) - 1))  # to start one takes time, too
        super().__init__(
            _Attempts(items),
            batch_size=None,
            sampler=keys,
            num_workers=workers,
            pin_memory=pinned,
            collate_fn=_as_it_is,
            worker_init_fn=_obey_parent,
            persistent_workers=workers > 0,
            generator=torch.Generator(),
        )
        self.ready = ready

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for item in super().__iter__():
            if isinstance(item, Exception):
                self._iterator = None  # workers end now, which those in a cycle with the error would not
                raise item
            yield self.ready(item)


class _Attempts(Dataset[Any]):
    """Items, or the errors in place of them: torch would make tracebacks of these."""

    def __init__(self, items: Dataset[Any]) -> None:
        self.items = items

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.items[key]
        except (ValueError, OSError, ImportError) as error:
            return error


def _as_it_is(item: Any) -> Any:
    return item


def _obey_parent(worker: int) -> None:
    """A signal to all processes of a run, of a cluster or Ctrl-C, is the parent's to answer: it may need the workers to
    finish its step."""
    if not hasattr(signal, "sigwaitinfo"):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {getattr(signal, name) for name in SIGNALS})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
