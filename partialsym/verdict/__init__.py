"""Which symmetries the data have, as far as these runs can tell: one pure function of their answers."""

from partialsym.verdict.arms import Arm, arm
from partialsym.verdict.intervals import Bootstrap, Interval
from partialsym.verdict.judging import Finding, Standing, Verdict, verdict

__all__ = ["Arm", "Bootstrap", "Finding", "Interval", "Standing", "Verdict", "arm", "verdict"]
