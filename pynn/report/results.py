"""Owns results.json: a list of rows, one a line, checked when read and replaced whole when written.

What a clock measured stands in timings.json beside it, so that equal runs give equal bytes of results.json. Its
entries name their row by a SHA-256 of it; a row without one is whole, but for how long it took.

A row is a dict of JSON values and all that the report knows of a question. It has `question` ("5.3"), `title`,
`model`, `dataset` and `origin` ("real" or "embedded"); other keys may be missing or null where they do not apply:

- `n_train, n_val, n_test, n_seeds`: counts; `test_accuracy, reported, target, mean, std`: fractions; `seconds`,
- `chosen`: {choice: value}; `search`: [{"choice": {…}, "val_accuracy": …, "seconds": …}],
- `history`: {"epoch": […], "loss": […], "val_loss": […], "accuracy": […], "val_accuracy": […], …},
- `classes`: names; `confusion`: K × K counts, rows the true class,
- `misclassified`: {"images": (n, H, W) or (n, H, W, 3) in 0–255, "true": […], "predicted": […]}, class indices,
- `filters`: (F, H, W) or (F, H, W, 3) weights,
- `plots`: [{"title", "caption", "x_label", "y_label", "x_scale", "y_scale", "series": [{"label", "x", "y"}]}],
- `notes`: sentences; `config`, `environment`: dicts; `quick`, `seed`: how the run was started.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pynn.files import write_atomic
from pynn.report.words import is_number
from pynn.text import clean

__all__ = ["ResultsError", "check_rows", "merge_rows", "plain", "read_rows", "timings_beside", "write_rows"]

ROWS, DEPTH, COUNT = 100, 20, 2**40  # what is far above any run's, and is refused


class ResultsError(ValueError):
    """Rows that are not what the report is built from; the message names the row and the key."""


def read_rows(path: Path) -> list[dict]:
    """The rows of a results.json, with their timings.

    Raises ResultsError for a file of anything else, OSError where it cannot be read.
    """
    rows = _read_json(path)
    try:
        check_rows(rows)
    except ResultsError as error:
        raise ResultsError(f"{clean(path)}: {error}") from None
    timings = _read_timings(timings_beside(path))
    return [_timed(row, timings.get(_digest(row))) for row in rows]


def write_rows(path: Path, rows: list[dict]) -> None:
    """Writes the rows, as `plain` makes them, in place of the file and its timings.json, each atomically."""
    timeless, timings = [], []
    for row in map(plain, rows):
        row, timing = _untimed(row)
        timeless.append(row)
        timings.append({"question": row["question"], "row": _digest(row), **timing})
    write_atomic(timings_beside(path), _lines(timings))  # first: timings of a row that is not there do no harm
    write_atomic(path, _lines(timeless))


def timings_beside(path: Path) -> Path:
    """The timings.json of a results.json."""
    return Path(path).with_name("timings.json")


def merge_rows(old: list[dict], new: list[dict]) -> list[dict]:
    """`new`, and the rows of `old` for other questions, in the order of the questions."""
    replaced = {row["question"] for row in new}
    rows = [row for row in old if row["question"] not in replaced] + new
    return sorted(rows, key=lambda row: [int(part) for part in row["question"].split(".")])


def check_rows(rows) -> None:
    """Raises ResultsError unless `rows` is a list of rows as the module describes them."""
    if not isinstance(rows, list):
        raise ResultsError(f"expected a list of rows, got {type(rows).__name__}")
    if len(rows) > ROWS:
        raise ResultsError(f"expected at most {ROWS} rows, got {len(rows)}")
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ResultsError(f"row {index}: expected a dict, got {type(row).__name__}")
        if _deeper(row, DEPTH):
            raise ResultsError(f"row {index}: lists and dicts are nested more than {DEPTH} deep")
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
    return type(value).__name__ if isinstance(value, dict | list | tuple) else clean(value, 40)


def _deeper(value, depth: int) -> bool:
    """Whether lists and dicts lie more than `depth` deep in `value`; told without recursion."""
    level = [value]
    for _ in range(depth):
        inside = (item.values() if isinstance(item, dict) else item for item in level)
        level = [item for items in inside for item in items if isinstance(item, dict | list | tuple)]
        if not level:
            return False
    return True


# -- the files ----------------------------------------------------------------------------------------------


def _read_json(path: Path):
    """What a JSON file holds. ResultsError where it is none, or says a thing twice."""
    if Path(path).exists() and not Path(path).is_file():
        raise ResultsError(f"{clean(path)} is not a file: remove it, or name another folder")
    try:
        text = Path(path).read_bytes().decode("utf-8")
        return json.loads(text, object_pairs_hook=_once, parse_int=_whole_number)
    except RecursionError:
        problem = "it is nested too deep"
    except ValueError as error:
        problem = clean(error, 80)
    raise ResultsError(f"{clean(path)} is not JSON ({problem}): run the questions again, or remove it")


def _once(pairs: list[tuple[str, object]]) -> dict:
    """A JSON object's dict; ValueError where a key comes twice, of which one value would be lost."""
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {clean(twice, 40)} comes twice in one object")
    return made


def _whole_number(text: str) -> int | float:
    """Of digits: an int, or where there are too many a float, possibly infinite."""
    return int(text) if len(text) <= 20 else float(text)


def _lines(items: list[dict]) -> bytes:
    """A JSON list with an item a line, as UTF-8; what UTF-8 lacks, lone surrogates, as JSON's escapes."""
    lines = (json.dumps(item, ensure_ascii=False, allow_nan=False) for item in items)
    return ("[\n" + ",\n".join(lines) + "\n]\n").encode("utf-8", "backslashreplace")


def _digest(row: dict) -> str:
    return hashlib.sha256(json.dumps(row).encode()).hexdigest()


def _untimed(row: dict) -> tuple[dict, dict]:
    """(row, timing): `seconds`, those of each trial of the search and of each epoch, taken out of the row."""
    timing: dict = {"seconds": row.get("seconds")}
    row = {key: value for key, value in row.items() if key != "seconds"}
    if row.get("search"):
        timing["search"] = [trial.get("seconds") for trial in row["search"]]
        row["search"] = [{k: v for k, v in trial.items() if k != "seconds"} for trial in row["search"]]
    if row.get("history"):
        timing["history"] = row["history"].get("seconds")
        row["history"] = {name: column for name, column in row["history"].items() if name != "seconds"}
    return row, timing


def _timed(row: dict, timing: dict | None) -> dict:
    """The row with its timing put back; as it is without one."""
    if timing is None:
        return row
    row = row | {"seconds": timing["seconds"]}
    if row.get("search") and len(timing.get("search") or ()) == len(row["search"]):
        pairs = zip(row["search"], timing["search"], strict=True)
        row["search"] = [{**trial, "seconds": seconds} for trial, seconds in pairs]
    if row.get("history") and timing.get("history") is not None:
        row["history"] = {**row["history"], "seconds": timing["history"]}
    return row


def _read_timings(path: Path) -> dict[str, dict]:
    """Timings by the digest of their row; none of a file that is missing or damaged."""
    try:
        entries = _read_json(path) if path.exists() else []
    except (ResultsError, OSError):
        return {}
    return {entry["row"]: entry for entry in entries if _is_timing(entry)} if isinstance(entries, list) else {}


# -- what each key may hold ---------------------------------------------------------------------------------


def _is_text(value) -> bool:
    return isinstance(value, str)


def _is_optional(valid: Callable[[float], bool]):
    """None, or a finite number (comparing with infinity suits integers of any size) of which `valid` holds."""
    return lambda value: value is None or (is_number(value) and -math.inf < value < math.inf and valid(value))


_is_fraction = _is_optional(lambda value: 0 <= value <= 1)
_is_count = _is_optional(lambda value: 0 <= value <= COUNT and value == int(value))
_is_duration = _is_optional(lambda value: 0 <= value <= COUNT)


def _is_timing(entry) -> bool:
    durations = _is_list_of(_is_duration)
    return (
        isinstance(entry, dict)
        and _is_text(entry.get("row"))
        and _is_duration(entry.get("seconds"))
        and durations(entry.get("search"))
        and durations(entry.get("history"))
    )


def _is_dict(value) -> bool:
    return value is None or isinstance(value, dict)


def _is_list_of(valid):
    return lambda value: value is None or (isinstance(value, list) and all(valid(item) for item in value))


_is_numbers = _is_list_of(lambda item: item is None or is_number(item))


def _is_trial(value) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("choice"), dict)
        and _is_fraction(value.get("val_accuracy"))
        and _is_duration(value.get("seconds"))
    )


def _is_history(value) -> bool:
    return value is None or (isinstance(value, dict) and all(_is_numbers(column) for column in value.values()))


def _is_images(value) -> bool:
    """None, or nested lists of numbers of shape (n, H, W) or (n, H, W, 3), possibly with n = 0."""
    if value is None or value == []:
        return True
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return False
    grey_or_rgb = array.ndim == 3 or (array.ndim == 4 and array.shape[3] == 3)
    return grey_or_rgb and array.size > 0 and bool(np.isfinite(array).all())


def _is_confusion(value) -> bool:
    def counts(row) -> bool:
        return bool(row) and set(map(type, row)) == {int} and min(row) >= 0 and max(row) <= COUNT

    return value is None or (
        isinstance(value, list)
        and all(isinstance(row, list) and len(row) == len(value) and counts(row) for row in value)
    )


def _is_misclassified(value) -> bool:
    if value is None:
        return True
    labels = _is_list_of(lambda label: is_number(label) and isinstance(label, int))
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


_QUESTION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){0,4}")

_KEYS = {
    "question": ('a number as "5.3"', lambda value: _is_text(value) and bool(_QUESTION.fullmatch(value))),
    "origin": ('"real" or "embedded"', lambda value: value in ("real", "embedded")),
    **dict.fromkeys(("title", "model", "dataset"), ("text", _is_text)),
    **dict.fromkeys(("n_train", "n_val", "n_test", "n_seeds"), ("a count or null", _is_count)),
    **dict.fromkeys(
        ("test_accuracy", "reported", "target", "mean", "std"), ("a fraction from 0 to 1 or null", _is_fraction)
    ),
    "seconds": ("a finite number from 0 or null", _is_duration),
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
