"""Owns the report's plots: training curves, confusion matrices, measurements and the overview."""

from __future__ import annotations

import numpy as np

from pynn.report.drawing import (
    COLOURS,
    GREY,
    HEIGHT,
    INK,
    RULE,
    WIDTH,
    draw_lines,
    draw_table,
    figure_of,
    finite,
    svg,
)
from pynn.report.words import number

__all__ = ["confusion_plot", "curves", "overview", "series_plot", "top_mistakes"]


def curves(history: dict, quantity: str) -> str:
    """Training and validation `quantity` ("loss" or "accuracy") by epoch, or "" where the history has none."""
    lines: list[dict] = [
        {"label": label, "x": history.get("epoch") or [], "y": history.get(key) or []}
        for label, key in (("training", quantity), ("validation", f"val_{quantity}"))
    ]
    lines = [line for line in lines if line["x"] and len(line["x"]) == len(line["y"]) and finite(line["y"])]
    if not lines:
        return ""
    with figure_of() as figure:
        axes = figure.subplots()
        draw_lines(figure, axes, lines)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if quantity == "accuracy":
            _percent_axis(axes.yaxis)
        return svg(figure, f"{quantity} by epoch, {' and '.join(line['label'] for line in lines)}")


def series_plot(plot: dict) -> str:
    """Lines as a row's `plots` describes them."""
    with figure_of() as figure:
        axes = figure.subplots()
        draw_lines(figure, axes, plot["series"], x_log=plot["x_scale"] == "log", y_log=plot["y_scale"] == "log")
        axes.set_xlabel(plot["x_label"])
        axes.set_ylabel(plot["y_label"])
        return svg(figure, f"{plot['y_label']} against {plot['x_label']}: {_listed(plot['series'])}")


def confusion_plot(confusion: list[list[int]], classes: list[str]) -> str:
    """Counts of (true, predicted) classes; shades are shares of the true class, on a square-root scale."""
    from matplotlib.colors import PowerNorm

    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    texts = [[f"{count:d}" if count else "·" for count in row] for row in counts]
    with figure_of(height=max(HEIGHT, 0.6 + 0.2 * len(counts))) as figure:
        axes = figure.subplots()
        draw_table(axes, shares, texts, PowerNorm(0.5, 0, 1))
        upright = max(map(len, classes)) <= 2
        axes.set_xticks(
            np.arange(len(classes)) + 0.5,
            classes,
            rotation=0 if upright else 45,
            ha="center" if upright else "right",
            rotation_mode="anchor",
        )
        axes.set_yticks(np.arange(len(classes)) + 0.5, classes)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        return svg(figure, f"confusion matrix: {np.trace(counts)} of {counts.sum()} test samples on the diagonal")


def top_mistakes(confusion: list[list[int]], most: int) -> list[tuple[int, int, int]]:
    """(true class, predicted class, count) of the most frequent mistakes, the most frequent one first."""
    counts = np.array(confusion)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    pairs = [(int(place) // len(counts), int(place) % len(counts)) for place in order]
    return [
        (true, predicted, int(counts[true, predicted])) for true, predicted in pairs if counts[true, predicted]
    ]


def overview(rows: list[dict]) -> str:
    """Each question's reported figure, its target and what was measured, on one axis of accuracies."""
    with figure_of(WIDTH * 1.25, 0.9 + 0.25 * len(rows)) as figure:
        axes = figure.subplots()
        for place, row in enumerate(rows):
            points = [
                100 * row[key] for key in ("reported", "target", "test_accuracy") if row.get(key) is not None
            ]
            axes.plot([min(points), max(points)], [place, place], color=RULE, linewidth=4, solid_capstyle="round")
        for key, label, marker, colour, face in (
            ("reported", "reported by the course", "D", GREY, "white"),
            ("target", "target", "|", INK, INK),
            ("test_accuracy", "this run", "o", COLOURS[0], COLOURS[0]),
        ):
            known = [(100 * row[key], place) for place, row in enumerate(rows) if row.get(key) is not None]
            if known:
                axes.plot(
                    *zip(*known, strict=True),
                    marker,
                    label=label,
                    color=colour,
                    markerfacecolor=face,
                    markersize=9 if marker == "|" else 6,
                    markeredgewidth=1.4,
                )
        axes.set_yticks(range(len(rows)), [f"{row['question']}  {row['dataset']}" for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel("test accuracy (%)")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        figure.legend(loc="outside upper left", ncols=3)
        return svg(
            figure, "test accuracy of each question beside the reported figure and the target; as in the table"
        )


def _percent_axis(axis) -> None:
    axis.set_major_formatter(lambda value, _: f"{number(round(100 * value, 6))} %")


def _listed(lines) -> str:
    return ", ".join(line["label"] for line in lines)
