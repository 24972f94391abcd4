"""Owns the arguments of the command line: what there is, what values they take, what somebody may have meant."""

from __future__ import annotations

import argparse
import difflib
import math
import re
from collections.abc import Iterator
from pathlib import Path

from pynn._version import __version__
from pynn.cli.errors import UsageError

__all__ = ["parse"]

# What people type for ours, from other tools' habits; near spellings are found without a table.
_COMMANDS = {
    "train": ("fit", "learn", "new"),
    "predict": ("classify", "test", "eval", "evaluate", "infer", "inference", "apply", "use"),
    "run": ("experiment", "answer", "question", "questions", *(f"q{n}" for n in range(2, 8))),
    "report": ("plot", "draw", "html"),
    "info": ("env", "environment", "version", "status", "doctor"),
    "--help": ("help", "-help", "-?", "/?", "usage"),
    "--version": ("-v", "-V", "-version"),
}
_OPTIONS = {
    "--out": ("-o", "--output", "--save", "--to", "--file", "--model-file", "--csv", "--output-file"),
    "--lr": ("--learning-rate", "--rate", "-lr", "--alpha", "--eta"),
    "--epochs": ("-e", "-n", "--iterations", "--num-epochs", "--n-epochs", "--max-epochs"),
    "--batch-size": ("-b", "--batch", "--bs", "--minibatch"),
    "--hidden": ("--units", "--width", "--hidden-units", "--hidden-size", "--hidden-dim"),
    "--image-size": ("--size", "--resize", "--img-size", "--imgsz", "--resolution"),
    "--grayscale": ("--grey", "--gray", "--greyscale", "--bw", "--mono"),
    "--seed": ("-s", "--random-seed", "--random-state", "--rng"),
    "--threads": ("-j", "-t", "--jobs", "--n-jobs", "--workers", "--cpus", "--cores", "--num-threads"),
    "--model": ("-m", "--arch", "--architecture", "--network", "--net"),
    "--data-dir": ("-d", "--data", "--data-folder", "--data-path", "--root"),
    "--resume": ("--continue", "--go-on"),
    "--restart": ("--force", "-f", "--overwrite", "--fresh", "--start-anew"),
    "--time-limit": ("--timeout", "--max-time", "--time", "--limit", "--max-seconds"),
    "--checkpoint": ("--ckpt", "-c", "--snapshot"),
    "--quick": ("--fast", "-q", "--small"),
    "--help": ("-?", "-help", "/?"),
}


def parse(argv: list[str], commands: dict) -> argparse.Namespace:
    """The arguments, with `command` being the function in `commands` under the command's name.

    Raises UsageError, with a suggestion where what was typed is near to something, and SystemExit after `--help`
    and `--version`.
    """
    parser, subparsers = _parser(commands)
    _check_names(argv, subparsers)
    return parser.parse_args(argv)


# -- what was meant -----------------------------------------------------------------------------------------


def _check_names(argv: list[str], subparsers: dict[str, _Parser]) -> None:
    """Raises UsageError for a command or option that is not there, before argparse speaks of what is missing."""
    if not argv:
        raise UsageError(f"give a COMMAND: {', '.join(subparsers)} (see pynn --help)")
    name, *rest = argv
    if name in ("-h", "--help", "--version"):
        return
    if name not in subparsers:
        kind = "option" if name.startswith("-") else "command"
        names = [*subparsers, "--help", "--version"]
        near = _meant(name, names, _COMMANDS) or _meant(name.lstrip("-"), names, _COMMANDS)
        if name.lower() in _COMMANDS["run"][-6:]:
            near = f"run {name.lower()}"
        hint, known = _hint(f"pynn {near}" if near else ""), ", ".join(subparsers)
        raise UsageError(f"unknown {kind} {name!r}: {hint}The commands are {known} (see pynn --help)")
    options = [option for action in subparsers[name]._actions for option in action.option_strings]
    for option in _typed_options(rest):
        if option not in options:
            near = _meant(option, options, _OPTIONS)
            raise UsageError(f"unrecognized arguments: {option}: {_hint(near)}see pynn {name} --help")


def _typed_options(arguments: list[str]) -> Iterator[str]:
    """What argparse takes for the name of an option: no negative number, nothing after `--`."""
    for argument in arguments:
        if argument == "--":
            return
        if argument.startswith("-") and argument != "-" and not re.fullmatch(r"-\d+|-\d*\.\d+", argument):
            if " " in argument:  # to argparse a value
                continue
            yield argument.partition("=")[0]


def _meant(typed: str, known: list[str], habits: dict[str, tuple[str, ...]]) -> str:
    """Of what is known, that which was probably meant; empty where nothing is near."""
    plain = typed.lower().replace("_", "-")
    for name, others in habits.items():
        if name in known and (plain in others or typed in others):
            return name
    if plain in known:
        return plain
    for name in known:  # -epochs, epochs; and --out-file, --model-type …
        if name.startswith("--") and plain.lstrip("-") == name.lstrip("-"):
            return name
    near = difflib.get_close_matches(plain, known, n=1, cutoff=0.6)
    return near[0] if near else ""


def _hint(meant: str) -> str:
    return f"did you mean {meant}? " if meant else ""


# -- what there is ------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Refuses in one sentence, as everything here does; argparse would print the usage as well."""

    def error(self, message: str):
        raise UsageError(f"{message} (see {self.prog} --help)")


class _Version(argparse.Action):
    def __call__(self, parser, *rest):
        print(f"pynn {__version__}")
        parser.exit()


def _parser(commands: dict) -> tuple[_Parser, dict[str, _Parser]]:
    """The parser, and those of the commands by name."""
    parser = _Parser(
        prog="pynn", description="Train and run small neural networks on ordinary CPUs.", allow_abbrev=False
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    made: dict[str, _Parser] = {}

    def command(name: str, text: str) -> argparse.ArgumentParser:
        made[name] = subparsers.add_parser(name, help=text, description=text, allow_abbrev=False)
        made[name].set_defaults(command=commands[name], threads=None)
        return made[name]

    run = command("run", "Answer questions by experiment; write results.json and report.html.")
    run.add_argument("questions", nargs="+", metavar="QUESTION", help="q2 … q7, several of them, or all")
    run.add_argument("--quick", action="store_true", help="smaller searches and shorter training")
    run.add_argument(
        "--data-dir", type=_path, metavar="DIR", help="where the data sets are (default: PYNN_DATA, …)"
    )
    run.add_argument("--out", type=_path, default=Path("pynn-results"), metavar="DIR", help="default: %(default)s")
    run.add_argument("--resume", action="store_true", help="go on from what an earlier run in --out finished")

    report = command("report", "Draw report.html again from the results.json in a folder.")
    report.add_argument("folder", type=_path, metavar="DIR", help="the folder that `pynn run` wrote")

    train = command("train", "Train a classifier on your own data.")
    train.add_argument("data", type=_path, metavar="DATA", help=".npz file (X, y), or folder with images by class")
    train.add_argument("--out", type=_path, required=True, metavar="MODEL", help="the model file to write")
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
    train.add_argument(
        "--checkpoint", type=_path, metavar="FILE", help="what a training is kept in (default: MODEL.checkpoint)"
    )
    begun = train.add_mutually_exclusive_group()
    begun.add_argument("--resume", action="store_true", help="go on with the training that the checkpoint keeps")
    begun.add_argument("--restart", action="store_true", help="begin anew, whatever the checkpoint keeps")

    predict = command("predict", "Predict classes with a model file of `pynn train`, as CSV.")
    predict.add_argument("model", type=_path, metavar="MODEL", help="the model file")
    predict.add_argument("input", type=_path, metavar="INPUT", help=".npz file (X), image, or folder of images")
    predict.add_argument("--out", type=_path, metavar="CSV", help="the file to write (default: standard output)")

    for subparser in (run, train):
        subparser.add_argument(
            "--time-limit", type=_seconds, metavar="TIME", help="end after it: 90 (seconds), 90s, 30m or 2h"
        )
        subparser.add_argument("--seed", type=_seed, default=0, metavar="N", help="default: %(default)s")
    for subparser in (run, train, predict):
        subparser.add_argument(
            "--threads", type=_count, metavar="N", help="default: the CPUs this process may use"
        )

    command("info", "Print versions, processor and threads.")
    return parser, made


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected the name of a file or folder, got {text!r}")
    return Path(text)


def _count(text: str) -> int:
    return _whole_number(text, 1)


def _seed(text: str) -> int:
    return _whole_number(text, 0)


def _whole_number(text: str, smallest: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) >= smallest):
        raise argparse.ArgumentTypeError(f"expected a whole number from {smallest}, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,12})?)([smh]?)", text, re.ASCII)
    seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else 0
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"expected a time above 0 as 90, 90s, 30m or 2h, got {text!r}")
    return seconds


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value
