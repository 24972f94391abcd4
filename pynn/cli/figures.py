"""Owns what `pynn train` says of a trained classifier: its accuracy, beside that of no model, and each class."""

from __future__ import annotations

import numpy as np

from pynn.metrics import confusion_matrix
from pynn.text import clean

__all__ = ["classification_figures"]

_MOST = 20  # classes in the table; of more, those that are recognised worst


def classification_figures(name: str, y: np.ndarray, y_pred: np.ndarray, classes: tuple[str, ...]) -> str:
    """Lines with the accuracy on the test part of the data set `name`, and each class's recall and precision.

    y, y_pred : (N,), N ≥ 1, true and predicted class indices. Recall is the share of a class's samples that were
    recognised, precision the share of right ones among those that were taken for it.
    """
    counts = confusion_matrix(y, y_pred, len(classes))
    right, true, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    majority = int(true.argmax())
    lines = [
        f"Test accuracy {_percent(right.sum(), len(y))} on {len(y)} samples of {clean(name)}.",
        f"The largest class, {clean(classes[majority], 40)}, has {_percent(true[majority], len(y))} of them.",
    ]
    rows = np.flatnonzero(true)
    if len(rows) > _MOST:
        rows = rows[np.lexsort((-true[rows], right[rows] / true[rows]))][:_MOST]
        lines.append(f"Of {len(classes)} classes, the {_MOST} that are recognised worst:")
    table = [("class", "samples", "recall", "precision")] + [
        (clean(classes[k], 40), str(true[k]), _percent(right[k], true[k]), _percent(right[k], predicted[k]))
        for k in rows
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *rest in table:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "–"
