"""Writes pynn/data/embedded/*.npz from scikit-learn's copies of the UCI data sets.

python tests/data/make_embedded.py     # needs scikit-learn

Run once; the results are committed. The split is stored, not drawn at load time, because NumPy may change the
stream of a seeded generator between versions.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits

from pynn.data.splits import stratified

FOLDER = Path(__file__).resolve().parents[2] / "pynn" / "data" / "embedded"


def write(name: str, x: np.ndarray, y: np.ndarray) -> None:
    parts = zip(("train", "val", "test"), stratified(y, (0.2, 0.2), seed=0), strict=True)
    arrays = {f"{kind}_{part}": array[rows] for part, rows in parts for kind, array in (("x", x), ("y", y))}
    np.savez_compressed(FOLDER / f"{name}.npz", **arrays)


if __name__ == "__main__":
    digits, cancer = load_digits(), load_breast_cancer()
    write("digits", (digits.images[:, np.newaxis] * 15).astype(np.uint8), digits.target.astype(np.int64))
    write("breast_cancer", cancer.data.astype(np.float32), cancer.target.astype(np.int64))
