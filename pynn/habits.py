"""Owns what is said to arguments that a function does not take: where the wish belongs, or the nearest name."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import TypeVar

__all__ = ["explains"]

F = TypeVar("F", bound=Callable)


def explains(**remedies: str) -> Callable[[F], F]:
    """Decorates a function so that a call which does not fit its signature is a TypeError of one sentence.

    remedies : for names that it does not take, from other libraries above all, what to write instead.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        name = function.__qualname__.removesuffix(".__init__")
        names = [parameter for parameter in signature.parameters if parameter != "self"]
        by_position = [
            parameter
            for parameter in names
            if signature.parameters[parameter].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ]

        @functools.wraps(function)
        def checked(*args, **kwargs):
            for given in kwargs:
                if given not in names:
                    near = difflib.get_close_matches(given, names, n=1)
                    remedy = remedies.get(given) or (
                        f"did you mean {near[0]}?" if near else f"it takes {', '.join(names)}"
                    )
                    raise TypeError(f"{name} has no argument {given!r}: {remedy}")
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                leading = ", ".join(by_position)
                raise TypeError(f"{name} takes {leading} by position, all else by name: {error}") from None
            return function(*args, **kwargs)

        return checked  # type: ignore[return-value]

    return decorate
