"""Whether a run folder is as it was written."""

from pathlib import Path

from jsonargparse import Namespace

from partialsym.checking import examine
from partialsym.commands.saying import say
from partialsym.run import Run


def check(options: Namespace) -> None:
    run = Run(Path(options.run))
    found = examine(run)
    for note in found.notes:
        say(note)
    if found.faults:
        raise ValueError("\n  ".join([f"{run.folder} is not as it should be:", *found.faults]))
    say(f"{run.folder} is consistent")
