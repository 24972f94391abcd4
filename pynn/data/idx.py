"""Owns the IDX format of the MNIST files: big-endian sizes, then unsigned bytes; plain or gzip.

Layout (http://yann.lecun.com/exdb/mnist/): two zero bytes, the type (8: unsigned byte), the number of axes, one
32-bit size per axis, then the items in C order.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pynn.data.dataset import reading
from pynn.data.streams import MAX_DEFLATE_RATIO, Gunzip, Readable, open_regular, read_at_most

__all__ = ["idx_shape", "read_idx"]


def idx_shape(path: Path, ndim: int) -> tuple[int, ...]:
    """The shape that the header of an IDX file of `ndim` axes claims; raises DataError as `read_idx` does.

    Nothing else is read: whether the file's size admits that shape is compared first.
    """
    with _opened(path, ndim) as (_, shape):
        return shape


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """The uint8 array of `ndim` axes in an IDX file; `.gz` files are decompressed.

    Raises DataError where the file is no such array: unreadable, wrong magic number, fewer or more items than its
    header says.
    """
    with _opened(path, ndim) as (stream, shape):
        size = math.prod(shape)
        content = read_at_most(stream, size + 1)
        if len(content) != size:
            found = "more" if len(content) > size else f"only {len(content):,}"
            raise ValueError(f"its header claims {size:,} items, but it holds {found}")
        return np.frombuffer(content, np.uint8).reshape(shape)


@contextmanager
def _opened(path: Path, ndim: int) -> Iterator[tuple[Readable, tuple[int, ...]]]:
    """The stream of the items, and their shape."""
    with reading(path, "IDX file", "get the file again"), open_regular(path) as file:
        stream = Gunzip(file) if path.suffix == ".gz" else file
        header = read_at_most(stream, 4 + 4 * ndim)
        if len(header) < 4 + 4 * ndim:
            raise ValueError("it ends within its header")
        magic, *shape = struct.unpack(f">{1 + ndim}I", header)
        if magic != 0x0800 | ndim:
            raise ValueError(
                f"expected magic number 0x{0x0800 | ndim:08x} (bytes, {ndim} axes), got 0x{magic:08x}"
            )
        size, held = math.prod(shape), os.fstat(file.fileno()).st_size
        if stream is file and size != held - len(header):
            raise ValueError(f"its header claims {size:,} items, but it holds {held - len(header):,}")
        if size > held * MAX_DEFLATE_RATIO:
            raise ValueError(f"its header claims {size:,} items, which its {held:,} bytes cannot hold")
        yield stream, tuple(shape)
