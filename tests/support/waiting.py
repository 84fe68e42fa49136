"""A barrier in a training: its processes wait at the start of an epoch until they are let go, however fast they are.

`python -m waiting FOLDER EPOCH COMMAND …` is the command line with such a barrier.
"""

import os
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

HANG = 600  # seconds, which end a test that hangs and decide nothing else


def wait_at(folder, epoch):
    """Let trainings of this process wait at the start of an epoch, numbered from 0."""
    from partialsym.training.module import ClassifierModule

    before, folder = ClassifierModule.on_train_epoch_start, Path(folder)

    def on_train_epoch_start(self):
        if self.current_epoch == epoch:
            (folder / f"waiting{self.global_rank}").touch()
            while not (folder / "go").exists():
                time.sleep(0.05)
        before(self)

    ClassifierModule.on_train_epoch_start = on_train_epoch_start


def command(folder, epoch, *arguments):
    """Of a process that waits, and its environment."""
    return [sys.executable, "-m", "waiting", str(folder), str(epoch), *arguments], environment()


def environment():
    """In which a process finds this module."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}


def run(folder, epoch, said, arguments):
    """The command line with the barrier, as the target of a process that is forked; its last words are in a file."""
    from partialsym.cli.main import main

    signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored where the tests run in the background
    wait_at(folder, epoch)
    with open(said, "w") as sys.stderr:
        sys.exit(main(arguments))


def arrived(folder, processes):
    """Return when all of so many processes wait; the files of their arrival are gone then."""
    files, until = [Path(folder) / f"waiting{rank}" for rank in range(len(processes))], time.monotonic() + HANG
    while not all(file.exists() for file in files):
        assert [ended(process) for process in processes] == [None] * len(processes), "ended before the barrier"
        assert time.monotonic() < until, "never came to the barrier"
        time.sleep(0.05)
    for file in files:
        file.unlink()


def ended(process):
    """The exit status; None of one that runs."""
    return process.exitcode if isinstance(process, BaseProcess) else process.poll()


def let_go(folder):
    (Path(folder) / "go").touch()


if __name__ == "__main__":
    from partialsym.cli.main import main

    signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored where the tests run in the background
    wait_at(sys.argv[1], int(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
