"""Owns what signals mean to a command: being told to end, by Ctrl-C or otherwise, is a KeyboardInterrupt."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Ending", "endings", "uninterrupted"]

_ENDINGS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Ending:
    """How a command was ended: `word` for the message, `code` for the exit, by default those of Ctrl-C."""

    word, code = "interrupted", 128 + signal.SIGINT

    def by(self, number: int, _frame) -> None:
        """The handler of signal `number`, which `timeout` and others send twice: the second changes nothing."""
        if self.code != 128 + number:
            self.word, self.code = "terminated", 128 + number
            raise KeyboardInterrupt


@contextmanager
def endings() -> Iterator[Ending]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does, unless somebody gave them another meaning."""
    ending, usual = Ending(), []
    if threading.current_thread() is threading.main_thread():  # only there can handlers be set
        usual = [number for number in _ENDINGS if signal.getsignal(number) is signal.SIG_DFL]
    for number in usual:
        signal.signal(number, ending.by)
    try:
        yield ending
    finally:
        for number in usual:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Work of moments that comes to its end: signals to end are ignored meanwhile, since all ends after it."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, *_ENDINGS)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
