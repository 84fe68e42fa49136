"""Runs → one page that shows what they found."""

from partialsym.report.gathering import gather
from partialsym.report.judging import judge
from partialsym.report.writing import report, write

__all__ = ["gather", "judge", "report", "write"]
