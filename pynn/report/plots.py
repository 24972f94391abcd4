"""Owns the report's pictures: curves and tables of numbers as SVG text, images as PNG data addresses.

Everything is drawn with matplotlib's objects on its SVG canvas; pyplot and its global figures are never touched.
Equal input gives equal bytes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import math
import re
import warnings
from contextlib import contextmanager

import numpy as np

__all__ = [
    "choice_text",
    "confusion_plot",
    "curves",
    "filter_tiles",
    "overview",
    "png",
    "require_matplotlib",
    "search_plot",
    "series_plot",
]

# Okabe and Ito's palette, told apart by readers with any colour vision; markers and dashes say the same again.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#333333")
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
MARKERS = "osD^vPX"
INK, GREY, RULE = "#1f2328", "#59636e", "#d5dae0"
WIDTH, HEIGHT = 5.0, 3.1  # inches; at 72 units an inch a phone's width shows the text at its own size

STYLE = {
    "svg.fonttype": "none",  # text stays text: the page's own font, selectable, searchable
    "svg.hashsalt": "pynn",  # equal input, equal ids
    "text.parse_math": False,
    "font.size": 8.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
}


# -- the plots ----------------------------------------------------------------------------------------------


def curves(history: dict, quantity: str) -> str:
    """Training and validation `quantity` ("loss" or "accuracy") by epoch, or "" where the history has none."""
    lines = [
        {"label": label, "x": history.get("epoch", []), "y": history.get(key, [])}
        for label, key in (("training", quantity), ("validation", f"val_{quantity}"))
    ]
    lines = [line for line in lines if line["x"] and len(line["x"]) == len(line["y"]) and _finite(line["y"])]
    if not lines:
        return ""
    with _figure() as figure:
        axes = figure.subplots()
        _draw_lines(figure, axes, lines)
        axes.set_xlabel("epoch")
        if quantity == "accuracy":
            _percent_axis(axes.yaxis)
        return _svg(figure, f"{quantity} by epoch, {' and '.join(line['label'] for line in lines)}")


def series_plot(plot: dict) -> str:
    """Lines as a row's `plots` describes them."""
    with _figure() as figure:
        axes = figure.subplots()
        _draw_lines(figure, axes, plot["series"], x_log=plot["x_scale"] == "log", y_log=plot["y_scale"] == "log")
        axes.set_xlabel(plot["x_label"])
        axes.set_ylabel(plot["y_label"])
        return _svg(figure, f"{plot['y_label']} against {plot['x_label']}: {_listed(plot['series'])}")


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
    if len(names) == 1 and all(_is_number(value) for (value,) in settings):
        return _search_line(names[0], [value for (value,) in settings], accuracies, best[0])
    if len(names) == 2:
        return _search_map(names, dict(zip(settings, accuracies, strict=True)), best)
    return _search_dots(names, settings, accuracies, best)


def confusion_plot(confusion: list[list[int]], classes: list[str]) -> str:
    """Counts of (true, predicted) classes; shades are shares of the true class, on a square-root scale."""
    from matplotlib.colors import PowerNorm

    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    texts = [[f"{count:d}" if count else "·" for count in row] for row in counts] if len(counts) <= 20 else None
    with _figure(height=max(HEIGHT, 0.6 + 0.2 * len(counts))) as figure:
        axes = figure.subplots()
        _draw_table(axes, shares, texts, PowerNorm(0.5, 0, 1))
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
        return _svg(figure, f"confusion matrix: {np.trace(counts)} of {counts.sum()} test samples on the diagonal")


def overview(rows: list[dict]) -> str:
    """Each question's reported figure, its target and what was measured, on one axis of accuracies."""
    with _figure(WIDTH * 1.25, 0.9 + 0.25 * len(rows)) as figure:
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
        return _svg(
            figure, "test accuracy of each question beside the reported figure and the target; as in the table"
        )


def require_matplotlib() -> None:
    """Raises ImportError, saying how to get it, where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError('the report needs matplotlib: pip install "pynn-cnn[report]"') from error


# -- images -------------------------------------------------------------------------------------------------


def png(image) -> str:
    """An image (H, W) or (H, W, 3) of values 0–255 as a PNG data address."""
    from PIL import Image  # matplotlib requires it

    stream = io.BytesIO()
    Image.fromarray(np.clip(np.rint(np.asarray(image, dtype=np.float64)), 0, 255).astype(np.uint8)).save(
        stream, "PNG"
    )
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def filter_tiles(filters) -> list[str]:
    """Each filter (H, W) or (H, W, 3) as a PNG data address, on its own scale with zero as middle grey."""
    weights = np.asarray(filters, dtype=np.float64)
    scale = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True)
    return [png(tile) for tile in 127.5 + 127.5 * weights / np.where(scale > 0, scale, 1)]


# -- choices ------------------------------------------------------------------------------------------------


def varied(search: list[dict]) -> list[str]:
    """The names of the choices that differ between trials, in the order of the first trial."""
    first = search[0]["choice"] if search else {}
    return [name for name in first if any(trial["choice"].get(name) != first[name] for trial in search)]


def choice_text(choice: dict) -> str:
    """{"hidden": 64, "kernel_size": 7} as "hidden 64, kernel size 7"."""
    return ", ".join(f"{words(name)} {value_text(value)}" for name, value in choice.items())


def words(name: str) -> str:
    """A Python name as words: "kernel_size" is "kernel size"."""
    return str(name).replace("_", " ")


def value_text(value) -> str:
    """A choice's value in a table or on an axis."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, list | tuple):
        return "–".join(map(value_text, value)) or "none"
    return _number(value) if isinstance(value, float) else str(value)


def _setting(choice: dict, names: list[str]) -> tuple:
    """The values of `names`; numbers stay numbers, which have an order, anything else becomes text."""
    values = (choice.get(name) for name in names)
    return tuple(value if _is_number(value) else value_text(value) for value in values)


def _ordered(values) -> list:
    """Each value once: numbers by size, else as they came."""
    once = list(dict.fromkeys(values))
    return sorted(once) if all(map(_is_number, once)) else once


# -- how a search is drawn ----------------------------------------------------------------------------------


def _search_line(name, values, accuracies, best) -> str:
    order = np.argsort(values, kind="stable")
    with _figure() as figure:
        axes = figure.subplots()
        axes.plot(np.asarray(values, float)[order], np.asarray(accuracies)[order], "-o", color=COLOURS[0])
        if best in values:
            _mark_chosen(figure, axes, best, accuracies[values.index(best)])
        if min(values) > 0 and max(values) / min(values) >= 20:
            axes.set_xscale("log")
            axes.minorticks_off()
        axes.set_xticks(_ordered(values), map(value_text, _ordered(values)))
        axes.grid(axis="y")
        axes.set_xlabel(words(name))
        axes.set_ylabel("validation accuracy (%)")
        return _svg(figure, f"validation accuracy against {words(name)}; chosen {value_text(best)}")


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
    with _figure(height=max(2.0, min(1.4 * HEIGHT, 1.0 + 0.42 * len(table)))) as figure:
        axes = figure.subplots()
        _draw_table(axes, table, texts, Normalize(low - 0.15 * (high - low), high + 1e-9))
        axes.set_xticks(np.arange(table.shape[1]) + 0.5, map(value_text, values[across]))
        axes.set_yticks(np.arange(table.shape[0]) + 0.5, map(value_text, values[down]))
        axes.set_xlabel(words(names[across]))
        axes.set_ylabel(words(names[down]))
        if best in accuracies:
            corner = (values[across].index(best[across]), values[down].index(best[down]))
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=2.2, clip_on=False))
        chosen = choice_text(dict(zip(names, best, strict=True)))
        return _svg(
            figure, f"validation accuracy (%) by {words(names[down])} and {words(names[across])}; chosen {chosen}"
        )


def _search_dots(names, settings, accuracies, best) -> str:
    order = sorted(range(len(settings)), key=lambda trial: -accuracies[trial])
    with _figure(height=max(1.6, 0.7 + 0.19 * len(order))) as figure:
        axes = figure.subplots()
        axes.plot([accuracies[trial] for trial in order], range(len(order)), "o", color=COLOURS[0])
        if best in settings:
            place = order.index(settings.index(best))
            _mark_chosen(figure, axes, accuracies[order[place]], place)
        labels = [choice_text(dict(zip(names, settings[trial], strict=True))) for trial in order]
        axes.set_yticks(range(len(order)), labels)
        axes.set_ylim(len(order) - 0.5, -0.5)
        axes.grid(axis="x")
        axes.set_xlabel("validation accuracy (%)")
        return _svg(figure, "validation accuracy of each trial, best first")


def _mark_chosen(figure, axes, x, y) -> None:
    axes.plot(
        [x], [y], "o", markersize=9, color=COLOURS[1], markerfacecolor="none", markeredgewidth=1.6, label="chosen"
    )
    figure.legend(loc="outside upper right")


# -- drawing ------------------------------------------------------------------------------------------------


@contextmanager
def _figure(width: float = WIDTH, height: float = HEIGHT):
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's browser has its own fonts
        yield Figure(figsize=(width, height), layout="constrained")


def _draw_lines(figure, axes, lines, *, x_log=False, y_log=False) -> None:
    for index, line in enumerate(lines):
        x, y = (np.array([math.nan if value is None else value for value in line[axis]], float) for axis in "xy")
        few = len(x) <= 12
        axes.plot(
            x,
            y,
            label=line["label"],
            color=COLOURS[index % len(COLOURS)],
            linestyle=DASHES[index % len(DASHES)],
            marker=MARKERS[index % len(MARKERS)] if few else None,
        )
    for axis, log, key in ((axes.xaxis, x_log, "x"), (axes.yaxis, y_log, "y")):
        if log and any(value > 0 for line in lines for value in _finite(line[key])):
            (axes.set_xscale if key == "x" else axes.set_yscale)("log")
            axis.set_major_formatter(lambda value, _: _number(value))
            axis.set_minor_formatter(lambda *_: "")
        else:
            axis.set_major_formatter(lambda value, _: _number(value))
    axes.grid()
    if len(lines) > 1:
        longest = max(len(line["label"]) for line in lines)
        figure.legend(loc="outside upper left", ncols=max(1, min(len(lines), 60 // (longest + 8))))


def _draw_table(axes, table, texts, norm) -> None:
    """A table of shaded cells, first row on top, with the numbers in them."""
    mesh = axes.pcolormesh(table, cmap="Blues", norm=norm, edgecolors="white", linewidth=0.8)
    axes.set_ylim(len(table), 0)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    if texts is not None:
        size = 8.5 if table.shape[1] <= 6 else 7
        for (row, column), value in np.ndenumerate(table):
            red, green, blue, _ = mesh.cmap(norm(value)) if math.isfinite(value) else (1, 1, 1, 1)
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
            axes.text(
                column + 0.5,
                row + 0.5,
                texts[row][column],
                ha="center",
                va="center_baseline",
                fontsize=size,
                color="white" if dark else INK,
            )


def _percent_axis(axis) -> None:
    axis.set_major_formatter(lambda value, _: f"{_number(round(100 * value, 6))} %")


def _svg(figure, description: str) -> str:
    """The figure as an <svg> element that fills its column, with ids no other figure on the page has."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stream = io.StringIO()
    FigureCanvasSVG(figure).print_svg(stream, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    width, height = (float(size) for size in re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups())
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    own = hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>p{own}-", text)
    tag = (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{html.escape(description)}" xmlns:xlink="http://www.w3.org/1999/xlink" '
        'xmlns="http://www.w3.org/2000/svg">'
    )
    return re.sub(r"<svg[^>]*>", lambda _: tag, text, count=1).strip()


def _number(value: float) -> str:
    """A number as on an axis: 0.01, 250, 10⁻⁵, 3×10⁶."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.6g}".replace("-", "−")
    mantissa, exponent = f"{value:.3g}".split("e") if "e" in f"{value:.3g}" else f"{value:.2e}".split("e")
    power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    mantissa = f"{float(mantissa):g}".replace("-", "−")
    return f"10{power}" if mantissa == "1" else f"{mantissa}×10{power}"


def _listed(lines) -> str:
    return ", ".join(line["label"] for line in lines)


def _finite(values) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
