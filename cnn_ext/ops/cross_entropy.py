"""Softmax and cross-entropy: checks and allocation, then one kernel call."""

import numpy as np

from cnn_ext._checks import number, real_array, require_shape
from cnn_ext.isa import kernels
from cnn_ext.threads import threads_for
from cnn_ext.workspace import scratch

__all__ = ["softmax_cross_entropy"]

_OPERATIONS = 16  # that a score takes, in doubles
_NONE = np.empty(0)


def softmax_cross_entropy(
    scores: np.ndarray, labels: np.ndarray, *, label_smoothing: float = 0.0
) -> tuple[float, np.ndarray]:
    """The mean cross-entropy of softmax(scores) and the labels, and its gradient.

    L = −1/N Σₙ Σⱼ q[n, j] log p[n, j] with p = softmax(scores) along j, q[n, j] = (1 − ε) [j = labels[n]] + ε/K;
    ∂L/∂scores = (p − q) / N.

    scores : (N, K), float32 or float64. labels : (N,), int64, from 0 to K − 1. label_smoothing : ε from 0 to 1.
    Returns (L, ∂L/∂scores), the gradient in the dtype of `scores`; the arithmetic is float64. Scores of any finite
    size are exact; where one is NaN or infinite, L and all of the gradient are NaN.
    Raises ValueError for shapes, labels and ε out of range, TypeError for dtypes.
    """
    op = "softmax_cross_entropy"
    label_smoothing = number(op, "label_smoothing", label_smoothing, low=0)
    if label_smoothing > 1:
        raise ValueError(f"{op}: label_smoothing must be from 0 to 1, got {label_smoothing}")
    scores = real_array(op, "scores", scores, "(N, K)", 2)
    n, k = scores.shape
    labels = np.asarray(labels)
    if labels.dtype != np.int64:
        raise TypeError(f"{op}: labels must be int64, got {labels.dtype}: convert them with .astype")
    require_shape(op, "labels", labels, (n,))
    if not (labels.flags.c_contiguous and labels.flags.aligned):
        labels = np.require(labels, requirements=["C", "A"])
    dscores = np.empty_like(scores)
    threads = threads_for(_OPERATIONS * scores.size)
    memory = _NONE if k <= kernels.softmax_piece else scratch(threads * k, np.float64)
    loss, outside = kernels.softmax_cross_entropy(scores, labels, label_smoothing, dscores, memory, threads)
    if outside:
        raise ValueError(f"{op}: {outside} of {n} labels are not from 0 to {k - 1}")
    if loss != loss:
        dscores.fill(np.nan)
    return loss, dscores
