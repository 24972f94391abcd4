"""Owns `pynn run` and `pynn report`: the questions' experiments, their results.json and the page made from it."""

from __future__ import annotations

import difflib
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pynn.cli.errors import UsageError
from pynn.files import check_writable
from pynn.report import choice_text, merge_rows, plain, read_rows, require_matplotlib, write_report, write_rows

__all__ = ["report", "run"]


def run(arguments) -> None:
    """Answers `arguments.questions`; results.json always holds every row finished so far, the report when it ends.

    Rows of earlier runs in the same folder are kept, those of the same questions replaced.
    """
    from pynn.experiments import QUESTIONS

    names = _asked(arguments.questions, list(QUESTIONS))
    require_matplotlib()  # not after an hour's work
    if arguments.data_dir is not None and not arguments.data_dir.is_dir():
        raise UsageError(f"--data-dir {arguments.data_dir} is not a folder")
    results, page = _outputs(arguments.out)
    before = read_rows(results) if results.exists() else []
    finished: list[dict] = []

    def keep(row: dict) -> None:
        finished.append(plain(row | {"quick": arguments.quick, "seed": arguments.seed}))
        write_rows(results, merge_rows(before, finished))

    try:
        for name in names:
            question = QUESTIONS[name]
            config = question.Config.quick() if arguments.quick else question.Config()
            question.run(config, data_dir=arguments.data_dir, seed=arguments.seed, on_row=keep)
    except KeyboardInterrupt:
        done = ", ".join(row["question"] for row in finished)
        kept = (
            f"{done} finished and is in {results} and {page}"
            if done
            else f"no question finished, {results} is as it was"
        )
        raise KeyboardInterrupt(kept) from None
    finally:
        if finished:
            kept = f"{results} has every question that finished, `pynn report {arguments.out}` draws the page"
            with _first_interrupt_waits(kept):
                write_report(merge_rows(before, finished), page)
    print(_table(finished))
    print(f"\nThe report is {page}, its figures are in {results}.")


def report(arguments) -> None:
    """Draws the page again from the rows in a folder."""
    require_matplotlib()
    results, page = arguments.folder / "results.json", arguments.folder / "report.html"
    if not results.is_file():
        raise UsageError(f"{results} does not exist: give the folder that `pynn run` wrote")
    write_report(read_rows(results), page)
    print(f"The report is {page}.")


@contextmanager
def _first_interrupt_waits(kept: str) -> Iterator[None]:
    """A first Ctrl-C lets what is done here, the work of seconds, come to its end; the next one breaks it off.

    `kept` is what is told then. Where Ctrl-C has another meaning than the usual one, that stands.
    """
    usual = signal.getsignal(signal.SIGINT)
    if usual is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting = False

    def wait(*_) -> None:
        nonlocal waiting
        if waiting:
            raise KeyboardInterrupt(kept)
        waiting = True

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def _asked(names: list[str], known: list[str]) -> list[str]:
    """The questions to answer, each once, in their order."""
    for name in names:
        if name not in (*known, "all"):
            near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.3)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"unknown question {name!r}: {hint}Known are {', '.join(known)} and all")
    return [name for name in known if name in names or "all" in names]


def _outputs(folder: Path) -> tuple[Path, Path]:
    """results.json and report.html in `folder`, which is made if need be; both are known to be writable."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file: give a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--out {folder} cannot be made: {error.strerror}; choose a folder where you may write"
        ) from error
    results, page = folder / "results.json", folder / "report.html"
    check_writable(results)
    check_writable(page)
    return results, page


def _table(rows: list[dict]) -> str:
    """The rows as aligned plain text; reported figures and targets only beside the data they are for."""
    lines = [("question", "data", "reported", "target", "ours", "seconds", "chosen")]
    for row in rows:
        real = row["origin"] == "real"
        lines.append(
            (
                row["question"],
                row["dataset"] if real else f"{row['dataset']} (embedded)",
                _percent(row["reported"]) if real else "–",
                _percent(row["target"]) if real else "–",
                _percent(row["test_accuracy"]),
                f"{row['seconds']:.1f}",
                choice_text(row["chosen"]) or "–",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    numeric = {2, 3, 4, 5}
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in numeric else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _percent(fraction: float | None) -> str:
    return "–" if fraction is None else f"{100 * fraction:.2f} %"
