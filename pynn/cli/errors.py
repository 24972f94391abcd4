"""Owns which exceptions are refusals of what the user gave, and how each is told in one sentence."""

from __future__ import annotations

import re
import sys

from pynn.text import clean

__all__ = ["UsageError", "is_refusal", "sentence"]

_LONGEST = 280  # characters of a sentence: with "pynn: error: " before it, a line below 300

# What the library calls by the names of Python arguments, and the command line by those of options.
_OPTIONS = re.compile(r"(?<![\w.-])(image_size|batch_size|time_limit|grayscale)\b=?")


# A module that is not loaded has raised nothing, and may not load: a wrong PYNN_ISA stops most of them.
_REFUSALS = [
    ("pynn.data", "DataError"),
    ("pynn.io", "ModelFileError"),
    ("pynn.module", "LayerError"),
    ("pynn.report", "ResultsError"),
    ("pynn.solver", "TrainingDiverged"),
]


class UsageError(ValueError):
    """The command line asks for something that is not there or cannot be."""


def is_refusal(error: Exception) -> bool:
    """Whether `error` means wrong input or surroundings; every other one is a bug and keeps its traceback."""
    if isinstance(error, ImportError):
        return error.name is None  # a missing extra, in our own words; Python names what a broken install lacks
    if isinstance(error, (UsageError, OSError, MemoryError)):
        return True
    return any(isinstance(error, getattr(sys.modules.get(module), name, ())) for module, name in _REFUSALS)


def sentence(error: Exception) -> str:
    """What went wrong, in one printable line of bounded length, in the words of the command line."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{clean(error.filename)}: {error.strerror}" if error.filename else error.strerror
        if isinstance(error, FileNotFoundError) and not error.filename:  # as os.getcwd has it
            text = "the present folder is gone: change to another one"
    elif isinstance(error, MemoryError):
        text = f"not enough memory: {f'{error}; ' if error.args else ''}use less data or a smaller model"
    else:
        text = str(error)
    return clean(_OPTIONS.sub(lambda name: f"--{name[1].replace('_', '-')} ", text).replace("  ", " "), _LONGEST)
