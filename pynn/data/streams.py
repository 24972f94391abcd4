"""Owns opening and reading files that may be no files, or claim more than they hold."""

from __future__ import annotations

import errno
import os
import stat
import zlib
from io import BufferedReader
from typing import Protocol

__all__ = ["MAX_DEFLATE_RATIO", "Gunzip", "open_regular", "read_at_most"]

# A match of deflate gives at most 258 bytes for two bits: no stream holds more than this many times its size.
MAX_DEFLATE_RATIO = 1032
_MAX_GZIP_MEMBERS = 1000
_CHUNK = 1 << 18


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def open_regular(path: str | os.PathLike) -> BufferedReader:
    """The regular file at `path`, open for reading; links are followed.

    Raises ValueError for a FIFO, a socket or a device, which could hang or act when opened, OSError otherwise.
    """
    _require_regular(os.stat(path))  # before opening: to open a device can be an action
    # Not to wait for a writer, should a FIFO have taken the file's place in between.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags)
    try:
        _require_regular(os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    raise ValueError(f"it is {kinds.get(stat.S_IFMT(status.st_mode), 'something else')}, not a regular file")


def read_at_most(stream: Readable, limit: int) -> bytearray:
    """Up to `limit` bytes; memory grows with what is really there, not with what a header claims."""
    content = bytearray()
    while len(content) < limit and (chunk := stream.read(min(1 << 20, limit - len(content)))):
        content += chunk
    return content


class Gunzip:
    """Reads a gzip stream in bounded pieces; sizes and checksums of its members are verified as they end.

    gzip.GzipFile is slow where a file has millions of members of no bytes; here a thousand are the limit.
    """

    def __init__(self, stream: Readable):
        self._stream = stream
        self._packed = b""
        self._member: zlib._Decompress | None = None
        self._members = 0

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size` and at least one; none at the end."""
        while True:
            ended = False
            if not self._packed:
                self._packed = self._stream.read(_CHUNK)
                ended = not self._packed
            if self._member is None:
                if ended:
                    return b""
                if self._members:
                    self._packed = self._packed.lstrip(b"\0")  # zeros behind a member are padding
                    if not self._packed:
                        continue
                if self._members == _MAX_GZIP_MEMBERS:
                    raise ValueError(f"it has more than {_MAX_GZIP_MEMBERS:,} gzip members")
                self._member, self._members = zlib.decompressobj(wbits=31), self._members + 1
            try:
                content = self._member.decompress(self._packed, size)
            except zlib.error as error:
                raise ValueError(f"it is no gzip file, or damaged ({error})") from error
            self._packed = self._member.unconsumed_tail
            if self._member.eof:
                self._packed, self._member = self._member.unused_data, None
            elif ended and not content:
                raise EOFError("it ends within its compressed data")
            if content:
                return content
