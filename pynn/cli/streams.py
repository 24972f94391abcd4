"""Owns standard output and standard error while a command runs: what fails there ends no work.

Every character gets through any encoding (ASCII, cp1252): what it lacks is written as something near in ASCII, or
as an escape. Messages are asides: where standard error is closed or full, they are lost and nothing else is.
Results are no asides: `main` refuses where standard output cannot take them.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pynn.cli.errors import UsageError

__all__ = ["OutputError", "is_read", "put", "usable_streams"]

_NEAR = {"–": "-", "−": "-", "×": "x", "·": "*", "²": "^2", "±": "+-", "…": "...", "’": "'", "→": "->"}


def _near_in_ascii(error: UnicodeError) -> tuple[str, int]:
    """An error handler for `codecs`: characters that an encoding lacks, as one writes them without."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_NEAR.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text), error.end


codecs.register_error("pynn-near", _near_in_ascii)


class OutputError(UsageError):
    """Standard output takes no more."""


class _Nowhere(io.TextIOBase):
    """A stream whose descriptor was closed before the command began: what is written to it is lost."""

    def write(self, text: str) -> int:
        return len(text)


class _Stream:
    """A text stream whose writes and flushes go through `_try`."""

    def __init__(self, stream) -> None:
        self._stream = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"  # which tqdm asks for

    def _try(self, function, *arguments):
        raise NotImplementedError

    def write(self, text: str) -> int:
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def isatty(self) -> bool:
        with suppress(OSError, ValueError):
            return self._stream.isatty()
        return False

    def fileno(self) -> int:
        return self._stream.fileno()


class _Aside(_Stream):
    """Takes everything and never fails; what `stream` does not take is lost."""

    def _try(self, function, *arguments):
        with suppress(OSError, ValueError):  # full, or closed since
            function(*arguments)


class _Results(_Stream):
    """Raises OutputError where `stream` takes no more, save that its reader is gone: BrokenPipeError passes."""

    def _try(self, function, *arguments):
        try:
            function(*arguments)
        except BrokenPipeError:
            _abandon(self._stream)
            raise
        except OSError as error:
            _abandon(self._stream)
            raise OutputError(f"standard output cannot be written: {error.strerror}") from error


@contextmanager
def usable_streams() -> Iterator[None]:
    """`sys.stdout` and `sys.stderr` as described above, until the `with` ends."""
    before = sys.stdout, sys.stderr
    usable = [_Nowhere() if stream is None or stream.closed else stream for stream in before]
    with _descriptors(), _characters(usable[0]), _characters(usable[1]):
        sys.stdout, sys.stderr = _Results(usable[0]), _Aside(usable[1])
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
            for stream in usable:
                try:
                    stream.flush()
                except (OSError, ValueError):
                    _abandon(stream)


@contextmanager
def _descriptors() -> Iterator[None]:
    """Descriptors 0 to 2 lead nowhere where they are closed: no file that is opened may get their number."""
    opened = []
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):
                opened.append(os.open(os.devnull, os.O_RDWR))
    try:
        yield
    finally:
        for descriptor in opened:
            os.close(descriptor)


@contextmanager
def _characters(stream) -> Iterator[None]:
    if not isinstance(stream, io.TextIOWrapper):
        yield
        return
    errors = stream.errors
    stream.reconfigure(errors="pynn-near")
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            stream.reconfigure(errors=errors)


def is_read() -> bool:
    """Whether results on standard output get anywhere."""
    return not isinstance(getattr(sys.stdout, "_stream", sys.stdout), _Nowhere)


def put(text: str, *, kept: str = "") -> None:
    """Writes a result to standard output; OutputError where that takes no more, with what was `kept` anyway."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OutputError as error:
        raise OutputError(f"{error}; {kept}") if kept else error from error


def _abandon(stream) -> None:
    """Nothing more gets to `stream`, nor what its buffer still has: at exit Python would complain of it."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()
