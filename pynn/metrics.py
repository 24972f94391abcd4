"""Owns the metrics: what is reported about predictions, beside the loss."""

from __future__ import annotations

from numbers import Integral

import numpy as np

from pynn.losses import class_indices

__all__ = ["accuracy", "confusion_matrix"]


def accuracy(y: np.ndarray, y_pred: np.ndarray) -> float:
    """The fraction of equal labels, 1/N Σᵢ [yᵢ = ŷᵢ].

    y, y_pred : (N,), N ≥ 1, true and predicted labels of any kind: class indices, −1/+1, strings.
    Raises ValueError where shapes differ or are not (N,), TypeError where numbers meet strings.
    """
    y, y_pred = np.asarray(y), np.asarray(y_pred)
    if y.ndim != 1 or y.shape != y_pred.shape or len(y) == 0:
        raise ValueError(
            f"accuracy: expected y and y_pred of one shape (N,), N ≥ 1, got {y.shape} and {y_pred.shape}"
        )
    if (y.dtype.kind in "biuf") != (y_pred.dtype.kind in "biuf"):
        raise TypeError(f"accuracy: {y.dtype} labels cannot equal {y_pred.dtype} ones: give labels of one kind")
    return float((y == y_pred).mean())


def confusion_matrix(y: np.ndarray, y_pred: np.ndarray, n_classes: int) -> np.ndarray:
    """(K, K) int64 counts: entry [i, j] is the number of samples of true class i that were predicted as j.

    y, y_pred : (N,), true and predicted class indices from 0 to K − 1 = n_classes − 1; N may be 0.
    Raises ValueError, or TypeError for a wrong dtype, naming the label that does not fit.
    """
    if not isinstance(n_classes, Integral) or n_classes < 1:
        raise ValueError(f"confusion_matrix: n_classes must be an int from 1 up, got {n_classes!r}")
    y = class_indices("confusion_matrix:", "y", y, n_classes)
    y_pred = class_indices("confusion_matrix:", "y_pred", y_pred, n_classes)
    if len(y) != len(y_pred):
        raise ValueError(f"confusion_matrix: expected as many predictions as labels, {len(y)}, got {len(y_pred)}")
    return np.bincount(y * n_classes + y_pred, minlength=n_classes**2).reshape(n_classes, n_classes)
