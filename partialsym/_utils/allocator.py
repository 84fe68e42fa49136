"""The C library's memory allocator."""

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # parameters of glibc's mallopt
_OWN = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_freed_memory() -> None:
    """Let the process keep large blocks of memory that it frees, to use them again.

    By default glibc returns them to the system, and the system clears every page when it is written anew. In a
    training step with large maps and small kernels this is much of the time. The setting is for a process of our own,
    not for one that imports the library. It does nothing without glibc, or if the user has set an allocator.
    """
    if any(name in os.environ for name in _OWN):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no glibc
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)
