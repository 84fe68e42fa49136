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
print(faults[-1] - faults[-6])
"""
PAGES = 5 * 3 * 2**24 // 4096  # of five tensors of 48 MiB


def faults(how, **more):
    run = [sys.executable, "-c", COUNT, how]
    return int(subprocess.run(run, check=True, capture_output=True, text=True, env=os.environ | more).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has the setting")
def test_freed_memory_is_used_again():
    """Counted in pages that the system clears; without the setting it clears every page of every tensor.

    The first ones may not fit into what others left, because torch aligns them.
    """
    assert faults("keep") < PAGES / 20
    assert faults("leave") > PAGES / 600  # huge pages of 2 MiB may hold 512
    assert faults("keep", MALLOC_MMAP_MAX_="1000") > PAGES / 600  # the user's choice
