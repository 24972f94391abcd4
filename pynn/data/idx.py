"""Owns the IDX format of the MNIST files: big-endian sizes, then unsigned bytes; plain or gzip.

Layout (http://yann.lecun.com/exdb/mnist/): two zero bytes, the type (8: unsigned byte), the number of axes, one
32-bit size per axis, then the items in C order.
"""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np

from pynn.data.dataset import reading
from pynn.data.streams import read_at_most

__all__ = ["read_idx"]


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """The uint8 array of `ndim` axes in an IDX file; `.gz` files are decompressed.

    Raises DataError where the file is no such array: unreadable, wrong magic number, fewer or more items than its
    header says.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    with reading(path, "IDX file", "get the file again"), opener(path, "rb") as stream:
        header = stream.read(4 + 4 * ndim)
        if len(header) < 4 + 4 * ndim:
            raise ValueError("it ends within its header")
        magic, *shape = struct.unpack(f">{1 + ndim}I", header)
        if magic != 0x0800 | ndim:
            raise ValueError(
                f"expected magic number 0x{0x0800 | ndim:08x} (bytes, {ndim} axes), got 0x{magic:08x}"
            )
        size = math.prod(shape)
        content = read_at_most(stream, size + 1)
        if len(content) != size:
            found = "more" if len(content) > size else f"only {len(content):,}"
            raise ValueError(f"its header claims {size:,} items, but it holds {found}")
        return np.frombuffer(content, np.uint8).reshape(shape)
