"""Owns a user's own arrays: which arrays of an .npz file are meant, and how they become samples and labels."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pynn.data.dataset import DataError, Dataset, reading
from pynn.data.input_format import value_range
from pynn.data.npz import Header, NpzFile, open_npz, require_exact
from pynn.data.splits import check_split, class_indices, held_out, rows_of
from pynn.text import clean

__all__ = ["array_names", "load_npz", "sample_shape", "samples"]

_PARTS = {None: "train", "train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_NAME = re.compile(r"([xy])(?:_(train|val|valid|validation|test))?", re.IGNORECASE)
_PIECE = 1 << 16  # items that are looked at together
_OFFSET = 64  # in standard deviations: what float32 rounds of such a feature is 4e-6 of one


def load_npz(
    path: str | os.PathLike, *, val_fraction: float = 0.1, test_fraction: float = 0.1, seed: int = 0
) -> Dataset:
    """A user's own data: arrays x_train, y_train and, where there, x_val, y_val, x_test, y_test; or X and y.

    x : (N, D) numbers, which become float32, or float64 where float32 would cost a feature its digits, its mean
        being above 64 standard deviations, as of times in seconds (`Standardize` centres in float64); or images
        (N, H, W) or (N, C, H, W), uint8 or else float32
    y : (N,) integers or strings of any kind, or (N, K) one-hot: the classes are their sorted distinct values

    The case of the names does not matter; x_valid and x_validation are x_val. Parts that the file lacks are split
    off the training part: `val_fraction` and `test_fraction` of it, each class alike, by a generator seeded with
    `seed`. Raises DataError where the file or its arrays do not fit, or it has others, which would be ignored.
    """
    path = Path(path)
    check_split((val_fraction, test_fraction), seed)
    with open_npz(path) as archive:
        names = array_names(archive.names, path)
        headers = {name: archive.header(name) for pair in names.values() for name in pair}
        for x_name, y_name in names.values():
            sample_shape(headers[x_name], x_name, path)
            n, n_labels = headers[x_name].shape[0], headers[y_name].shape
            if n_labels and n != n_labels[0]:
                raise DataError(f"{clean(path)}: {x_name} has {n} samples, but {y_name} {n_labels[0]} labels")
        labels = {part: (y_name, archive.read(y_name)) for part, (_, y_name) in names.items()}
        y, classes = class_indices(labels, path)
        x = {part: _read_samples(archive, name, path) for part, (name, _) in names.items()}
        dtype = np.result_type(*(array.dtype for array in x.values() if array.dtype != np.uint8), np.float32)
        x = {
            part: array if array.dtype == np.uint8 else array.astype(dtype, copy=False)
            for part, array in x.items()
        }
        _require_one_scale({names[part][0]: array for part, array in x.items()}, path)
    rows = held_out(y, (val_fraction, test_fraction), seed)
    with reading(path, ".npz file"):
        parts = [
            (rows_of(x[source], at), y[source][at])
            for source, at in (rows[part] for part in ("train", "val", "test"))
        ]
    return Dataset.from_parts(
        path.stem,
        *parts,
        classes=classes,
        origin="real",
        citation=str(path),
        value_range=value_range(parts[0][0]),
    )


def array_names(found: Sequence[str], path) -> dict[str, tuple[str, str]]:
    """The names of x and y of the parts "train", "val" and "test" that the arrays called `found` have.

    Raises DataError for a part without its x or y, for two names of one array, and for any other array.
    """
    names: dict[tuple[str, str], str] = {}
    for name in found:
        match = _NAME.fullmatch(name)
        if match is None:
            known = ["x_train", "y_train", "x_val", "y_val", "x_test", "y_test", "X", "y"]
            close = difflib.get_close_matches(name.lower(), known, 1, 0.7)
            meant = f"did you mean {close[0]}?" if close else "rename it or leave it out"
            raise DataError(
                f"{clean(path)}: expected x_train and y_train, or X and y (and _val, _test), but the file has "
                f"{clean(name, 40)}: {meant}"
            )
        key = match[1].lower(), _PARTS[match[2] and match[2].lower()]
        if key in names:
            raise DataError(f"{clean(path)}: {names[key]} and {name} are both the {key[1]} part: leave out one")
        names[key] = name
    pairs = {}
    for part in ("train", "val", "test"):
        x, y = names.get(("x", part)), names.get(("y", part))
        if part != "train" and x is None and y is None:
            continue
        if x is None or y is None:
            missing = " and ".join(f"{kind}_{part}" for kind, name in (("x", x), ("y", y)) if name is None)
            either = ", or X and y" if part == "train" else ""
            raise DataError(
                f"{clean(path)}: {missing} missing (expected x_{part} and y_{part}{either}), "
                f"the file has {clean(', '.join(found), 60) or 'nothing'}"
            )
        pairs[part] = x, y
    return pairs


def sample_shape(header: Header, name: str, path) -> tuple[int, ...]:
    """The shape (D,) or (C, H, W) of the samples in an array; DataError where it can hold none."""
    shape, dtype = header.shape, header.dtype
    if dtype.kind not in "biuf" or len(shape) not in (2, 3, 4) or 0 in shape[1:]:
        raise DataError(
            f"{clean(path)}: expected {name} to be numbers of shape (N, D), (N, H, W) or (N, C, H, W), "
            f"got {dtype} {shape}"
        )
    if len(shape) == 4 and min(shape[1:3]) > 4 and shape[3] in (1, 3, 4):
        raise DataError(
            f"{clean(path)}: expected {name} of shape (N, C, H, W), got {shape}, whose channels come last: "
            f"save np.moveaxis({name}, 3, 1)"
        )
    return (1, *shape[1:]) if len(shape) == 3 else shape[1:]


def samples(x: np.ndarray, name: str, path) -> np.ndarray:
    """The array `x`, called `name` in the file at `path`, as (N, D) or (N, C, H, W).

    Images are uint8 or float32; features float32, or float64 where float32 would round them.

    Raises DataError where it is neither features nor images, or not finite.
    """
    header = Header(x.shape, x.dtype, False, 0)
    shape, dtype = sample_shape(header, name, path), _sample_dtype(header)
    if dtype == np.float64 and x.dtype.kind in "iu":
        with reading(path, "array"):
            require_exact(x, name)
    with np.errstate(over="ignore"):  # what overflows is refused by the next line
        return _finite(x.astype(dtype, copy=False).reshape(len(x), *shape), name, path)


def _read_samples(archive: NpzFile, name: str, path) -> np.ndarray:
    """An array's samples; in float64 where float32 would cost a feature its digits."""
    header = archive.header(name)
    shape, dtype = (header.shape[0], *sample_shape(header, name, path)), _sample_dtype(header)
    x = _finite(archive.read(name, np.float32 if dtype == np.float64 else dtype).reshape(shape), name, path)
    if dtype == np.float64 and len(x) and _has_offset(x, constant=True):
        del x  # before as much is read again, twice as wide
        x = archive.read(name, dtype)
        if not _has_offset(x, constant=False):
            x = x.astype(np.float32)
    return x


def _sample_dtype(header: Header) -> np.dtype:
    """uint8 for images of bytes; float64 for features that float32 may round; else float32."""
    if len(header.shape) > 2:
        return np.dtype(np.uint8 if header.dtype == np.uint8 else np.float32)
    return np.dtype(np.float32 if np.can_cast(header.dtype, np.float32) else np.float64)


def _has_offset(x: np.ndarray, *, constant: bool) -> bool:
    """Whether a feature's mean is above _OFFSET of its standard deviations; or it is `constant`, and not 0."""
    mean = x.mean(axis=0, dtype=np.float64)
    squares, same = np.zeros_like(mean), np.ones(mean.shape, bool)
    for piece in _pieces(x):
        squares += np.square(piece - mean).sum(axis=0)
        same &= (piece == x[0]).all(axis=0)
    far = np.abs(mean) > _OFFSET * np.sqrt(squares / len(x))
    return bool((np.where(same, mean != 0, far) if constant else far & ~same).any())


def _pieces(x: np.ndarray) -> Iterator[np.ndarray]:
    rows = max(1, _PIECE // max(1, x[:1].size))
    return (x[at : at + rows] for at in range(0, len(x), rows))


def _finite(x: np.ndarray, name: str, path) -> np.ndarray:
    if x.dtype == np.uint8:
        return x
    largest = np.finfo(np.float32).max
    bad, where, at = 0, "", 0
    for piece in _pieces(x):
        wrong = ~(np.abs(piece) <= largest)  # so written, NaN is found as well
        if wrong.any():
            row, column, *_ = np.argwhere(wrong)[0]
            where = where or f"row {at + row}" + (f", column {column}" if x.ndim == 2 else "")
            bad += int(np.count_nonzero(wrong))
        at += len(piece)
    if bad:
        raise DataError(
            f"{clean(path)}: {name} has {bad} values that are not finite in float32, the first in {where} "
            "(counted from 0): remove or replace them"
        )
    return x


def _require_one_scale(x: dict[str, np.ndarray], path) -> None:
    """Refuses float images of which one part counts 0 … 1 and another 0 … 255."""
    ranges = {name: value_range(array) for name, array in x.items() if array.ndim == 4 and array.dtype != np.uint8}
    known = {name: found for name, found in ranges.items() if found is not None}
    for name, found in known.items():
        first, expected = next(iter(known.items()))
        if found != expected:
            raise DataError(
                f"{clean(path)}: {first} has values from {expected[0]:g} to {expected[1]:g}, but {name} from "
                f"{found[0]:g} to {found[1]:g}: bring them to one scale"
            )
