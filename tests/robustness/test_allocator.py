"""Our own processes keep the memory that they free."""

import os
import subprocess
import sys

import pytest

COUNT = """
import resource, sys, torch
from partialsym._utils.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
faults = [torch.zeros(3 * 2**22).sum() or resource.getrusage(resource.RUSAGE_SELF).ru_minflt for _ in range(14)]
print(*sorted(b - a for a, b in zip(faults, faults[1:])))
"""
PAGES = 3 * 2**24 // 4096  # of a tensor of 48 MiB


def faults(how, **more):
    """Pages that the system cleared for each of 13 tensors that were freed at once, in increasing order."""
    run = [sys.executable, "-c", COUNT, how]
    done = subprocess.run(run, check=True, capture_output=True, text=True, env=os.environ | more)
    return [int(count) for count in done.stdout.split()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has the setting")
def test_freed_memory_is_used_again():
    """Most tensors fit into what others left; without the setting, none does.

    Some do not fit, because torch aligns them and small blocks lie between. Huge pages of 2 MiB may hold 512 pages.
    """
    assert faults("keep")[6] < PAGES / 600
    assert faults("leave")[0] >= PAGES / 600
    assert faults("keep", MALLOC_MMAP_MAX_="1000")[0] >= PAGES / 600  # the user's choice
