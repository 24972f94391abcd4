"""Owns the report's page: one HTML file, without network or scripts, made from the rows of results.json alone."""

from __future__ import annotations

from collections import Counter
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from pynn.files import write_atomic
from pynn.report import plots
from pynn.report.results import check_rows

__all__ = ["render", "write_report"]

TITLE = "Neural networks, questions 2–7: measured results"
TILES = 48  # more pictures than this say nothing new


def write_report(rows: list[dict], path: str | Path) -> None:
    """Writes the page for `rows` to `path`, atomically; equal rows give equal bytes.

    Raises ResultsError where a row is not as `pynn.report.results` describes it, ImportError without matplotlib,
    OSError where `path` cannot be written.
    """
    write_atomic(path, render(rows).encode())


def render(rows: list[dict]) -> str:
    """The page for `rows` as text."""
    check_rows(rows)
    plots.require_matplotlib()
    seen: Counter[str] = Counter()
    anchors = []
    for row in rows:
        seen[row["question"]] += 1
        again = f"-{seen[row['question']]}" if seen[row["question"]] > 1 else ""
        anchors.append(f"q{row['question'].replace('.', '-')}{again}")
    links = [
        ("results", "Results"),
        *((anchor, row["question"]) for anchor, row in zip(anchors, rows, strict=True)),
    ]
    package = files("pynn.report")
    return Template(package.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=escape(TITLE),
        style=package.joinpath("page.css").read_text(encoding="utf-8"),
        summary=_summary(rows),
        navigation="<ul>"
        + "".join(f'<li><a href="#{at}">{escape(text)}</a></li>' for at, text in links)
        + "</ul>",
        body=_results(rows, anchors) + "".join(_section(*pair) for pair in zip(rows, anchors, strict=True)),
    )


# -- the top: what was found, and on which data -------------------------------------------------------------


def _summary(rows: list[dict]) -> str:
    if not rows:
        return "<p>No question has been run yet.</p>"
    verdicts = {row["question"]: verdict for row in rows if (verdict := _verdict(row))}
    missed = [f"{question} ({verdict.text[2:]})" for question, verdict in verdicts.items() if not verdict.reached]
    sentences = []
    if verdicts:
        sentences.append(
            f"{len(verdicts) - len(missed)} of the {len(verdicts)} figures that have a target reach it"
            + (f"; {_and(missed)} {'does' if len(missed) == 1 else 'do'} not." if missed else ".")
        )
    embedded = sorted({row["dataset"] for row in rows if row["origin"] == "embedded"})
    real = sorted({row["dataset"] for row in rows if row["origin"] == "real"})
    if real:
        sentences.append(f"Measured on the data that the questions name: {_and(real)}.")
    if embedded:
        questions = [row["question"] for row in rows if row["origin"] == "embedded"]
        sentences.append(
            f"<strong>Other data in {_and(questions)}:</strong> the named data could not be had, and a small set "
            f"that comes with pynn ({_and(embedded)}) stands in, so that these figures do not compare with the "
            "reported ones."
        )
    if quick := [row["question"] for row in rows if row.get("quick")]:
        sentences.append(
            f"<strong>Quick settings in {_and(quick)}:</strong> smaller searches and shorter training than a full "
            "run."
        )
    sentences.append("Every choice was made on validation data; test data were used once, for the chosen model.")
    return f"<p>{' '.join(sentences)}</p>"


class _Verdict:
    """How a row's test accuracy stands to its target."""

    def __init__(self, points: float):
        self.reached = points >= 0
        self.kind = "reached" if self.reached else "missed"
        self.text = "✓ target reached" if self.reached else f"▼ {-points:.2f} points short"


def _verdict(row: dict) -> _Verdict | None:
    """None where there is nothing to judge: no target, no test accuracy, or data other than the question's."""
    if row["origin"] != "real" or row.get("target") is None or row.get("test_accuracy") is None:
        return None
    return _Verdict(round(100 * (row["test_accuracy"] - row["target"]), 6))


def _results(rows: list[dict], anchors: list[str]) -> str:
    heads = ("Question", "Model", "Data", "Reported", "Ours", "Target", "Mean ± std", "Chosen", "Time")
    numeric = {"Reported", "Ours", "Target", "Mean ± std", "Time"}
    head = "".join(
        f'<th scope="col"{_class("number-cell" if name in numeric else "")}>{name}</th>' for name in heads
    )
    body = "".join(_results_row(row, anchor) for row, anchor in zip(rows, anchors, strict=True))
    compared = [row for row in rows if row["origin"] == "real" and _has(row, "test_accuracy", "reported")]
    chart = (
        _figure("At a glance", "Questions on the data they name.", plots.overview(compared), "overview")
        if len(compared) > 1
        else ""
    )
    return f"""<section id="results">
<h2>Results beside the reported figures</h2>
<table class="results">
<thead><tr>{head}</tr></thead>
<tbody>{body}</tbody>
</table>
<p class="legend">Accuracies are shares of the test set that are classified correctly. “Reported” is the course’s
answer, “Ours” the model chosen on validation data, “Mean ± std” the mean and sample standard deviation over
trainings of it with different seeds. {_badge("real")} rows use the data set that the question names.
{_badge("embedded")} rows use a small data set that comes with pynn: reported figures and targets do not apply.</p>
{chart}
</section>
"""


def _results_row(row: dict, anchor: str) -> str:
    verdict = _verdict(row)
    ours = _percent(row, "test_accuracy")
    if verdict:
        ours += f'<small class="{verdict.kind}">{verdict.text}</small>'
    comparable = row["origin"] == "real"
    cells = (
        ("Model", "title", f"{escape(row['title'])}<small>{escape(row['model'])}</small>"),
        ("Data", "", f"{escape(row['dataset'])} {_badge(row['origin'])}{_quick(row)}"),
        ("Reported", "number-cell", _figure_as_stated(row.get("reported")) if comparable else ""),
        ("Ours", "number-cell ours", ours),
        ("Target", "number-cell", _figure_as_stated(row.get("target"), "≥ ") if comparable else ""),
        ("Mean ± std", "number-cell", _mean(row)),
        ("Chosen", "chosen", escape(plots.choice_text(row.get("chosen") or {}))),
        ("Time", "number-cell", _duration(row.get("seconds"))),
    )
    return (
        f"<tr{_class(verdict.kind if verdict and not verdict.reached else '')}>"
        f'<th scope="row"><a href="#{anchor}">{row["question"]}</a></th>'
        + "".join(
            f'<td data-label="{label}"{_class(kind if text else f"{kind} empty".strip())}>'
            f"<div>{text or '<span class=soft>–</span>'}</div></td>"
            for label, kind, text in cells
        )
        + "</tr>\n"
    )


# -- one question -------------------------------------------------------------------------------------------


def _section(row: dict, anchor: str) -> str:
    return f"""<section id="{anchor}">
<h2><span class="number">{row["question"]}</span>{escape(row["title"])}</h2>
<p class="model">{escape(row["model"])}</p>
<p class="data">{_badge(row["origin"])}{_quick(row)} {escape(row["dataset"])}{_samples(row)}</p>
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
    verdict = _verdict(row)
    judged = f'<small class="{verdict.kind}">{verdict.text}</small>' if verdict else ""
    comparable = row["origin"] == "real"
    facts = (
        ("Test accuracy", _percent(row, "test_accuracy"), judged),
        ("Reported", _figure_as_stated(row.get("reported")) if comparable else "", ""),
        ("Target", _figure_as_stated(row.get("target"), "≥ ") if comparable else "", ""),
        ("Mean ± std", _mean(row), ""),
        ("Chosen on validation data", escape(plots.choice_text(row.get("chosen") or {})), ""),
        ("Time", _duration(row.get("seconds")), ""),
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
    names = plots.varied(row.get("search") or [])
    if names and (drawing := plots.search_plot(row["search"], row.get("chosen") or {})):
        subject = " and ".join(plots.words(name) for name in names)
        yield _figure(
            "What was searched", f"Validation accuracy (%) by {subject}; the chosen one is outlined.", drawing
        )
    if drawing := plots.curves(history, "loss"):
        yield _figure("Loss", "Of the chosen model, by epoch.", drawing)
    if drawing := plots.curves(history, "accuracy"):
        yield _figure("Accuracy", "Of the chosen model, by epoch.", drawing)
    if row.get("confusion"):
        caption = "Test samples by true and predicted class; shades are shares of the true class."
        yield _figure("Confusion matrix", caption, plots.confusion_plot(row["confusion"], row["classes"]))
    for plot in row.get("plots") or []:
        if any(line["x"] for line in plot["series"]):
            yield _figure(plot["title"], plot["caption"], plots.series_plot(plot))


def _filters(row: dict) -> str:
    if not row.get("filters"):
        return ""
    tiles = plots.filter_tiles(row["filters"][:TILES])
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
            f'<li><img src="{plots.png(image)}" alt="a {names[0]} predicted as {names[1]}" width="74" height="74">'
            f"<span>{names[0]} → {names[1]}</span></li>"
        )
    return f"""<h3>Misclassified images</h3>
<p class="soft">{_shown(len(images), total, "misclassified test images")}, as true class → predicted class.</p>
<ul class="tiles">{"".join(items)}</ul>"""


def _trials(row: dict) -> str:
    search = row.get("search") or []
    if not search:
        return ""
    names = list(search[0]["choice"])
    head = "".join(f'<th scope="col">{escape(plots.words(name))}</th>' for name in names)
    body = "".join(
        f"<tr{_class('chosen' if trial['choice'] == row.get('chosen') else '')}>"
        + "".join(f"<td>{escape(plots.value_text(trial['choice'].get(name)))}</td>" for name in names)
        + f'<td class="number-cell">{_accuracy(trial.get("val_accuracy"), row.get("n_val"))}</td>'
        + f'<td class="number-cell">{_duration(trial.get("seconds"))}</td></tr>'
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
            f'<tr><th scope="row">{escape(plots.words(key))}</th><td>{escape(_value(value))}</td></tr>'
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


# -- small pieces -------------------------------------------------------------------------------------------


def _figure(title: str, caption: str, drawing: str, kind: str = "") -> str:
    text = f"<span>{escape(caption)}</span>" if caption else ""
    heading = f"<figcaption><strong>{escape(title)}</strong>{text}</figcaption>"
    return f"<figure{_class(kind)}>{heading}\n{drawing}</figure>\n"


def _class(names: str) -> str:
    return f' class="{names}"' if names else ""


def _badge(origin: str) -> str:
    return f'<span class="badge {origin}">{origin}</span>'


def _quick(row: dict) -> str:
    return ' <span class="badge quick">quick</span>' if row.get("quick") else ""


def _percent(row: dict, key: str) -> str:
    return _accuracy(row.get(key), row.get("n_test")) if row.get(key) is not None else ""


def _accuracy(fraction: float | None, samples: int | None) -> str:
    """A percentage with as many decimals as the number of samples can tell apart."""
    return "–" if fraction is None else f"{100 * fraction:.{1 if samples and samples < 1000 else 2}f} %"


def _figure_as_stated(fraction: float | None, sign: str = "") -> str:
    return "" if fraction is None else f"{sign}{round(100 * fraction, 2):g} %"


def _mean(row: dict) -> str:
    if row.get("mean") is None or not row.get("n_seeds") or row["n_seeds"] < 2:
        return ""
    spread = f" ± {100 * row['std']:.2f}" if row.get("std") is not None else ""
    return f"{100 * row['mean']:.2f}{spread} %<small>{row['n_seeds']} seeds</small>"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


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


def _value(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return plots.value_text(value)


def _has(row: dict, *keys: str) -> bool:
    return all(row.get(key) is not None for key in keys)


def _and(names: list[str]) -> str:
    names = [escape(name) for name in names]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
