"""Owns reading .npz files safely: zip archives of .npy arrays, one member at a time, in bounded memory.

Layout of a member (numpy.lib.format): magic, version, length of the header, the header (a dict written in Python:
dtype, order, shape), then the items. NumPy evaluates the header as Python and decodes members as a whole.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pynn.data.dataset import reading
from pynn.data.junk import is_junk
from pynn.data.streams import MAX_DEFLATE_RATIO, open_regular, read_at_most
from pynn.text import clean

if TYPE_CHECKING:
    import zipfile

__all__ = ["Header", "NpzFile", "open_npz", "read_npz"]

_MAX_READ = 1 << 18  # bytes of the zip directory, which is read at once: some thousand members
_MAX_HEADER = 10_000  # characters, as NumPy's own limit
_FIELD = re.compile(r"\s*'(descr|fortran_order|shape)'\s*:\s*('[^']{0,40}'|True|False|\([\d,L ]*\))\s*(?:,|$)")
_DTYPE = re.compile(r"[<>|=]?(?:[biufc]\d{1,2}|[SU]\d{1,9})")


@dataclass(frozen=True)
class Header:
    """What the header of an array says, and at which byte the items begin."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of all items."""
        return math.prod(self.shape) * self.dtype.itemsize


class NpzFile:
    """The arrays of an open .npz file: `names`, and of each its `header` and, where asked for, its items."""

    def __init__(self, archive: zipfile.ZipFile):
        self._archive = archive
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in archive.infolist():
            if member.is_dir() or any(map(is_junk, member.filename.split("/"))):
                continue
            name = member.filename.removesuffix(".npy")
            if name in self._members:
                raise ValueError(f"it holds {clean(name, 40)} twice")
            self._members[name] = member

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays' names in the order of the file."""
        return tuple(self._members)

    def header(self, name: str) -> Header:
        """Shape and dtype of an array, compared with the sizes in the zip directory; nothing more is decoded."""
        member, label = self._members[name], clean(name, 40)
        if member.flag_bits & 1:
            raise ValueError(f"{label} is encrypted")
        if member.compress_type not in (0, 8):
            raise ValueError(f"{label} is compressed by another method than deflate")
        with self._archive.open(member) as stream:
            header = _parse_header(stream, label)
        held = member.compress_size * (MAX_DEFLATE_RATIO if member.compress_type else 1)
        if not header.dtype.itemsize or not header.offset + header.nbytes == member.file_size <= held:
            raise ValueError(f"{label} claims {header.nbytes:,} bytes, which it does not hold")
        return header

    def read(self, name: str, dtype=None) -> np.ndarray:
        """The array, in native byte order; or, converted piece by piece, in `dtype`.

        Raises ValueError for damage, and for integers that `dtype` float64 would round.
        """
        header, member, label = self.header(name), self._members[name], clean(name, 40)
        n, size = math.prod(header.shape), header.dtype.itemsize
        flat = np.empty(n, header.dtype.newbyteorder("=") if dtype is None else dtype)
        pieces = max(1, _MAX_READ // size)
        with self._archive.open(member) as stream:
            stream.read(header.offset)
            for at in range(0, n, pieces):
                stop = min(at + pieces, n)
                content = read_at_most(stream, (stop - at) * size)
                if len(content) != (stop - at) * size:
                    raise ValueError(f"{label} ends within its items")
                piece = np.frombuffer(content, header.dtype)
                if header.dtype.kind == "b":
                    piece = piece.view(np.uint8) != 0  # other bytes than 0 and 1 are no valid booleans
                elif header.dtype.kind == "U" and (piece.view(f"{header.dtype.byteorder}u4") > 0x10FFFF).any():
                    raise ValueError(f"{label} holds text that is none")
                elif flat.dtype == np.float64 and header.dtype.kind in "iu" and size == 8:
                    require_exact(piece, label)
                with np.errstate(over="ignore", invalid="ignore"):
                    flat[at:stop] = piece
        return flat.reshape(header.shape[::-1]).T if header.fortran_order else flat.reshape(header.shape)


def require_exact(values: np.ndarray, name: str) -> None:
    """Raises ValueError for integers beyond ±2⁵³, which float64 would round."""
    large = (values > 2**53) | (values < -(2**53)) if values.dtype.kind == "i" else values > 2**53
    if large.any():
        found = int(values[large][0])
        raise ValueError(f"{name} holds {found}, beyond 2^53, where float64 rounds integers: subtract an offset")


@contextmanager
def open_npz(path: str | os.PathLike) -> Iterator[NpzFile]:
    """The .npz file at `path`. Within, whatever goes wrong becomes a DataError that names the file."""
    import zipfile

    with (
        reading(path, ".npz file", "get it again or write it with numpy.savez"),
        _Bounded(open_regular(path).detach()) as stream,
        zipfile.ZipFile(stream) as archive,
    ):
        yield NpzFile(archive)


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name; object arrays (pickles) are refused.

    Each header is checked against the file's size before memory is allocated. Raises DataError where the file is
    none, or holds anything else than arrays of numbers or strings.
    """
    with open_npz(path) as archive:
        return {name: archive.read(name) for name in archive.names}


class _Bounded(io.BufferedReader):
    """A file of which no call reads more than _MAX_READ bytes, as zipfile would for a hostile directory."""

    def read(self, size: int | None = -1, /) -> bytes:
        limit = _MAX_READ + 1 if size is None or size < 0 else size
        content = super().read(min(limit, _MAX_READ + 1))
        if len(content) > _MAX_READ:
            raise ValueError(f"its directory has more than {_MAX_READ:,} bytes")
        return content


def _parse_header(stream, name: str) -> Header:
    magic = stream.read(8)
    if magic[:6] != b"\x93NUMPY":
        raise ValueError(f"{name} is no .npy array")
    version, width = tuple(magic[6:]), 2 if magic[6:] == b"\x01\x00" else 4
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name} has an .npy version that only odd field names need")
    length = int.from_bytes(stream.read(width), "little")
    if length > _MAX_HEADER:
        raise ValueError(f"{name} has a header of {length:,} bytes")
    text = stream.read(length).decode("latin1").strip()
    fields: dict[str, str] = {}
    rest = text[1:-1]
    while (match := _FIELD.match(rest)) and match[1] not in fields:
        fields[match[1]] = match[2]
        rest = rest[match.end() :]
    if "'descr': [" in text or fields.get("descr", "")[1:3].strip("<>|=").startswith("V"):
        raise ValueError(f"{name} holds records: save each of their fields as an array")
    if fields.get("descr", "").strip("'<>|=") == "O":
        raise ValueError(f"{name} holds Python objects: save numbers or strings")
    code = fields.get("descr", "").strip("'")
    order, shape = fields.get("fortran_order"), fields.get("shape", "")
    if rest.strip() or text[:1] + text[-1:] != "{}" or order not in ("True", "False") or not shape.startswith("("):
        raise ValueError(f"{name} has a header that is none")
    try:
        dtype = np.dtype(code) if _DTYPE.fullmatch(code) else None
    except TypeError:
        dtype = None
    if dtype is None:
        raise ValueError(f"{name} holds {clean(code, 20) or 'nothing'}: save numbers or strings")
    sizes = [size.strip().removesuffix("L") for size in shape[1:-1].split(",")]
    if sizes[-1] == "":
        sizes.pop()
    if len(sizes) > 8 or not all(size.isdigit() and len(size) < 20 for size in sizes):
        raise ValueError(f"{name} has a shape that is none")
    return Header(tuple(map(int, sizes)), dtype, order == "True", 8 + width + length)
