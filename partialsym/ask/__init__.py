"""Which symmetries do these images have? What is trained to answer, and what the answers add up to."""

from partialsym.ask.answer import ask, caveats
from partialsym.ask.bootstrap import Bootstrap, Interval
from partialsym.ask.decide import Finding, Standing, Verdict, verdict
from partialsym.ask.method_results import MethodResults, method_results
from partialsym.ask.methods import METHODS
from partialsym.ask.question import Question

__all__ = [
    "METHODS",
    "Bootstrap",
    "Finding",
    "Interval",
    "MethodResults",
    "Question",
    "Standing",
    "Verdict",
    "ask",
    "caveats",
    "method_results",
    "verdict",
]
