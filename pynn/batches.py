"""Owns how arrays become batches: what is refused, and where a batch begins and ends."""

from __future__ import annotations

import numpy as np

from pynn.values import shown

__all__ = ["EVALUATION_BATCH", "as_array", "batch_slices", "checked_inputs", "require_count"]

EVALUATION_BATCH = 500  # bounds the memory of evaluation, whatever the batch of training is


def as_array(name: str, values) -> np.ndarray:
    """`values` (an array, a list, a tensor or frame in memory, …) as an array; else TypeError with `name`."""
    if np.ma.is_masked(values):
        raise TypeError(
            f"{name} has masked values, which would be taken as they are: fill or leave them out first"
        )
    try:
        return np.asarray(values)
    except Exception as error:  # whatever the object's own conversion raises
        raise TypeError(f"{name} cannot be made a NumPy array: {' '.join(str(error).split()):.200}") from error


def checked_inputs(name: str, x) -> np.ndarray:
    """`x` as an array of at least one sample, all finite; else TypeError or ValueError with `name`."""
    given, x = x, as_array(name, x)
    if x.dtype.kind not in "biuf":
        what = f"a {type(given).__name__} of " if not isinstance(given, np.ndarray) else ""
        remedy = ": convert it with .astype(np.float32)" if x.dtype == object and x.ndim else ""
        raise TypeError(f"{name} must be an array of numbers, got {what}dtype {x.dtype}{remedy}")
    if x.ndim == 0 or x.size == 0:
        raise ValueError(f"{name} must have at least one sample, got shape {x.shape}")
    if x.dtype.kind == "f":
        for batch in batch_slices(len(x), EVALUATION_BATCH):
            if not np.isfinite(x[batch]).all():
                raise ValueError(
                    f"{name} has NaN or infinite values among samples {batch.start} to {batch.stop - 1}"
                )
    return x


def batch_slices(n: int, batch_size: int) -> list[slice]:
    """Slices of `batch_size` that cover 0 … n; a last one of a single sample is joined to the one before."""
    starts = list(range(0, n, batch_size))
    if len(starts) > 1 and batch_size > 1 and n - starts[-1] == 1:
        starts.pop()
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], n], strict=True)]


def require_count(name: str, value: int) -> int:
    """`value` as an int from 1 to 2**63 − 1; else ValueError with `name`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a whole number from 1, got {shown(value)}")
    if value >= 1 << 63:
        raise ValueError(f"{name} must be less than 2**63, got {shown(value)}")
    return int(value)
