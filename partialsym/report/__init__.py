"""The report: one HTML page with the results of runs."""

from partialsym.report.answer_file import write_answer
from partialsym.report.collect import gather
from partialsym.report.output import report, write
from partialsym.report.verdicts import judge

__all__ = ["gather", "judge", "report", "write", "write_answer"]
