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
count = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
faults = [torch.zeros(3 * 2**22).sum() or count() for _ in range(int(sys.argv[2]))]
print(*sorted(b - a for a, b in zip(faults, faults[1:])))
"""
PAGES = 3 * 2**24 // 4096  # of a tensor of 48 MiB


def faults(how, tensors, **more):
    """Pages that the system cleared for each tensor but the first, all freed at once, in increasing order."""
    run = [sys.executable, "-c", COUNT, how, str(tensors)]
    done = subprocess.run(run, check=True, capture_output=True, text=True, env=os.environ | more)
    return [int(count) for count in done.stdout.split()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has the setting")
def test_freed_memory_is_used_again():
    """Most tensors fit into what others left; without the setting, none does.

    Huge pages of 2 MiB may hold 512 pages. Torch aligns a tensor, so glibc cuts a small block off its front and keeps
    it apart, up to 7 of each of 4 sizes: until then a freed tensor may be too short for the next one.
    """
    assert faults("keep", 61)[60 - 4 * 7 - 1] < PAGES / 600
    assert faults("leave", 11)[0] >= PAGES / 600
    assert faults("keep", 11, MALLOC_MMAP_MAX_="1000")[0] >= PAGES / 600  # the user's choice
