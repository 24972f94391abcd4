"""Owns reading from compressed files with a bound on memory."""

from __future__ import annotations

from typing import Protocol

__all__ = ["MAX_DEFLATE_RATIO", "read_at_most"]

# One byte of a deflate stream gives at most 1032 bytes (258-byte matches at 2 bits each), so a header that claims
# more than this many times the file's size is false, and is refused before any memory is allocated for it.
MAX_DEFLATE_RATIO = 1032


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def read_at_most(stream: Readable, limit: int) -> bytearray:
    """Up to `limit` bytes; memory grows with what is really there, not with what a header claims."""
    content = bytearray()
    while len(content) < limit and (chunk := stream.read(min(1 << 20, limit - len(content)))):
        content += chunk
    return content
