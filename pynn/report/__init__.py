"""The report: one self-contained HTML page, and the results.json that it is made from."""

from pynn.report.drawing import require_matplotlib
from pynn.report.page import is_page, render, write_report
from pynn.report.results import ResultsError, merge_rows, plain, read_rows, timings_beside, write_rows
from pynn.report.words import choice_text

__all__ = [
    "ResultsError",
    "choice_text",
    "is_page",
    "merge_rows",
    "plain",
    "read_rows",
    "render",
    "require_matplotlib",
    "timings_beside",
    "write_report",
    "write_rows",
]
