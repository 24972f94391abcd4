"""Owns the container of model files and checkpoints: safetensors, with one JSON object and a checksum as metadata.

Files are read here, not by the safetensors package, because a file may come from anywhere: it is read once, never
mapped (a map of a file that shrinks ends the process), each array into its own memory, after all sizes have been
compared with the file's. Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from typing import BinaryIO

import numpy as np

from pynn.text import clean

__all__ = ["pack", "require_safetensors", "unpack"]

MAX_HEADER = 1 << 25  # bytes
MAX_VALUES = 1 << 22  # of JSON: each takes some 60 bytes of memory, where a file needs two
_SEAL = re.compile(r'\{"sha256": "([0-9a-f]{64})", ')
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "<u1",
    "BOOL": "<u1",
}


def pack(tensors: dict[str, np.ndarray], text: str) -> bytes:
    """The bytes of a file of these arrays and this JSON object, sealed; ValueError where the text is too long."""
    # safetensors takes the memory as it lies, so arrays in any other order than C would come back scrambled.
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    sealed = f'{{"sha256": "{_checksum(arrays, text)}", {text[1:]}'  # one entry: safetensors orders them by chance
    data = require_safetensors().numpy.save(arrays, metadata={"pynn": sealed})
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER or _values(data[8 : 8 + length]) > MAX_VALUES:
        raise ValueError(
            f"its header would have {length} bytes, more than can be read again: keep less in metadata"
        )
    return data


def unpack(file: BinaryIO) -> tuple[dict[str, np.ndarray], object]:
    """(arrays by name, JSON value or None where there is none) of a file that is open at its beginning.

    Raises ValueError (RecursionError for JSON that is nested too deeply) where it is not a whole file of this kind
    or its checksum is not that of its content. Files without a checksum, from before there was one, are taken.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or not 2 <= length <= min(size - 8, MAX_HEADER):
        raise ValueError(f"its header has {length} bytes, of {size} in the file")
    header = _parse(_read(file, length).decode("utf-8"))
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata are no texts")
    places = sorted((_place(name, entry) for name, entry in header.items()), key=lambda place: place[0])
    end = 0
    for begin, stop, name, dtype, shape in places:
        if begin != end or stop - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{clean(name, 60)} is not where its shape and the array before it say")
        end = stop
    if end != size - 8 - length:
        raise ValueError(f"its arrays take {end} bytes, the file has {size - 8 - length} for them")
    arrays = {name: _read_array(file, dtype, shape) for _, _, name, dtype, shape in places}
    arrays = {name: array != 0 if header[name]["dtype"] == "BOOL" else array for name, array in arrays.items()}
    text = metadata.get("pynn", "null")
    if seal := _SEAL.match(text):
        text = "{" + text[seal.end() :]
        if seal[1] != _checksum(arrays, text):
            raise ValueError("its checksum is not that of its content")
    return arrays, _parse(text)


def _parse(text: str):
    """The value of a JSON text. ValueError for what is beyond JSON: NaN, keys that stand twice, endless values."""
    if _values(text.encode("utf-8", "surrogatepass")) > MAX_VALUES:
        raise ValueError(f"it has more than {MAX_VALUES} values")
    return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite)


def require_safetensors():
    """The package, or an ImportError that says how to get it."""
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            'model files and checkpoints need the safetensors package: pip install "pynn-cnn[io]"'
        ) from error
    return safetensors


def _checksum(arrays: dict[str, np.ndarray], text: str) -> str:
    """SHA-256 of the text and of every array, with its name, dtype and shape."""
    total = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    for name in sorted(arrays):
        array = arrays[name]
        total.update(
            f"\n{name} {array.dtype.newbyteorder('<').str} {array.shape}\n".encode("utf-8", "surrogatepass")
        )
        total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def _place(name: str, entry) -> tuple[int, int, str, np.dtype, tuple[int, ...]]:
    """(begin, end, name, dtype, shape) of an entry of the header."""
    match entry:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [int(begin), int(end)]} if (
            kind in _DTYPES
            and len(shape) <= 32
            and all(type(side) is int and 0 <= side < 1 << 48 for side in shape)
            and 0 <= begin <= end < 1 << 62
        ):
            return begin, end, name, np.dtype(_DTYPES[kind]), tuple(shape)
    raise ValueError(f"its entry {clean(name, 60)} describes no array: {clean(entry, 60)}")


def _read(file: BinaryIO, n: int) -> bytes:
    data = file.read(n)
    if len(data) != n:
        raise ValueError("it became shorter while it was read")
    return data


def _read_array(file: BinaryIO, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    array = np.empty(shape, dtype)
    octets = array.reshape(-1).view(np.uint8)
    if octets.size and file.readinto(octets) != octets.size:  # type: ignore[attr-defined]
        raise ValueError("it became shorter while it was read")
    return array


def _values(text: bytes) -> int:
    """At least the number of values in a JSON text."""
    return sum(text.count(mark) for mark in (b",", b"[", b"{"))


def _object(pairs: list[tuple]) -> dict:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("an object of its header has the same key twice")
    return value


def _no_number(name: str):
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.40} is too large for a number")
    return value
