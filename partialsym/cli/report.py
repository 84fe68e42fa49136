"""The command `report`: one page about some runs."""

from pathlib import Path

from jsonargparse import Namespace

from partialsym.cli.output import say
from partialsym.report import report
from partialsym.runs.run import Run


def run(options: Namespace) -> None:
    page = report([Run(Path(folder)) for folder in options.runs], Path(options.out), options.data.root)
    say(f"report: {page}")
