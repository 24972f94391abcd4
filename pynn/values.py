"""Owns how single values are told apart and shown in messages."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable
from numbers import Integral, Real

import numpy as np

__all__ = ["as_array", "as_dtype", "as_float", "is_integer", "is_number", "listed", "shown"]

REAL = (np.dtype(np.float32), np.dtype(np.float64))

_WIDTH = 60  # characters of a value in a message
_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = _brief.maxlong = 2 * _WIDTH


def shown(value) -> str:
    """`value` for a message: one line of at most 60 characters, whatever it is."""
    if isinstance(value, np.ndarray) and value.ndim > 0:
        text = f"an array of shape {value.shape} and dtype {value.dtype}"
    else:
        try:
            text = _brief.repr(value)
        except Exception:  # somebody else's __repr__, or an int of more digits than Python prints
            text = "\n"
        if "\n" in text:  # a table, as of a model or a frame, or what cannot be told
            text = f"a {type(value).__name__}"
        text = " ".join(text.split())
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def listed(names: Iterable[str]) -> str:
    """Names for a message, the first three of many."""
    names = [str(name)[:_WIDTH] for name in names]
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:3])} and {len(names) - 3} more"


def as_array(owner: str, name: str, values) -> np.ndarray:
    """`values` as an array, or ValueError where they have no shape."""
    try:
        return np.asarray(values)
    except ValueError:  # rows of different lengths
        raise ValueError(f"{owner} {name} must be an array, got {shown(values)}, which has no shape") from None


def as_dtype(value) -> np.dtype | None:
    """float32 or float64 by type, dtype or name; None for anything else."""
    for real in REAL:
        if isinstance(value, type | str | np.dtype) and value in (real, real.type, real.name):
            return real
    return None


def is_integer(value) -> bool:
    """Whether `value` is a whole number by its type; True and False are none."""
    return type(value) is int or (isinstance(value, Integral) and not isinstance(value, bool))


def is_number(value) -> bool:
    """Whether `value` is a real number by its type; True and False are none."""
    return type(value) is float or (isinstance(value, Real) and not isinstance(value, bool))


def as_float(value) -> float:
    """`value`, a real number of any type and size, as a float: infinite where it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
