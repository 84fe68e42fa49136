"""A writer that fails, by an error or a kill, at its n-th step: creating a file, writing half, an fsync, a rename."""

import errno
import os
import signal
import stat
import sys
import tempfile
from pathlib import Path

import pytest

from partialsym.config import DataConfig, Experiment, ModelConfig, TrainingConfig
from partialsym.training.fit import train

SMALL = Experiment(  # 6 steps an epoch; crops and elements are drawn, so that the generators matter
    "small",
    data=DataConfig("digits-6-M", augment=("crop",)),
    model=ModelConfig("E2", samples=2, width=2, hidden=2, kernel_size=3, pools=("lifting", "block1", "block2")),
    training=TrainingConfig(epochs=2, batch_size=40, density_lr=1e-2, recalibration_images=40),
)
APART = ("seconds", "loader_share", "finished", "git")  # what may differ between equal results

CREATE, WRITE, SYNC, RENAME, SYNC_FOLDER = "create", "write", "fsync", "rename", "fsync of the folder"


def full_disk():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


class Faults:
    """Counts the steps of every file that is replaced; `fail` is called in the one numbered `at`, from 0."""

    def __init__(self, patch, at=None, fail=full_disk):
        self.at, self.fail, self.steps = at, fail, []
        self._wrap(patch, tempfile, "mkstemp", lambda *a, **k: CREATE)
        self._wrap(patch, Path, "write_bytes", lambda *a, **k: WRITE)
        self._wrap(patch, Path, "write_text", lambda *a, **k: WRITE)
        self._wrap(patch, os, "fsync", lambda handle: SYNC_FOLDER if _is_folder(handle) else SYNC)
        self._wrap(patch, os, "replace", lambda *a, **k: RENAME)

    def _wrap(self, patch, owner, name, kind):
        inner = getattr(owner, name)

        def step(*args, **options):
            self.steps.append(kind(*args, **options))
            if len(self.steps) - 1 == self.at:
                if self.steps[-1] == WRITE:
                    path, data = args
                    inner(path, data[: len(data) // 2], **options)
                self.fail()
            return inner(*args, **options)

        patch.setattr(owner, name, step)


def _is_folder(handle):
    return stat.S_ISDIR(os.fstat(handle).st_mode)


def train_until(at, config, out):
    """Train in this process, which is killed in the step numbered `at`."""
    Faults(pytest.MonkeyPatch(), at, kill)
    train(config, out, resume=True, progress=False)


def train_until_call(at, config, out, counted):
    """Train in this process, which is killed in the call of a function numbered `at`; their number is written down."""
    calls = 0

    def count(frame, event, arg):
        nonlocal calls
        if event == "call":
            if calls == at:
                kill()
            calls += 1

    sys.setprofile(count)
    train(config, out, resume=True, progress=False)
    sys.setprofile(None)
    counted.write_text(str(calls))
