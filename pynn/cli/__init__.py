"""Owns the command line `pynn`: its commands, its exit codes, and the sentence in which a refusal is told.

Exit codes: 0 done; 2 refused, with one sentence on stderr; 130 interrupted (Ctrl-C), 143 and 129 told to end by
SIGTERM and SIGHUP, with one line that says what was kept. A traceback is a bug. Results go to stdout, progress to
stderr. What a command needs is imported when it runs, so that `pynn --help` answers at once.
"""

from __future__ import annotations

import sys

from pynn.cli.arguments import parse
from pynn.cli.errors import UsageError, is_refusal, sentence
from pynn.cli.signals import endings
from pynn.cli.streams import put, usable_streams

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Runs the command that `argv` (by default the process's arguments) describes; returns the exit code."""
    with usable_streams(), endings() as ending:
        try:
            _command(sys.argv[1:] if argv is None else argv)
            put("")
        except KeyboardInterrupt as interrupt:
            return _tell(f"{ending.word}: {interrupt}" if interrupt.args else ending.word, ending.code)
        except BrokenPipeError:  # the reader, as `head`, wants no more
            return 0
        except Exception as error:
            if not is_refusal(error):
                raise
            return _tell(f"error: {sentence(error)}", 2)
    return 0


def _command(argv: list[str]) -> None:
    try:
        arguments = parse(
            argv, {"run": _run, "report": _report, "train": _train, "predict": _predict, "info": _info}
        )
    except SystemExit:  # --help and --version have said what there is to say
        return
    _set_threads(arguments.threads)
    arguments.command(arguments)


def _tell(text: str, code: int) -> int:
    print(f"pynn: {text}", file=sys.stderr)
    return code


def _set_threads(n: int | None) -> None:
    from cnn_ext import set_num_threads  # first of all, because PYNN_ISA may name kernels that there are not

    try:
        if n is not None:
            set_num_threads(n)
    except ValueError as error:
        raise UsageError(f"--threads {n}: {error}") from error


# -- the commands, each imported when it is called ----------------------------------------------------------


def _run(arguments) -> None:
    from pynn.cli.memory import keep_freed_memory
    from pynn.cli.questions import run

    keep_freed_memory()
    run(arguments)


def _report(arguments) -> None:
    from pynn.cli.questions import report

    report(arguments)


def _train(arguments) -> None:
    from pynn.cli.memory import keep_freed_memory
    from pynn.cli.training import train

    keep_freed_memory()
    train(arguments)


def _predict(arguments) -> None:
    from pynn.cli.prediction import predict

    predict(arguments)


def _info(arguments) -> None:
    from pynn.environment import describe

    for name, value in describe().items():
        text = ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else value
        print(f"{name:<12}{text}")


_COMMANDS = {"run": _run, "report": _report, "train": _train, "predict": _predict, "info": _info}
