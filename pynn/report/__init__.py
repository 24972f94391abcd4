"""The report: one self-contained HTML page, and the results.json that it is made from."""

from pynn.report.page import render, write_report
from pynn.report.plots import choice_text, require_matplotlib
from pynn.report.results import ResultsError, merge_rows, read_rows, write_rows

__all__ = [
    "ResultsError",
    "choice_text",
    "merge_rows",
    "read_rows",
    "render",
    "require_matplotlib",
    "write_report",
    "write_rows",
]
