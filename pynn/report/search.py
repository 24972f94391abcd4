"""Owns the picture of a search: validation accuracy against the choices that were tried."""

from __future__ import annotations

import math

import numpy as np

from pynn.report.drawing import COLOURS, HEIGHT, draw_table, figure_of, svg
from pynn.report.words import choice_text, is_number, value_text, words
from pynn.text import clean

__all__ = ["search_plot", "varied"]

SIDE = 20  # values along an axis that can be told apart
BEST = 40  # trials drawn as dots


def search_plot(search: list[dict], chosen: dict) -> str:
    """Validation accuracy against the searched choices; the chosen one is marked.

    One choice of numbers is a line, two choices are a heat map, anything else is one dot a trial.
    """
    trials = [trial for trial in search if trial.get("val_accuracy") is not None]
    names = varied(trials)
    if not names:
        return ""
    settings = [_setting(trial["choice"], names) for trial in trials]
    accuracies = [100 * trial["val_accuracy"] for trial in trials]
    best = _setting(chosen, names)
    if len(names) == 1 and all(is_number(value) for (value,) in settings):
        return _search_line(names[0], [value for (value,) in settings], accuracies, best[0])
    if len(names) == 2 and all(len({setting[axis] for setting in settings}) <= SIDE for axis in (0, 1)):
        return _search_map(names, dict(zip(settings, accuracies, strict=True)), best)
    return _search_dots(names, settings, accuracies, best)


def varied(search: list[dict]) -> list[str]:
    """The names of the choices that differ between trials, in the order of the first trial."""
    first = search[0]["choice"] if search else {}
    return [name for name in first if any(trial["choice"].get(name) != first[name] for trial in search)]


def _search_line(name, values, accuracies, best) -> str:
    order = np.argsort(values, kind="stable")
    with figure_of() as figure:
        axes = figure.subplots()
        axes.plot(np.asarray(values, float)[order], np.asarray(accuracies)[order], "-o", color=COLOURS[0])
        if best in values:
            _mark_chosen(figure, axes, best, accuracies[values.index(best)])
        if min(values) > 0 and max(values) / min(values) >= 20:
            axes.set_xscale("log")
            axes.minorticks_off()
        ticks = _ordered(values)
        ticks = ticks[:: -(-len(ticks) // SIDE)]
        axes.set_xticks(ticks, map(value_text, ticks))
        axes.grid(axis="y")
        axes.set_xlabel(words(name))
        axes.set_ylabel("validation accuracy (%)")
        return svg(figure, f"validation accuracy against {words(name)}; chosen {value_text(best)}")


def _search_map(names, accuracies, best) -> str:
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    values = [_ordered(setting[axis] for setting in accuracies) for axis in (0, 1)]
    width = [max(len(value_text(value)) for value in values[axis]) for axis in (0, 1)]
    down, across = (0, 1) if width[0] >= width[1] else (1, 0)  # long names read better beside the rows
    table = np.full((len(values[down]), len(values[across])), np.nan)
    for setting, accuracy in accuracies.items():
        table[values[down].index(setting[down]), values[across].index(setting[across])] = accuracy
    low, high = np.nanmin(table), np.nanmax(table)
    digits = 2 if high - low < 5 else 1
    texts = [["–" if math.isnan(value) else f"{value:.{digits}f}" for value in row] for row in table]
    with figure_of(height=max(2.0, min(1.4 * HEIGHT, 1.0 + 0.42 * len(table)))) as figure:
        axes = figure.subplots()
        draw_table(axes, table, texts, Normalize(low - 0.15 * (high - low), high + 1e-9))
        axes.set_xticks(np.arange(table.shape[1]) + 0.5, map(value_text, values[across]))
        axes.set_yticks(np.arange(table.shape[0]) + 0.5, map(value_text, values[down]))
        axes.set_xlabel(words(names[across]))
        axes.set_ylabel(words(names[down]))
        if best in accuracies:
            corner = (values[across].index(best[across]), values[down].index(best[down]))
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=2.2, clip_on=False))
        chosen = choice_text(dict(zip(names, best, strict=True)))
        return svg(
            figure, f"validation accuracy (%) by {words(names[down])} and {words(names[across])}; chosen {chosen}"
        )


def _search_dots(names, settings, accuracies, best) -> str:
    order = sorted(range(len(settings)), key=lambda trial: -accuracies[trial])[:BEST]
    with figure_of(height=max(1.6, 0.7 + 0.19 * len(order))) as figure:
        axes = figure.subplots()
        axes.plot([accuracies[trial] for trial in order], range(len(order)), "o", color=COLOURS[0])
        if best in settings and settings.index(best) in order:
            place = order.index(settings.index(best))
            _mark_chosen(figure, axes, accuracies[order[place]], place)
        labels = [clean(choice_text(dict(zip(names, settings[trial], strict=True))), 80) for trial in order]
        axes.set_yticks(range(len(order)), labels)
        axes.set_ylim(len(order) - 0.5, -0.5)
        axes.grid(axis="x")
        axes.set_xlabel("validation accuracy (%)")
        return svg(figure, "validation accuracy of each trial, best first")


def _mark_chosen(figure, axes, x, y) -> None:
    axes.plot(
        [x], [y], "o", markersize=9, color=COLOURS[1], markerfacecolor="none", markeredgewidth=1.6, label="chosen"
    )
    figure.legend(loc="outside upper right")


def _setting(choice: dict, names: list[str]) -> tuple:
    """The values of `names`; numbers stay numbers, which have an order, anything else becomes text."""
    values = (choice.get(name) for name in names)
    return tuple(value if is_number(value) else value_text(value) for value in values)


def _ordered(values) -> list:
    """Each value once: numbers by size, else as they came."""
    once = list(dict.fromkeys(values))
    return sorted(once) if all(map(is_number, once)) else once
