"""Owns writing files: a kill at any moment leaves the old file or the new one, whole, never half of either."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["WriteError", "check_writable", "write_atomic"]


class WriteError(OSError):
    """A file cannot be written; the message names it, the reason and the remedy."""


def write_atomic(path: str | os.PathLike, data: bytes | str) -> None:
    """Writes `data` (text as UTF-8) to `path`: into a new file beside it, to the disk, then renamed over it.

    The folder must exist. A symbolic link stays and its target is replaced. An error leaves the old file and
    nothing else; a kill may leave a hidden `.NAME.*.tmp` beside it.

    Raises WriteError (an OSError) where that is impossible.
    """
    with _beside(path) as (target, descriptor, temporary):
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data.encode() if isinstance(data, str) else data)
        os.fsync(descriptor)
        os.replace(temporary, target)


def check_writable(path: str | os.PathLike) -> None:
    """Raises WriteError where `write_atomic(path, …)` would be refused; leaves the folder as it was.

    Long work calls it first, so that nobody learns after an hour that the result cannot be kept.
    """
    with _beside(path):
        pass


@contextmanager
def _beside(path: str | os.PathLike) -> Iterator[tuple[Path, int, Path]]:
    """(target, descriptor, temporary): a new empty file in the target's folder, gone at the end unless renamed."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise WriteError(f"cannot write {path}: it is not a regular file; choose another path")
    temporary = target.with_name(f".{target.name}.{os.urandom(8).hex()}.tmp")
    try:
        # Not tempfile.mkstemp: its files are readable by their owner alone, whatever the umask says.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            yield target, descriptor, temporary
        finally:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(
            f"cannot write {path}: {error.strerror}; choose a path in an existing folder that you may write to"
        ) from error
