"""Owns reading a few members of a tar archive, in one pass over a stream and in bounded memory.

Layout (POSIX ustar): each member is a header of 512 bytes and its content, padded to a multiple of 512; two blocks
of zeros end the archive. Python's tarfile keeps a record of every member, of which a small file can have millions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pynn.data.streams import Readable, read_at_most
from pynn.text import clean

__all__ = ["read_tar"]

_BLOCK = 512
_MAX_MEMBERS = 1000


def read_tar(
    stream: Readable, wanted: Collection[str], max_member: int, max_archive: int
) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each member that is `wanted`, in the archive's order; the others are read over.

    The stream is read to its end. Raises ValueError for an archive of more than `max_archive` bytes or a thousand
    members, and for a wanted member that is no plain file, is there twice, or has more than `max_member` bytes.
    """
    seen: set[str] = set()
    size, ended = 0, False

    def read(n: int) -> bytearray:
        nonlocal size
        size += n
        if size > max_archive:
            raise ValueError(f"it unpacks to more than {max_archive:,} bytes")
        return read_at_most(stream, n)

    for _ in range(_MAX_MEMBERS):
        header = read(_BLOCK)
        if not any(header) and len(header) in (0, _BLOCK):
            ended = True
            break
        name, kind, length = _parse(bytes(header))
        padded = -(-length // _BLOCK) * _BLOCK
        if name not in wanted:
            while padded:
                n = min(padded, 1 << 20)
                if len(read(n)) != n:
                    raise ValueError(f"it ends within {clean(name, 60)}")
                padded -= n
            continue
        if kind not in (b"0", b"\0"):
            raise ValueError(f"{name} is no plain file")
        if name in seen:
            raise ValueError(f"it holds {name} twice")
        if length > max_member:
            raise ValueError(f"{name} has more than {max_member:,} bytes")
        content = read(padded)
        if len(content) != padded:
            raise ValueError(f"it ends within {name}")
        seen.add(name)
        yield name, bytes(memoryview(content)[:length])
    if not ended:
        raise ValueError(f"it has more than {_MAX_MEMBERS:,} members")
    while read(1 << 16):  # to the end, where checksums are verified
        pass


def _parse(header: bytes) -> tuple[str, bytes, int]:
    """Name, type and length of a member."""
    if len(header) < _BLOCK:
        raise ValueError("it ends within a header")
    if _octal(header[148:156]) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        raise ValueError("it is no tar archive, or damaged (a header's checksum is wrong)")
    prefix = header[345:500] if header[257:263] == b"ustar\0" else b""
    parts = (part.split(b"\0")[0].decode("utf-8", "replace") for part in (prefix, header[:100]))
    return "/".join(part for part in parts if part).rstrip("/"), header[156:157], _octal(header[124:136])


def _octal(field: bytes) -> int:
    digits = field.split(b"\0")[0].strip() or b"0"
    if not digits.isdigit():
        raise ValueError("it is no tar archive, or damaged (a header's number is none)")
    return int(digits, 8)
