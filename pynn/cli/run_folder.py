"""Owns the folder of `pynn run`: what may be written there, and results.json as its rows are finished."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from pynn.cli.errors import UsageError, sentence
from pynn.files import check_writable
from pynn.report import is_page, merge_rows, plain, read_rows, timings_beside, write_rows
from pynn.text import clean

__all__ = ["Rows", "outputs", "refuse_foreign", "say", "unfinished"]


def outputs(folder: Path, data_dir: Path | None) -> tuple[Path, Path, Path]:
    """results.json, report.html and work in `folder`, made if need be; they can be written, and replace no other.

    Raises UsageError or ResultsError where something else is there, WriteError where they cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {clean(folder)} is a file: give a folder")
    if data_dir is not None and _holds_data(folder, data_dir):
        raise UsageError(f"--out {clean(folder)} is where the data are: give a folder of its own for the results")
    results, page, work = folder / "results.json", folder / "report.html", folder / "work"
    if work.exists() and not work.is_dir():
        raise UsageError(f"{clean(work)} is a file, but has to be a folder: give another --out")
    refuse_foreign(page)
    timings = timings_beside(results)
    if timings.exists() and not results.exists():
        raise UsageError(f"{clean(timings)} is not of `pynn run`, which would replace it: give another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--out {clean(folder)} cannot be made: {error.strerror}; choose a folder where you may write"
        ) from error
    for path in (results, timings, page):
        check_writable(path)
    return results, page, work


def _holds_data(folder: Path, data_dir: Path) -> bool:
    """Whether `folder` is the data's, or one of those inside it that are no earlier run's; links are resolved."""
    folder, data_dir = Path(os.path.realpath(folder)), Path(os.path.realpath(data_dir))
    if folder == data_dir:
        return True
    inside = data_dir in folder.parents and folder.is_dir() and any(folder.iterdir())
    return inside and not (folder / "results.json").exists()


def refuse_foreign(page: Path) -> None:
    """UsageError where a report.html is there that is not the report's."""
    if page.exists() and not is_page(page):
        raise UsageError(
            f"{clean(page)} is not a report of pynn and would be replaced: move it, or give another folder"
        )


def unfinished(work: Path) -> bool:
    """Whether a row was begun there and not finished."""
    return work.is_dir() and any(row.is_dir() and not (row / "row").exists() for row in work.iterdir())


class Rows:
    """The rows of results.json: those of earlier runs and those that this run finished.

    A row that cannot be written is told and kept: the work goes on, and the row is written with the next.
    """

    def __init__(self, path: Path):
        self.path = path
        self.finished: list[dict] = []
        self.unwritten: OSError | None = None  # why the file lacks a row
        self._before = read_rows(path) if path.exists() else []

    def all(self) -> list[dict]:
        """Every row, in the order of the questions."""
        return merge_rows(self._before, self.finished)

    def keep(self, row: dict) -> None:
        """Takes a row that is finished, and writes all of them."""
        self.finished.append(plain(row))
        try:
            write_rows(self.path, self.all())
        except OSError as error:
            self.unwritten = error
            say(f"{sentence(error)}; the work goes on")
        else:
            self.unwritten = None

    def settle(self) -> str:
        """Writes rows that could not be written so far, else where temporary files go; "" or what is wrong."""
        if self.unwritten is None:
            return ""
        try:
            write_rows(self.path, self.all())
        except OSError as error:
            reason = clean(sentence(error), 130)
        else:
            return ""
        try:
            elsewhere = Path(tempfile.mkdtemp(prefix="pynn-results-")) / self.path.name
            write_rows(elsewhere, self.all())
        except OSError:
            return f"{reason}; make room and run the same command with --resume: finished work is not lost"
        return f"{reason}; the results are in {clean(elsewhere, 100)} instead"

    def told(self, page: Path) -> str:
        """What of this run is finished, in words."""
        if not self.finished:
            return f"no question finished, {clean(self.path, 60)} is as it was"
        done = ", ".join(row["question"] for row in self.finished)
        return f"{done} finished and is in {clean(self.path, 60)} and {clean(page, 60)}"


def say(line: str) -> None:
    """Shows a line of the work on stderr."""
    print(clean(line, 280), file=sys.stderr, flush=True)
