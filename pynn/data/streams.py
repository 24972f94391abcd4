"""Owns reading from files that may claim more than they hold."""

from __future__ import annotations

from typing import Protocol

__all__ = ["read_at_most"]


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def read_at_most(stream: Readable, limit: int) -> bytearray:
    """Up to `limit` bytes; memory grows with what is really there, not with what a header claims."""
    content = bytearray()
    while len(content) < limit and (chunk := stream.read(min(1 << 20, limit - len(content)))):
        content += chunk
    return content
