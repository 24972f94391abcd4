"""Owns the command line `pynn`: its arguments, its exit codes, and the sentence in which a refusal is told.

Exit codes: 0 done; 2 refused, with one sentence on stderr; 130 interrupted, with one line that says what was kept.
A traceback is a bug. Results go to stdout, progress to stderr. What a command needs is imported when it runs, so
that `pynn --help` answers at once.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path

from pynn._version import __version__
from pynn.cli.errors import UsageError, is_refusal, sentence

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Runs the command that `argv` (by default the process's arguments) describes; returns the exit code."""
    try:
        arguments = _parser().parse_args(argv)
        _set_threads(arguments.threads)
        arguments.command(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt as interrupt:
        return _tell(f"interrupted: {interrupt}" if interrupt.args else "interrupted", 130)
    except BrokenPipeError:  # the reader, as `head`, wants no more; Python must not complain of it at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if not is_refusal(error):
            raise
        return _tell(f"error: {sentence(error)}", 2)
    return 0


def _tell(text: str, code: int) -> int:
    print(f"pynn: {text}", file=sys.stderr)
    return code


def _set_threads(n: int | None) -> None:
    if n is not None:
        from cnn_ext import set_num_threads

        try:
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
    from pynn.cli.own_data import train

    keep_freed_memory()
    train(arguments)


def _predict(arguments) -> None:
    from pynn.cli.own_data import predict

    predict(arguments)


def _info(arguments) -> None:
    from pynn.environment import describe

    for name, value in describe().items():
        text = ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else value
        print(f"{name:<12}{text}")


# -- the arguments ------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Refuses in one sentence, as everything here does; argparse would print the usage as well."""

    def error(self, message: str):
        raise UsageError(f"{message} (see {self.prog} --help)")


class _Version(argparse.Action):
    def __call__(self, parser, *rest):
        print(f"pynn {__version__}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pynn", description="Train and run small neural networks on ordinary CPUs.", allow_abbrev=False
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, function, text: str) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        subparser.set_defaults(command=function, threads=None)
        return subparser

    run = command("run", _run, "Answer questions by experiment; write results.json and report.html.")
    run.add_argument("questions", nargs="+", metavar="QUESTION", help="q2 … q7, several of them, or all")
    run.add_argument("--quick", action="store_true", help="smaller searches and shorter training")
    run.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="where the data sets are (default: PYNN_DATA, …)"
    )
    run.add_argument("--out", type=Path, default=Path("pynn-results"), metavar="DIR", help="default: %(default)s")

    report = command("report", _report, "Draw report.html again from the results.json in a folder.")
    report.add_argument("folder", type=Path, metavar="DIR", help="the folder that `pynn run` wrote")

    train = command("train", _train, "Train a classifier on your own data.")
    train.add_argument("data", type=Path, metavar="DATA", help=".npz file (X, y), or folder with images by class")
    train.add_argument("--out", type=Path, required=True, metavar="MODEL", help="the model file to write")
    train.add_argument("--model", choices=("cnn", "mlp"), help="default: cnn for images, mlp for features")
    train.add_argument(
        "--hidden", type=_count, default=128, metavar="N", help="hidden units (default: %(default)s)"
    )
    train.add_argument("--epochs", type=_count, default=20, metavar="N", help="default: %(default)s")
    train.add_argument("--batch-size", type=_count, default=100, metavar="N", help="default: %(default)s")
    train.add_argument(
        "--lr", type=_positive, default=1e-3, metavar="RATE", help="peak rate (default: %(default)s)"
    )
    train.add_argument("--image-size", type=_count, metavar="N", help="resize the images of a folder to N×N")
    train.add_argument("--grayscale", action="store_true", help="read the images of a folder as grey")

    predict = command("predict", _predict, "Predict classes with a model file of `pynn train`, as CSV.")
    predict.add_argument("model", type=Path, metavar="MODEL", help="the model file")
    predict.add_argument("input", type=Path, metavar="INPUT", help=".npz file (X), image, or folder of images")
    predict.add_argument("--out", type=Path, metavar="CSV", help="the file to write (default: standard output)")

    for subparser in (run, train):
        subparser.add_argument("--seed", type=_seed, default=0, metavar="N", help="default: %(default)s")
    for subparser in (run, train, predict):
        subparser.add_argument(
            "--threads", type=_count, metavar="N", help="default: the CPUs this process may use"
        )

    command("info", _info, "Print versions, processor and threads.")
    return parser


def _count(text: str) -> int:
    return _whole_number(text, 1)


def _seed(text: str) -> int:
    return _whole_number(text, 0)


def _whole_number(text: str, smallest: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) >= smallest):
        raise argparse.ArgumentTypeError(f"expected a whole number from {smallest}, got {text!r}")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value
