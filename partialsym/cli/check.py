"""The command `check`: is a run folder unchanged and consistent?"""

from pathlib import Path

from jsonargparse import Namespace

from partialsym.cli.output import say
from partialsym.errors import InputError
from partialsym.runs.run import Run
from partialsym.runs.verify import examine


def run(options: Namespace) -> None:
    folder = Path(options.run)
    found = examine(Run(folder))
    for note in found.notes:
        say(note)
    if found.faults:
        raise InputError("\n  ".join([f"{folder} is not as it should be:", *found.faults]))
    say(f"{folder} is consistent")
