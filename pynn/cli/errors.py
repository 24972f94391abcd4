"""Owns which exceptions are refusals of what the user gave, and how each is told in one sentence."""

from __future__ import annotations

__all__ = ["UsageError", "refusals", "sentence"]


class UsageError(ValueError):
    """The command line asks for something that is not there or cannot be."""


def refusals() -> tuple[type[Exception], ...]:
    """The exceptions that mean wrong input or surroundings; every other one is a bug and keeps its traceback."""
    from pynn.data import DataError
    from pynn.io import ModelFileError
    from pynn.module import LayerError
    from pynn.report import ResultsError
    from pynn.solver import TrainingDiverged

    return (
        UsageError,
        DataError,
        LayerError,
        ModelFileError,
        ResultsError,
        TrainingDiverged,
        OSError,
        ImportError,
        MemoryError,
    )


def sentence(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, MemoryError):
        text = f"not enough memory: {error or 'use less data or a smaller model'}"
    else:
        text = str(error)
    return " ".join(text.split())
