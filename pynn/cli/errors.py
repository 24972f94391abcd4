"""Owns which exceptions are refusals of what the user gave, and how each is told in one sentence."""

from __future__ import annotations

__all__ = ["UsageError", "is_refusal", "sentence"]


class UsageError(ValueError):
    """The command line asks for something that is not there or cannot be."""


def is_refusal(error: Exception) -> bool:
    """Whether `error` means wrong input or surroundings; every other one is a bug and keeps its traceback."""
    from pynn.data import DataError
    from pynn.io import ModelFileError
    from pynn.module import LayerError
    from pynn.report import ResultsError
    from pynn.solver import TrainingDiverged

    if isinstance(error, ImportError):
        return error.name is None  # a missing extra, in our own words; Python names what a broken install lacks
    refusals = (UsageError, DataError, LayerError, ModelFileError, ResultsError, TrainingDiverged)
    return isinstance(error, (*refusals, OSError, MemoryError))


def sentence(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, MemoryError):
        text = f"not enough memory: {error or 'use less data or a smaller model'}"
    else:
        text = str(error)
    return " ".join(text.split())
