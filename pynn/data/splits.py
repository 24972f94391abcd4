"""Owns how samples are split into training, validation and test parts, and labels turned into class indices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pynn.data.dataset import DataError, Dataset, Part

__all__ = ["assemble", "class_indices", "stratified", "tail"]


def tail(n: int, fraction: float) -> tuple[slice, slice]:
    """The rows before and in the last `fraction` of `n` rows."""
    if not 0 <= fraction < 1:
        raise ValueError(f"val_fraction must be at least 0 and below 1, got {fraction!r}")
    cut = n - round(n * fraction)
    return slice(0, cut), slice(cut, n)


def stratified(
    y: np.ndarray, fractions: tuple[float, float], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorted row indices (train, val, test), each class split alike; `fractions` are those of val and test.

    y : (N,) int64, class indices. Of a class with n samples, round(n · fraction) go to each of val and test.
    """
    if not (min(fractions) >= 0 and sum(fractions) < 1):  # so written, NaN is refused as well
        raise ValueError(
            f"val_fraction and test_fraction must be at least 0 and together below 1, got {fractions}"
        )
    order = np.random.default_rng(seed).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]  # by class, shuffled within each
    counts = np.bincount(y)
    rank = np.arange(len(y)) - np.repeat(np.cumsum(counts) - counts, counts)
    val_end = np.round(counts * fractions[0])
    test_end = val_end + np.round(counts * fractions[1])
    in_val = rank < np.repeat(val_end, counts)
    in_test = ~in_val & (rank < np.repeat(test_end, counts))
    return np.sort(order[~in_val & ~in_test]), np.sort(order[in_val]), np.sort(order[in_test])


def class_indices(labels: Mapping[str, np.ndarray], source: str) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Labels of integer, boolean or string kind as indices 0 … K−1 into their sorted distinct values, and these.

    Whole floating-point numbers count as integers. Raises DataError for other kinds, or fewer than two classes.
    """
    whole = {}
    for part, y in labels.items():
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 1:
            raise DataError(f"{source}: expected {part} labels of shape (N,), got {y.shape}")
        if (
            y.dtype.kind == "f"
            and np.all(np.isfinite(y))
            and np.all(y == np.round(y))
            and np.all(np.abs(y) < 2**53)
        ):
            y = y.astype(np.int64)
        if y.dtype.kind == "u" and len(y) and y.max() < 2**63:
            y = y.astype(np.int64)  # beside int64 parts, NumPy would turn uint64 into floating point
        if y.dtype.kind == "S":
            y = np.char.decode(y, "utf-8")
        if y.dtype.kind not in "biuU":
            raise DataError(f"{source}: expected {part} labels that are integers or strings, got {y.dtype}")
        whole[part] = y
    kinds = {y.dtype.kind == "U" for y in whole.values() if len(y)}
    if len(kinds) > 1:
        raise DataError(f"{source}: some parts have labels that are strings, others numbers")
    classes = np.unique(np.concatenate([np.unique(y) for y in whole.values() if len(y)] or [np.empty(0)]))
    if len(classes) < 2:
        raise DataError(f"{source}: expected labels of at least two classes, got {len(classes)}")
    return {part: np.searchsorted(classes, y) for part, y in whole.items()}, tuple(str(c) for c in classes)


def assemble(
    name: str,
    parts: Mapping[str, Part],
    classes: tuple[str, ...],
    fractions: tuple[float, float],
    seed: int,
    *,
    citation: str,
) -> Dataset:
    """A Dataset of the parts "train" and, where given, "val" and "test", each (x, y).

    Those not given are split off the training part, in the `fractions` of val and test.
    """
    val_fraction, test_fraction = (
        0.0 if part in parts else fraction for part, fraction in zip(("val", "test"), fractions, strict=True)
    )
    x, y = parts["train"]
    train, val, test = ((x[rows], y[rows]) for rows in stratified(y, (val_fraction, test_fraction), seed))
    val, test = parts.get("val", val), parts.get("test", test)
    return Dataset.from_parts(name, train, val, test, classes=classes, origin="real", citation=citation)
