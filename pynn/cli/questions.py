"""Owns `pynn run` and `pynn report`: the questions' experiments, their results.json and the page made from it."""

from __future__ import annotations

import difflib
import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pynn.cli.errors import UsageError
from pynn.cli.run_folder import Rows, outputs, refuse_foreign, say, unfinished
from pynn.io import require_safetensors
from pynn.report import choice_text, read_rows, require_matplotlib, write_report
from pynn.text import clean

if TYPE_CHECKING:
    from pynn.data import Dataset

__all__ = ["report", "run"]


def run(arguments) -> None:
    """Answers `arguments.questions`; results.json always holds every row finished so far, the report when it ends.

    Rows of earlier runs in the same folder are kept, those of the same questions replaced. The folder `work` keeps
    what is finished of the questions (`pynn.experiments.work`); with `arguments.resume` it is taken up again.
    """
    from pynn.experiments import QUESTIONS
    from pynn.experiments.protocol import SealError
    from pynn.experiments.work import TimeIsUp, Work

    names = _asked(arguments.questions, list(QUESTIONS))
    require_matplotlib()  # not after an hour's work
    require_safetensors()
    if arguments.data_dir is not None and not arguments.data_dir.is_dir():
        raise UsageError(f"--data-dir {clean(arguments.data_dir)} is not a folder")
    results, page, work_folder = outputs(arguments.out, arguments.data_dir)
    rows = Rows(results)
    questions = {name: (QUESTIONS[name], _config(QUESTIONS[name], arguments.quick)) for name in names}
    data = _data(questions, arguments.data_dir)
    if not arguments.resume and unfinished(work_folder):
        say(f"{clean(work_folder)} has unfinished work: --resume would go on from it, this run begins anew")
    limit = math.inf if arguments.time_limit is None else arguments.time_limit
    work = Work(work_folder, resume=arguments.resume, seconds=limit, tell=say)
    try:
        for question, config in questions.values():
            question.run(
                config,
                data=data[question.DATA],
                seed=arguments.seed,
                on_row=lambda row: rows.keep(row | {"quick": arguments.quick, "seed": arguments.seed}),
                work=work,
            )
    except BaseException as error:
        if undrawn := _draw(rows, page):
            say(undrawn)
        if isinstance(error, SealError):
            raise UsageError(str(error)) from error
        if not isinstance(error, KeyboardInterrupt | TimeIsUp):
            raise
        reason = f"the time limit of {limit:g} s is reached, " if isinstance(error, TimeIsUp) else ""
        kept = f"{reason}{rows.told(page)}; the same command with --resume goes on"
        raise KeyboardInterrupt(kept) from None
    undrawn = _draw(rows, page)
    unwritten = rows.settle()
    print(_table(rows.finished))
    if problem := unwritten or undrawn:
        raise UsageError(problem)
    print(f"\nThe report is {page}, its figures are in {results}.")


def report(arguments) -> None:
    """Draws the page again from the rows in a folder."""
    require_matplotlib()
    results, page = arguments.folder / "results.json", arguments.folder / "report.html"
    if not results.exists():
        raise UsageError(f"{clean(results)} does not exist: give the folder that `pynn run` wrote")
    rows = read_rows(results)
    refuse_foreign(page)
    write_report(rows, page)
    print(f"The report is {page}.")


def _draw(rows: Rows, page: Path) -> str:
    """Draws the page, which loses nothing where it fails; "" or what is wrong, and how to draw it again."""
    if not rows.finished:
        return ""
    folder = clean(page.parent, 60)
    kept = f"{clean(rows.path, 60)} has every question that finished, `pynn report {folder}` draws the page"
    try:
        with _first_interrupt_waits(kept):
            write_report(rows.all(), page)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(kept) from None
    except Exception as error:  # of matplotlib, of fonts, of the disk: whatever it is, the results stand
        return f"the page was not drawn ({type(error).__name__}: {clean(error, 80)}); {kept}"
    return ""


# -- before any work ----------------------------------------------------------------------------------------


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


def _config(question, quick: bool):
    return question.Config.quick() if quick else question.Config()


def _data(questions: dict, data_dir: Path | None) -> dict[str, Dataset]:
    """The data sets that the questions need, by name; a line for each question says what it trains on."""
    from pynn.data import load

    data: dict[str, Dataset] = {}
    for name, (question, config) in questions.items():
        if question.DATA not in data:
            data[question.DATA] = load(question.DATA, data_dir, fallback=data_dir is None)
        found = data[question.DATA]
        counts = [
            f"{len(y):,} {part}"
            for y, part in ((found.y_train, "training"), (found.y_val, "validation"), (found.y_test, "test"))
        ]
        parts = [config, *vars(config).values()]
        limits = sorted({limit for part in parts if (limit := getattr(part, "max_train", None)) is not None})
        used = f"; used are the first {' or '.join(f'{limit:,}' for limit in limits)}" if limits else ""
        classes = f"{len(found.classes)} classes"
        say(f"{name}  {found.name} ({found.origin}): {', '.join(counts)} samples of {classes}{used}")
    return data


# -- the table ----------------------------------------------------------------------------------------------


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
