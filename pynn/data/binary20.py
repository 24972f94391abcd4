"""Owns binary20, the binary data set of the questions Q2 and Q3."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pynn.data.dataset import DataError, Dataset
from pynn.data.locate import find
from pynn.data.npz import read_npz

__all__ = ["load_binary20"]


def load_binary20(data_dir=None) -> Dataset:
    """binary20: 1,000 samples of 20 features, float32 (N, 20), labels 0 and 1, from the course that asks Q1–Q7.

    Rows 0–499 are the training, 500–749 the validation and 750–999 the test part. `binary20.npz` (arrays X and y)
    is looked for in `data_dir`, else PYNN_DATA, the cache; it has no public mirror. Raises DataNotFound or
    DataError.
    """
    path = find("binary20", "binary20.npz", _look, data_dir)
    arrays = read_npz(path)
    x, y = arrays.get("X"), arrays.get("y")
    if x is None or y is None or x.shape != (1000, 20) or y.shape != (1000,) or x.dtype.kind != "f":
        found = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items()) or "no arrays"
        raise DataError(
            f"{path}: expected floating-point X of shape (1000, 20) and y of shape (1000,), got {found}"
        )
    if not np.isin(y, (0, 1)).all():
        raise DataError(f"{path}: expected labels 0 and 1 in y")
    if not np.isfinite(x).all():
        raise DataError(f"{path}: X has values that are not finite")
    x, y = x.astype(np.float32), y.astype(np.int64)
    train, val, test = ((x[rows], y[rows]) for rows in (slice(0, 500), slice(500, 750), slice(750, 1000)))
    citation = "the course whose questions Q1–Q7 pynn answers"
    return Dataset.from_parts("binary20", train, val, test, classes=("0", "1"), origin="real", citation=citation)


def _look(place: Path) -> Path | None:
    return place / "binary20.npz" if (place / "binary20.npz").is_file() else None
