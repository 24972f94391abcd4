"""Owns the metrics: what is reported about predictions, beside the loss."""

from __future__ import annotations

import numpy as np

from pynn.losses import class_indices
from pynn.values import as_array, is_integer, shown

__all__ = ["accuracy", "confusion_matrix"]

MOST_CLASSES = 20_000  # whose matrix takes 3 GiB


def accuracy(y: np.ndarray, y_pred: np.ndarray) -> float:
    """The fraction of equal labels, 1/N Σᵢ [yᵢ = ŷᵢ].

    y, y_pred : (N,) or (N, 1), N ≥ 1, true and predicted labels of any kind: class indices, −1/+1, strings.
    Raises ValueError where shapes differ or are others, TypeError where numbers meet strings.
    """
    y, y_pred = _paired("accuracy", y, y_pred)
    return float((y == y_pred).mean())


def confusion_matrix(y: np.ndarray, y_pred: np.ndarray, n_classes: int | None = None) -> np.ndarray:
    """(K, K) int64 counts: entry [i, j] is the number of samples of true class i that were predicted as j.

    y, y_pred : (N,), true and predicted class indices from 0 to K − 1 = n_classes − 1; N may be 0. Without
    `n_classes`, K is one more than the largest index, and labels of any other kind (strings, −1/+1) are taken too:
    then rows and columns are the labels of both, sorted, as `np.unique` gives them.
    Raises ValueError, or TypeError for a wrong dtype, naming the label that does not fit.
    """
    if n_classes is None:
        y, y_pred, n_classes = _numbered(*_paired("confusion_matrix", y, y_pred))
    if not is_integer(n_classes) or not 1 <= n_classes <= MOST_CLASSES:
        raise ValueError(
            f"confusion_matrix: n_classes must be an int from 1 to {MOST_CLASSES}, got {shown(n_classes)}"
        )
    y = class_indices("confusion_matrix:", "y", y, n_classes)
    y_pred = class_indices("confusion_matrix:", "y_pred", y_pred, n_classes)
    if len(y) != len(y_pred):
        raise ValueError(f"confusion_matrix: expected as many predictions as labels, {len(y)}, got {len(y_pred)}")
    return np.bincount(y * n_classes + y_pred, minlength=n_classes**2).reshape(n_classes, n_classes)


def _numbered(y: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Both as class indices, and the number of classes."""
    both = np.concatenate([y, y_pred])
    if both.dtype.kind in "biu" and both.min() >= 0:
        return y, y_pred, int(both.max()) + 1
    classes, indices = np.unique(both, return_inverse=True)
    return indices[: len(y)], indices[len(y) :], len(classes)


def _paired(op: str, y, y_pred) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted labels as arrays (N,), known to be of one kind; (N, 1) is taken as (N,)."""
    y, y_pred = as_array(f"{op}:", "y", y), as_array(f"{op}:", "y_pred", y_pred)
    y, y_pred = (a[:, 0] if a.ndim == 2 and a.shape[1] == 1 else a for a in (y, y_pred))
    if y.ndim != 1 or y.shape != y_pred.shape or len(y) == 0:
        scores = y.ndim == 1 and y_pred.ndim == 2 and len(y) == len(y_pred)
        raise ValueError(
            f"{op}: expected y and y_pred of one shape (N,), N ≥ 1, got {y.shape} and {y_pred.shape}"
            + (": of scores take y_pred.argmax(axis=1)" if scores else "")
        )
    if (y.dtype.kind in "biuf") != (y_pred.dtype.kind in "biuf"):
        raise TypeError(f"{op}: {y.dtype} labels cannot equal {y_pred.dtype} ones: give labels of one kind")
    return y, y_pred
