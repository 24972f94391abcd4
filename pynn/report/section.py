"""Owns the page's section of one question: its figures, plots, pictures, and every setting behind them."""

from __future__ import annotations

from html import escape

from pynn.report import pieces
from pynn.report.bounds import TEXT
from pynn.report.images import filter_tiles, png
from pynn.report.plots import confusion_plot, curves, series_plot, top_mistakes
from pynn.report.search import search_plot, varied
from pynn.report.words import choice_text, value_text, words
from pynn.text import clean

__all__ = ["section"]

TILES = 48  # more pictures than this say nothing new
CLASSES = 20  # a matrix of more cannot be read: their most frequent mistakes are listed


def section(row: dict, anchor: str) -> str:
    """The <section> of one row, with the id `anchor`."""
    return f"""<section id="{anchor}">
<h2><span class="number">{row["question"]}</span>{escape(row["title"])}</h2>
<p class="model">{escape(row["model"])}</p>
<p class="data">{pieces.badges(row)} {escape(row["dataset"])}{_samples(row)}</p>
{_facts(row)}
{_notes(row.get("notes"))}
<div class="plots">
{"".join(_plots(row))}
</div>
{_filters(row)}
{_misclassified(row)}
{_trials(row)}
{_details(row)}
</section>
"""


def _facts(row: dict) -> str:
    verdict = pieces.verdict_on(row)
    judged = f'<small class="{verdict.kind}">{verdict.text}</small>' if verdict else ""
    comparable = row["origin"] == "real"
    facts = (
        ("Test accuracy", pieces.percent(row, "test_accuracy"), judged),
        ("Reported", pieces.as_stated(row.get("reported")) if comparable else "", ""),
        ("Target", pieces.as_stated(row.get("target"), "≥ ") if comparable else "", ""),
        ("Mean ± std", pieces.mean_and_std(row), ""),
        ("Chosen on validation data", escape(choice_text(row.get("chosen") or {})), ""),
        ("Time", pieces.duration(row.get("seconds")), ""),
    )
    return (
        '<dl class="facts">'
        + "".join(f"<div><dt>{name}</dt><dd>{text}{more}</dd></div>" for name, text, more in facts if text)
        + "</dl>"
    )


def _notes(notes: list[str] | None) -> str:
    return f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>' if notes else ""


def _plots(row: dict):
    """The figures of a row that has the numbers for them."""
    history = row.get("history") or {}
    names = varied(row.get("search") or [])
    if names and (drawing := search_plot(row["search"], row.get("chosen") or {})):
        subject = " and ".join(words(name) for name in names)
        yield pieces.figure(
            "What was searched", f"Validation accuracy (%) by {subject}; the chosen one is outlined.", drawing
        )
    if drawing := curves(history, "loss"):
        yield pieces.figure("Loss", "Of the chosen model, by epoch.", drawing)
    if drawing := curves(history, "accuracy"):
        yield pieces.figure("Accuracy", "Of the chosen model, by epoch.", drawing)
    if row.get("confusion") and len(row["confusion"]) <= CLASSES:
        caption = "Test samples by true and predicted class; shades are shares of the true class."
        yield pieces.figure("Confusion matrix", caption, confusion_plot(row["confusion"], row["classes"]))
    elif row.get("confusion"):
        yield pieces.figure("Most frequent mistakes", *_mistakes(row["confusion"], row["classes"]))
    for plot in row.get("plots") or []:
        if any(line["x"] for line in plot["series"]):
            yield pieces.figure(plot["title"], plot["caption"], series_plot(plot))


def _filters(row: dict) -> str:
    if not row.get("filters"):
        return ""
    tiles = filter_tiles(row["filters"][:TILES])
    items = "".join(
        f'<li><img src="{tile}" alt="filter {number}" width="54" height="54"></li>'
        for number, tile in enumerate(tiles, 1)
    )
    return f"""<h3>First-layer filters</h3>
<p class="soft">{len(tiles)} filters, each on its own scale: middle grey is zero.</p>
<ul class="tiles filters">{items}</ul>"""


def _misclassified(row: dict) -> str:
    if not row.get("misclassified") or not row["misclassified"]["images"]:
        return ""
    images, true, predicted = (row["misclassified"][key][:TILES] for key in ("images", "true", "predicted"))
    total = max(_errors(row), len(row["misclassified"]["images"]))
    items = []
    for image, label, guess in zip(images, true, predicted, strict=True):
        names = escape(row["classes"][label]), escape(row["classes"][guess])
        items.append(
            f'<li><img src="{png(image)}" alt="a {names[0]} predicted as {names[1]}" width="74" height="74">'
            f"<span>{names[0]} → {names[1]}</span></li>"
        )
    return f"""<h3>Misclassified images</h3>
<p class="soft">{_shown(len(images), total, "misclassified test images")}, as true class → predicted class.</p>
<ul class="tiles">{"".join(items)}</ul>"""


def _mistakes(confusion: list[list[int]], classes: list[str]) -> tuple[str, str]:
    """(caption, table) of the pairs of classes that are mistaken most often."""
    body = "".join(
        f"<tr><td>{escape(classes[true])}</td><td>{escape(classes[predicted])}</td>"
        f'<td class="number-cell">{count:,}</td>'
        f'<td class="number-cell">{100 * count / sum(confusion[true]):.1f} %</td></tr>'
        for true, predicted, count in top_mistakes(confusion, CLASSES)
    )
    heads = ("True class", "Predicted as", "Test samples", "Of the class")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    caption = f"Of {len(classes):,} classes, the pairs that are mistaken most often."
    return caption, f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _trials(row: dict) -> str:
    search = row.get("search") or []
    if not search:
        return ""
    names = list(search[0]["choice"])
    head = "".join(f'<th scope="col">{escape(words(name))}</th>' for name in names)
    body = "".join(
        f"<tr{pieces.of_class('chosen' if trial['choice'] == row.get('chosen') else '')}>"
        + "".join(f"<td>{escape(value_text(trial['choice'].get(name)))}</td>" for name in names)
        + f'<td class="number-cell">{pieces.accuracy(trial.get("val_accuracy"), row.get("n_val"))}</td>'
        + f'<td class="number-cell">{pieces.duration(trial.get("seconds"))}</td></tr>'
        for trial in search
    )
    return f"""<details><summary>Every choice tried ({len(search)})</summary><div class="inside"><table>
<thead><tr>{head}<th scope="col" class="number-cell">Validation accuracy</th>
<th scope="col" class="number-cell">Time</th></tr></thead>
<tbody>{body}</tbody></table></div></details>"""


def _details(row: dict) -> str:
    tables = "".join(
        f"<h3>{name}</h3><table><tbody>"
        + "".join(
            f'<tr><th scope="row">{escape(words(key))}</th>'
            f"<td>{escape(clean(pieces.setting_text(value), TEXT))}</td></tr>"
            for key, value in row[source].items()
        )
        + "</tbody></table>"
        for name, source in (("Configuration", "config"), ("Environment", "environment"))
        if row.get(source)
    )
    return (
        f'<details><summary>Configuration and environment</summary><div class="inside">{tables}</div></details>'
        if tables
        else ""
    )


def _samples(row: dict) -> str:
    counts = [
        (row.get(key), word)
        for key, word in (("n_train", "training"), ("n_val", "validation"), ("n_test", "test"))
    ]
    text = ", ".join(f"{count:,} {word}" for count, word in counts if count)
    return f": {text} samples" if text else ""


def _errors(row: dict) -> int:
    confusion = row.get("confusion") or []
    return sum(map(sum, confusion)) - sum(confusion[k][k] for k in range(len(confusion)))


def _shown(count: int, total: int, things: str) -> str:
    return f"All {total:,} {things}" if count == total else f"{count:,} of {total:,} {things}"
