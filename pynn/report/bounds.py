"""Owns how much of the rows a page shows: whatever results.json holds, its size and its drawing are bounded.

Text is cleaned of what HTML and fonts cannot take and cut where nobody reads on; numbers too large or too small to
be drawn become text or gaps; of long lists the first entries are clean, and a note says how many there are.
"""

from __future__ import annotations

import math

from pynn.report.words import is_number
from pynn.text import clean

__all__ = ["TEXT", "bounded", "drawable"]

TEXT, LABEL = 2000, 80  # characters
TRIALS, PLOTS, LINES, NOTES, SETTINGS, ITEMS = 200, 12, 12, 100, 100, 40
LARGEST = 1e30  # numbers beyond it, or below its inverse, are nothing to draw


def bounded(row: dict) -> dict:
    """The row as it is shown; a row of usual size is shown as it is."""
    row, left_out = dict(row), []

    def first(values: list, most: int, what: str) -> list:
        if len(values) > most:
            left_out.append(f"{most} of {len(values):,} {what}")
        return values[:most]

    row |= {key: _text(row[key]) for key in ("title", "model", "dataset")}
    row |= {key: _settings(row[key]) for key in ("config", "environment") if row.get(key)}
    row["chosen"] = _settings(row.get("chosen") or {})
    row["classes"] = [clean(name, LABEL) for name in row.get("classes") or []]
    trials = first(row.get("search") or [], TRIALS, "trials of the search")
    row["search"] = [{**trial, "choice": _settings(trial["choice"])} for trial in trials]
    plots = first(row.get("plots") or [], PLOTS, "plots")
    row["plots"] = [
        {
            **plot,
            **{key: _text(plot[key]) for key in ("title", "caption")},
            **{key: clean(plot[key], LABEL) for key in ("x_label", "y_label")},
            "series": [
                {**line, "label": clean(line["label"], LABEL)} for line in first(plot["series"], LINES, "lines")
            ],
        }
        for plot in plots
    ]
    notes = [_text(note) for note in first(row.get("notes") or [], NOTES, "notes")]
    row["notes"] = [*notes, *([f"Shown are {', '.join(left_out)}."] if left_out else [])]
    return row


def drawable(value) -> float:
    """A number to draw, NaN for a gap: None, NaN and what no axis can show; tiny numbers are zero."""
    if value is None or not -LARGEST < value < LARGEST:
        return math.nan
    return float(value) if abs(value) > 1 / LARGEST else 0.0


def _settings(settings: dict) -> dict:
    return {clean(key, LABEL): _setting(value) for key, value in list(settings.items())[:SETTINGS]}


def _setting(value):
    if isinstance(value, dict):
        return _settings(value)
    if isinstance(value, list | tuple):
        return [_setting(item) for item in value[:ITEMS]]
    if isinstance(value, str):
        return _text(value)
    extreme = is_number(value) and value != 0 and not abs(drawable(value)) > 0
    return clean(value, LABEL) if extreme else value


def _text(text: str) -> str:
    return clean(text, TEXT)
