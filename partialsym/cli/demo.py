"""The command `demo`: a demonstration of about a minute."""

from pathlib import Path

from jsonargparse import Namespace

from partialsym.cli.output import progress, say
from partialsym.reproduction.demo import demo


def run(options: Namespace) -> None:
    for line in demo(Path(options.out), options.seed, progress(options)):
        say(line)
