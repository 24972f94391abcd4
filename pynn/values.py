"""Owns how single values are told apart and shown in messages."""

from __future__ import annotations

import math
import reprlib
from numbers import Integral, Real

import numpy as np

__all__ = ["as_float", "is_integer", "is_number", "shown"]

_WIDTH = 60  # characters of a value in a message
_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = _brief.maxlong = 2 * _WIDTH


def shown(value) -> str:
    """`value` for a message: one line of at most 60 characters, whatever it is."""
    if isinstance(value, np.ndarray) and value.ndim > 0:
        text = f"an array of shape {value.shape} and dtype {value.dtype}"
    else:
        try:
            text = " ".join(_brief.repr(value).split())
        except Exception:  # somebody else's __repr__, or an int of more digits than Python prints
            text = f"a value of type {type(value).__name__}"
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def is_integer(value) -> bool:
    """Whether `value` is a whole number by its type; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value) -> bool:
    """Whether `value` is a real number by its type; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def as_float(value) -> float:
    """`value`, a real number of any type and size, as a float: infinite where it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
