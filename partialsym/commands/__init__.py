"""What each command does, once its arguments are known to be good: a function a command, of its name."""

from partialsym.commands.asking import ask
from partialsym.commands.checking import check
from partialsym.commands.freezing import freeze
from partialsym.commands.looking import evaluate, report
from partialsym.commands.predicting import predict
from partialsym.commands.tables import parse_seeds, reproduce, table
from partialsym.commands.training import cost, demo, fit

__all__ = [
    "ask",
    "check",
    "cost",
    "demo",
    "evaluate",
    "fit",
    "freeze",
    "parse_seeds",
    "predict",
    "report",
    "reproduce",
    "table",
]
