"""Owns results.json: a list of rows, one a line, checked when read and replaced whole when written.

A row is a dict of JSON values and all that the report knows of a question. It has `question` ("5.3"), `title`,
`model`, `dataset` and `origin` ("real" or "embedded"); other keys may be missing or null where they do not apply:

- `n_train, n_val, n_test`: samples; `test_accuracy, reported, target, mean, std`: fractions; `n_seeds`; `seconds`,
- `chosen`: {choice: value}; `search`: [{"choice": {…}, "val_accuracy": …, "seconds": …}],
- `history`: {"epoch": […], "loss": […], "val_loss": […], "accuracy": […], "val_accuracy": […], …},
- `classes`: names; `confusion`: K × K counts, rows the true class,
- `misclassified`: {"images": (n, H, W) or (n, H, W, 3) in 0–255, "true": […], "predicted": […]}, class indices,
- `filters`: (F, H, W) or (F, H, W, 3) weights,
- `plots`: [{"title", "caption", "x_label", "y_label", "x_scale", "y_scale", "series": [{"label", "x", "y"}]}],
- `notes`: sentences; `config`, `environment`: dicts; `quick`, `seed`: how the run was started.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np

from pynn.files import write_atomic
from pynn.report.words import is_number

__all__ = ["ResultsError", "check_rows", "merge_rows", "plain", "read_rows", "write_rows"]


class ResultsError(ValueError):
    """Rows that are not what the report is built from; the message names the row and the key."""


def read_rows(path: Path) -> list[dict]:
    """The rows of a results.json. Raises ResultsError for anything else, OSError where it cannot be read."""
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{path} is not JSON ({error}): run the questions again, or remove it") from error
    try:
        check_rows(rows)
    except ResultsError as error:
        raise ResultsError(f"{path}: {error}") from error
    return rows


def write_rows(path: Path, rows: list[dict]) -> None:
    """Writes the rows, as `plain` makes them, in place of the file, atomically."""
    lines = (json.dumps(plain(row), ensure_ascii=False, allow_nan=False) for row in rows)
    write_atomic(path, ("[\n" + ",\n".join(lines) + "\n]\n").encode())


def merge_rows(old: list[dict], new: list[dict]) -> list[dict]:
    """`new`, and the rows of `old` for other questions, in the order of the questions."""
    replaced = {row["question"] for row in new}
    rows = [row for row in old if row["question"] not in replaced] + new
    return sorted(rows, key=lambda row: [int(part) for part in row["question"].split(".")])


def check_rows(rows) -> None:
    """Raises ResultsError unless `rows` is a list of rows as the module describes them."""
    if not isinstance(rows, list):
        raise ResultsError(f"expected a list of rows, got {type(rows).__name__}")
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ResultsError(f"row {index}: expected a dict, got {type(row).__name__}")
        for key, (expected, valid) in _KEYS.items():
            if not valid(row.get(key)):
                raise ResultsError(f"row {index}: expected {key!r} to be {expected}, got {_short(row.get(key))}")
        n_classes = len(row.get("classes") or ())
        if row.get("confusion") and len(row["confusion"]) != n_classes:
            raise ResultsError(
                f"row {index}: 'confusion' has {len(row['confusion'])} rows for {n_classes} classes"
            )
        pictures = row.get("misclassified") or {"true": [], "predicted": []}
        if any(not 0 <= label < n_classes for label in pictures["true"] + pictures["predicted"]):
            raise ResultsError(f"row {index}: 'misclassified' has labels outside the {n_classes} classes")


def plain(value):
    """`value` as JSON values: NumPy values and tuples become lists, NaN and infinities None, keys text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "…"


# -- what each key may hold ---------------------------------------------------------------------------------


def _is_text(value) -> bool:
    return isinstance(value, str)


def _is_optional_number(value) -> bool:
    return value is None or (is_number(value) and math.isfinite(value))


def _is_dict(value) -> bool:
    return value is None or isinstance(value, dict)


def _is_list_of(valid):
    return lambda value: value is None or (isinstance(value, list) and all(valid(item) for item in value))


_is_numbers = _is_list_of(lambda item: item is None or is_number(item))


def _is_trial(value) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("choice"), dict)
        and _is_optional_number(value.get("val_accuracy"))
        and _is_optional_number(value.get("seconds"))
    )


def _is_history(value) -> bool:
    return value is None or (isinstance(value, dict) and all(_is_numbers(column) for column in value.values()))


def _is_images(value) -> bool:
    """None, or nested lists of numbers of shape (n, H, W) or (n, H, W, 3), possibly with n = 0."""
    if value is None or value == []:
        return True
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    grey_or_rgb = array.ndim == 3 or (array.ndim == 4 and array.shape[3] == 3)
    return grey_or_rgb and array.size > 0 and bool(np.isfinite(array).all())


def _is_confusion(value) -> bool:
    counts = _is_list_of(lambda count: isinstance(count, int) and count >= 0)
    return value is None or (
        isinstance(value, list) and all(row and counts(row) and len(row) == len(value) for row in value)
    )


def _is_misclassified(value) -> bool:
    if value is None:
        return True
    labels = _is_list_of(lambda label: isinstance(label, int))
    return (
        isinstance(value, dict)
        and isinstance(value.get("images"), list)
        and _is_images(value["images"])
        and all(
            isinstance(value.get(key), list) and labels(value[key]) and len(value[key]) == len(value["images"])
            for key in ("true", "predicted")
        )
    )


def _is_plot(value) -> bool:
    def is_series(line) -> bool:
        return (
            isinstance(line, dict)
            and _is_text(line.get("label"))
            and all(isinstance(line.get(axis), list) and _is_numbers(line[axis]) for axis in "xy")
            and len(line["x"]) == len(line["y"])
        )

    return (
        isinstance(value, dict)
        and all(_is_text(value.get(key)) for key in ("title", "caption", "x_label", "y_label"))
        and all(value.get(key) in ("linear", "log") for key in ("x_scale", "y_scale"))
        and isinstance(value.get("series"), list)
        and all(is_series(line) for line in value["series"])
    )


_KEYS = {
    "question": ('a number as "5.3"', lambda value: _is_text(value) and bool(re.fullmatch(r"\d+(\.\d+)*", value))),
    "origin": ('"real" or "embedded"', lambda value: value in ("real", "embedded")),
    **dict.fromkeys(("title", "model", "dataset"), ("text", _is_text)),
    **dict.fromkeys(
        ("n_train", "n_val", "n_test", "test_accuracy", "reported", "target", "mean", "std", "n_seeds", "seconds"),
        ("a finite number or null", _is_optional_number),
    ),
    **dict.fromkeys(("chosen", "config", "environment"), ("a dict", _is_dict)),
    "search": ('a list of {"choice": {…}, "val_accuracy": …}', _is_list_of(_is_trial)),
    "history": ("a dict of lists of numbers", _is_history),
    "classes": ("a list of names", _is_list_of(_is_text)),
    "confusion": ("a square table of counts", _is_confusion),
    "misclassified": ('images (n, H, W) or (n, H, W, 3) with n labels "true" and "predicted"', _is_misclassified),
    "filters": ("weights (F, H, W) or (F, H, W, 3)", _is_images),
    "plots": ("a list of plots with equally long x and y", _is_list_of(_is_plot)),
    "notes": ("a list of sentences", _is_list_of(_is_text)),
}
