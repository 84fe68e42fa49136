"""A data loader whose worker processes read images ahead."""

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
    """Items that workers read, in order. An error in a worker is raised here unchanged, without its traceback.

    The global generators are not used. Keys are requested only when the first item is requested, because a training
    loop may request the iterator before it sets the epoch.

    Args:
        items: items to read by key, in the workers.
        keys: the keys, requested in this process, two per worker ahead.
        workers: largest number of workers. It is reduced to less than the number of keys. With 0, this process reads.
        ready: a function that this process calls on each item when it is requested.
        pinned: use page-locked memory, from which a GPU copies asynchronously.
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
        workers = max(0, min(workers, len(keys) - 1))  # starting a worker takes time
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
                self._iterator = None  # end the workers now: the error's reference cycle would keep them alive
                raise item
            yield self.ready(item)


class _Attempts(Dataset[Any]):
    """Items, or errors as items, because torch would replace an error by the text of its traceback."""

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
    """Ignore signals to all processes of a run, such as Ctrl-C. The parent handles them and may need the workers to
    finish its step."""
    if not hasattr(signal, "sigwaitinfo"):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {getattr(signal, name) for name in SIGNALS})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
