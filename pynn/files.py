"""Owns writing files: a kill at any moment leaves the old file or the new one, whole, never half of either.

And opening them to be read, where only a regular file will do.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pynn.text import clean

__all__ = ["WriteError", "check_writable", "open_regular", "write_atomic", "write_somewhere"]

_REMEDY = "choose a path in an existing folder that you may write to"


class WriteError(OSError):
    """A file cannot be written; the message names it, the reason and the remedy."""


def write_atomic(path: str | os.PathLike, data: bytes | str) -> None:
    """Writes `data` (text as UTF-8) to `path`: into a new file beside it, to the disk, then renamed over it.

    The folder must exist. A symbolic link stays and its target is replaced. The new file has the mode of the one
    that it replaces, and its owner and group where this process may give them. An error leaves the old file and
    nothing else; a kill may leave a hidden `.NAME.*.tmp` beside it, which the next write to `path` clears away.

    Raises WriteError (an OSError) where that is impossible.
    """
    try:
        rest = memoryview(data.encode() if isinstance(data, str) else data).cast("B")
    except UnicodeEncodeError as error:
        raise WriteError(f"cannot write {clean(path)}: the text has what UTF-8 has not: {error.reason}") from None
    with _beside(path) as (target, descriptor, temporary):
        while rest:
            written = os.write(descriptor, rest[: 1 << 30])
            if not written:
                raise OSError(errno.EIO, "nothing more can be written")
            rest = rest[written:]
        os.fsync(descriptor)
        os.close(
            os.dup(descriptor)
        )  # what a network's file system says on closing, it says before the old is gone
        os.replace(temporary, target)
        with suppress(OSError):  # not every file system can; the old file or the new one is there either way
            folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def check_writable(path: str | os.PathLike) -> None:
    """Raises WriteError where `write_atomic(path, …)` would be refused; leaves the folder as it was.

    Long work calls it first, so that nobody learns after an hour that the result cannot be kept.
    """
    with _beside(path):
        pass


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """`path`, opened to be read. FileNotFoundError unless it is a regular file: a FIFO would wait, a device act.

    Raises any other OSError as `open` does.
    """
    _require_path(path)
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except ValueError:  # a path that no file system takes
        regular = False
    if not regular:
        raise FileNotFoundError(errno.ENOENT, "it is not a regular file", os.fsdecode(path))
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def write_somewhere(path: str | os.PathLike, write: Callable[[Path], None]) -> tuple[Path, WriteError | None]:
    """Calls `write(path)`, and where that is a WriteError the same in other folders, so that nothing is lost.

    These are the present folder, the user's and that for temporary files, in which the file gets a name of its
    own. Returns where it was written and the error that `path` itself gave, or None. Raises that error where no
    place will do.
    """
    target = Path(path)
    try:
        write(target)
        return target, None
    except WriteError as error:
        first = error
    for folder in (Path.cwd, Path.home, lambda: Path(tempfile.gettempdir())):
        with suppress(OSError, RuntimeError):  # of a folder that is gone, a user without a home, a full disk
            elsewhere = folder() / f"{target.stem[:64]}-{os.urandom(4).hex()}{target.suffix[:16]}"
            write(elsewhere)
            return elsewhere, first
    raise first


@contextmanager
def _beside(path: str | os.PathLike) -> Iterator[tuple[Path, int, Path]]:
    """(target, descriptor, temporary): a new empty file in the target's folder, gone at the end unless renamed."""
    _require_path(path)
    try:
        target = Path(os.path.realpath(os.fsdecode(path)))
        replaced = _status(target)
        if replaced is not None and not stat.S_ISREG(replaced.st_mode):
            raise WriteError(f"cannot write {clean(path)}: it is not a regular file; choose another path")
        _clear_leftovers(target)
        descriptor, temporary = _new_file(target)
        try:
            if replaced is not None:
                _keep_mode(descriptor, replaced)
            yield target, descriptor, temporary
        finally:
            temporary.unlink(missing_ok=True)
            with suppress(OSError):  # all that counts was said before
                os.close(descriptor)
    except WriteError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a path that no file system takes
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise WriteError(f"cannot write {clean(path)}: {reason}; {_REMEDY}") from error


def _require_path(path) -> None:
    if not isinstance(path, str | bytes | os.PathLike):  # a number would be taken for an open file
        raise TypeError(f"expected the path of a file, got {clean(path)}")


def _status(target: Path) -> os.stat_result | None:
    try:
        return os.stat(target)
    except FileNotFoundError:
        return None


def _keep_mode(descriptor: int, replaced: os.stat_result) -> None:
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) != (replaced.st_uid, replaced.st_gid):
        with suppress(OSError):  # only root may give a file away
            os.fchown(descriptor, replaced.st_uid, replaced.st_gid)
    os.fchmod(descriptor, replaced.st_mode & 0o777)


# -- temporary files ----------------------------------------------------------------------------------------
#
# A writer holds a lock on its temporary file for as long as it lives. A temporary file that can be locked is
# therefore left over from a process that was killed.


def _new_file(target: Path) -> tuple[int, Path]:
    """(descriptor, path) of a new, locked, empty file beside `target`."""
    # Not tempfile.mkstemp: its files are readable by their owner alone, whatever the umask says.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    while True:
        temporary = target.with_name(f"{_prefix(target)}{os.urandom(8).hex()}.tmp")
        descriptor = os.open(temporary, flags, 0o666)
        try:
            with suppress(OSError):  # a file system without locks: there nothing is ever cleared away
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return descriptor, temporary
        except BaseException:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
            raise
        os.close(descriptor)  # somebody took it for a leftover before it was locked


def _clear_leftovers(target: Path) -> None:
    """Removes temporary files of `target` that no living process holds."""
    pattern = re.compile(re.escape(_prefix(target)) + r"[0-9a-f]+\.tmp")
    with suppress(OSError):  # a folder that cannot be listed, or whose files are another's
        for name in [name for name in os.listdir(target.parent) if pattern.fullmatch(name)]:
            with suppress(OSError):  # locked, or gone
                descriptor = os.open(
                    target.parent / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                )
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(target.parent / name)
                finally:
                    os.close(descriptor)


def _prefix(target: Path) -> str:
    """`.NAME.`, short enough for a file name of 255 bytes to follow from it."""
    name = target.name
    while len(os.fsencode(name)) > 200:
        name = name[:-1]
    return f".{name}."
