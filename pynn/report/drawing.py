"""Owns how matplotlib draws for the report: style, lines, shaded tables, and figures as SVG text.

Everything is drawn with matplotlib's objects on its SVG canvas; pyplot and its global figures are never touched.
Equal input gives equal bytes.
"""

from __future__ import annotations

import hashlib
import html
import io
import math
import re
import warnings
from contextlib import contextmanager

import numpy as np

from pynn.report.bounds import drawable
from pynn.report.words import number
from pynn.text import clean

__all__ = [
    "COLOURS",
    "GREY",
    "HEIGHT",
    "INK",
    "RULE",
    "WIDTH",
    "draw_lines",
    "draw_table",
    "figure_of",
    "finite",
    "require_matplotlib",
    "svg",
]

# Okabe and Ito's palette, told apart by readers with any colour vision; markers and dashes say the same again.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#333333")
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
MARKERS = "osD^vPX"
INK, GREY, RULE = "#1f2328", "#59636e", "#d5dae0"
POINTS = 1000  # of a line; more are thinned out
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


def require_matplotlib() -> None:
    """Raises ImportError, saying how to get it, where matplotlib is missing; OSError where it cannot start."""
    try:
        import matplotlib.font_manager  # noqa: F401 - what needs a folder to write to
    except ImportError as error:
        raise ImportError('the report needs matplotlib: pip install "pynn-cnn[report]"') from error
    except (OSError, RuntimeError) as error:  # no folder for its cache, no home
        raise OSError(f"matplotlib cannot start ({clean(error)}): set MPLCONFIGDIR to a folder") from error


@contextmanager
def figure_of(width: float = WIDTH, height: float = HEIGHT):
    """An empty figure, width × height in inches; draw it, and take its `svg`, inside the `with`."""
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's browser has its own fonts
        warnings.filterwarnings("ignore", "constrained_layout not applied")  # long labels leave no room
        yield Figure(figsize=(width, height), layout="constrained")


def draw_lines(figure, axes, lines: list[dict], *, x_log: bool = False, y_log: bool = False) -> None:
    """Lines {"label", "x", "y"}; what is not `drawable` is a gap. An axis without positive values stays linear."""
    for index, line in enumerate(lines):
        thin = slice(None, None, max(1, -(-len(line["x"]) // POINTS)))
        x, y = (np.array([drawable(value) for value in line[axis][thin]]) for axis in "xy")
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
        if log and any(value > 0 for line in lines for value in finite(line[key])):
            (axes.set_xscale if key == "x" else axes.set_yscale)("log")
            axis.set_major_formatter(lambda value, _: number(value))
            axis.set_minor_formatter(lambda *_: "")
        else:
            axis.set_major_formatter(lambda value, _: number(value))
    axes.grid()
    if len(lines) > 1:
        longest = max(len(line["label"]) for line in lines)
        figure.legend(loc="outside upper left", ncols=max(1, min(len(lines), 60 // (longest + 8))))


def draw_table(axes, table, texts, norm) -> None:
    """A table of shaded cells, first row on top, with the numbers in them."""
    mesh = axes.pcolormesh(table, cmap="Blues", norm=norm, edgecolors="white", linewidth=0.8)
    axes.set_ylim(len(table), 0)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
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
            in_layout=False,  # it lies inside the axes
        )


def svg(figure, description: str) -> str:
    """The figure as an <svg> element that fills its column, with ids no other figure on the page has."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stream = io.StringIO()
    FigureCanvasSVG(figure).print_svg(stream, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    width, height = 72 * figure.get_size_inches()  # matplotlib's SVG has 72 units an inch
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    own = hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>p{own}-", text)
    tag = (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{html.escape(description)}" xmlns:xlink="http://www.w3.org/1999/xlink" '
        'xmlns="http://www.w3.org/2000/svg">'
    )
    return re.sub(r"<svg[^>]*>", lambda _: tag, text, count=1).strip()


def finite(values) -> list[float]:
    """The numbers among `values` that can be drawn."""
    return [value for value in map(drawable, values) if math.isfinite(value)]
