"""Which symmetries do these images have? This package trains the networks that answer it, and states the verdict."""

from partialsym.ask.answer import ask, caveats
from partialsym.ask.decide import MARGIN, Finding, Standing, Verdict, verdict
from partialsym.ask.intervals import Difference, Interval, accuracy, difference
from partialsym.ask.method_results import MethodResults, method_results
from partialsym.ask.methods import METHODS
from partialsym.ask.question import Question
from partialsym.ask.recommend import Recommendation
from partialsym.ask.two_sample import TRANSFORMATIONS, Transformation, Visibility, visibility

__all__ = [
    "MARGIN",
    "METHODS",
    "TRANSFORMATIONS",
    "Difference",
    "Finding",
    "Interval",
    "MethodResults",
    "Question",
    "Recommendation",
    "Standing",
    "Transformation",
    "Verdict",
    "Visibility",
    "accuracy",
    "ask",
    "caveats",
    "difference",
    "method_results",
    "verdict",
    "visibility",
]
