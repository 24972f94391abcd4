"""Owns binary20, the binary data set of the questions Q2 and Q3."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pynn.data.dataset import DataError, Dataset
from pynn.data.locate import find
from pynn.data.npz import open_npz
from pynn.text import clean

__all__ = ["load_binary20"]


def load_binary20(data_dir=None) -> Dataset:
    """binary20: 1,000 samples of 20 features, float32 (N, 20), labels 0 and 1, from the course that asks Q1–Q7.

    Rows 0–499 are the training, 500–749 the validation and 750–999 the test part. `binary20.npz` (arrays X and y)
    is looked for in `data_dir`, else PYNN_DATA, the cache; it has no public mirror. Raises DataNotFound or
    DataError.
    """
    path = find("binary20", "binary20.npz", _look, data_dir)
    with open_npz(path) as archive:
        found = {name: archive.header(name) for name in archive.names if name in ("X", "y")}
        shapes = {name: header.shape for name, header in found.items()}
        if (
            shapes != {"X": (1000, 20), "y": (1000,)}
            or found["X"].dtype.kind != "f"
            or found["y"].dtype.kind not in "biuf"
        ):
            got = ", ".join(f"{name} {header.dtype} {header.shape}" for name, header in found.items()) or "neither"
            raise DataError(
                f"{clean(path)}: expected floating-point X of shape (1000, 20) and y of shape (1000,), got {got}"
            )
        x, y = archive.read("X"), archive.read("y")
    if not np.isin(y, (0, 1)).all():
        raise DataError(f"{clean(path)}: expected labels 0 and 1 in y")
    if not np.isfinite(x).all():
        raise DataError(f"{clean(path)}: X has values that are not finite")
    x, y = x.astype(np.float32), y.astype(np.int64)
    train, val, test = ((x[rows], y[rows]) for rows in (slice(0, 500), slice(500, 750), slice(750, 1000)))
    citation = "the course whose questions Q1–Q7 pynn answers"
    return Dataset.from_parts("binary20", train, val, test, classes=("0", "1"), origin="real", citation=citation)


def _look(place: Path) -> Path | None:
    return place / "binary20.npz" if (place / "binary20.npz").is_file() else None
