"""Owns how samples are split into training, validation and test parts, and labels turned into class indices."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

import numpy as np

from pynn.data.dataset import DataError
from pynn.text import clean
from pynn.values import as_float, is_integer, is_number

__all__ = ["check_split", "class_indices", "held_out", "rows_of", "stratified", "tail"]

_PIECE = 1 << 18  # bytes that are copied at a time


def tail(n: int, fraction: float) -> tuple[slice, slice]:
    """The rows before and in the last `fraction` of `n` rows."""
    if not (is_number(fraction) and 0 <= fraction < 1):
        raise ValueError(f"val_fraction must be at least 0 and below 1, got {clean(fraction, 40)}")
    cut = n - round(n * fraction)
    return slice(0, cut), slice(cut, n)


def check_split(fractions: tuple[float, float], seed: int) -> None:
    """Raises ValueError unless `fractions` (val, test) are from 0 up, together below 1, and `seed` is whole."""
    # So written, NaN is refused as well.
    if not (all(map(is_number, fractions)) and min(fractions) >= 0 and sum(map(as_float, fractions)) < 1):
        raise ValueError(
            f"val_fraction and test_fraction must be at least 0 and together below 1, got {clean(fractions)}"
        )
    if seed is not None and not (is_integer(seed) and seed >= 0):
        raise ValueError(f"seed must be a whole number from 0, got {clean(seed)}")


def stratified(
    y: np.ndarray, fractions: tuple[float, float], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorted row indices (train, val, test), each class split alike; `fractions` are those of val and test.

    y : (N,) int64, class indices. Of a class with n samples, round(n · fraction) go to each of val and test.
    """
    check_split(fractions, seed)
    order = np.random.default_rng(seed).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]  # by class, shuffled within each
    counts = np.bincount(y)
    rank = np.arange(len(y)) - np.repeat(np.cumsum(counts) - counts, counts)
    val_end = np.round(counts * fractions[0])
    test_end = val_end + np.round(counts * fractions[1])
    in_val = rank < np.repeat(val_end, counts)
    in_test = ~in_val & (rank < np.repeat(test_end, counts))
    return np.sort(order[~in_val & ~in_test]), np.sort(order[in_val]), np.sort(order[in_test])


def class_indices(
    labels: Mapping[str, tuple[str, np.ndarray]], path, *, folders: bool = False
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Labels as indices 0 … K−1 into their sorted distinct values, and these as text: the names of the classes.

    labels : of each part, what they are called in errors, and (N,) or (N, 1) integers, whole floats, booleans,
        strings or UTF-8 bytes; or (N, K) one-hot rows, which count as the index of their 1
    path : names the data in errors

    Raises DataError for other kinds, fewer than two classes, a class that the training part lacks, and names that
    differ by case or spaces alone, which mostly are one class; single letters are taken unless they are `folders`.
    """
    whole = {part: _one_kind(y, name, path) for part, (name, y) in labels.items()}
    if len({y.dtype.kind == "U" for y in whole.values() if len(y)}) > 1:
        raise DataError(f"{clean(path)}: some parts have labels that are strings, others numbers")
    distinct = {part: np.unique(y) for part, y in whole.items() if len(y)}
    classes = np.unique(np.concatenate([*distinct.values()])) if distinct else np.empty(0)
    if len(classes) < 2:
        raise DataError(f"{clean(path)}: expected labels of at least two classes, got {len(classes)}")
    names = tuple(str(c) for c in classes)
    _require_no_twins(names, path, folders)
    for part, values in distinct.items():
        if part != "train" and len(unknown := np.setdiff1d(values, distinct.get("train", values[:0]))):
            few = ", ".join(clean(value, 20) for value in unknown[:3]) + (", …" if len(unknown) > 3 else "")
            raise DataError(
                f"{clean(path)}: the {part} part has the class {few}, of which there is no training sample: "
                "add some or take it out"
            )
    return {part: np.searchsorted(classes, y) for part, y in whole.items()}, names


def _one_kind(y: np.ndarray, name: str, path) -> np.ndarray:
    """`y` as (N,) of int64, uint64 (beyond int64 alone), bool or text."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2 and y.shape[1] > 1 and y.dtype.kind in "biuf" and _is_one_hot(y):
        y = y.argmax(axis=1)
    if y.ndim != 1:
        raise DataError(f"{clean(path)}: expected {name} labels of shape (N,) or one-hot (N, K), got {y.shape}")
    if y.dtype.kind == "f":
        wrong = np.flatnonzero(~((y == np.round(y)) & (np.abs(y) < 2**53)))  # so written, NaN is found as well
        if len(wrong):
            raise DataError(
                f"{clean(path)}: expected {name} labels that are integers or strings, got {y.dtype} with "
                f"{y[wrong[0]]:g} in row {wrong[0]}"
            )
        y = y.astype(np.int64)
    if y.dtype.kind == "u" and (not len(y) or y.max() < 2**63):
        y = y.astype(np.int64)  # beside int64 parts, NumPy would turn uint64 into floating point
    if y.dtype.kind == "S":
        try:
            y = np.char.decode(y, "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{clean(path)}: {name} holds the label {clean(error.object, 40)}, which is no UTF-8 text"
            ) from error
    if y.dtype.kind not in "biuU":
        raise DataError(f"{clean(path)}: expected {name} labels that are integers or strings, got {y.dtype}")
    return y


def _is_one_hot(y: np.ndarray) -> bool:
    return bool(len(y)) and bool(((y == 0) | (y == 1)).all() and (np.count_nonzero(y, axis=1) == 1).all())


def _require_no_twins(names: tuple[str, ...], path, folders: bool) -> None:
    seen: dict[str, str] = {}
    for name in names:
        folded = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        twin = seen.setdefault(folded, name)
        if twin != name and (folders or len(folded) > 1):
            raise DataError(
                f"{clean(path)}: the classes {clean(repr(twin), 40)} and {clean(repr(name), 40)} differ by case "
                "or spaces alone: give them one name"
            )


def held_out(
    y: Mapping[str, np.ndarray], fractions: tuple[float, float], seed: int
) -> dict[str, tuple[str, np.ndarray]]:
    """Of each of "train", "val" and "test": the part of `y` that it comes from, and its sorted row indices there.

    Parts that `y` lacks are split off the training part, in the `fractions` of val and test.
    """
    val_fraction, test_fraction = (
        0.0 if part in y else fraction for part, fraction in zip(("val", "test"), fractions, strict=True)
    )
    split = zip(("train", "val", "test"), stratified(y["train"], (val_fraction, test_fraction), seed), strict=True)
    return {
        part: (part, np.arange(len(y[part]))) if part in y and part != "train" else ("train", rows)
        for part, rows in split
    }


def rows_of(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`x[rows]` in C order, for sorted distinct rows: in pieces, or `x` itself where these are all its rows."""
    if len(rows) == len(x):
        return np.ascontiguousarray(x)
    out = np.empty((len(rows), *x.shape[1:]), x.dtype)
    step = max(1, _PIECE // max(1, x[:1].nbytes))
    for at in range(0, len(rows), step):
        out[at : at + step] = x[rows[at : at + step]]
    return out
