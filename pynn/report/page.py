"""Owns the report's page: one HTML file, without network or scripts, made from the rows of results.json alone."""

from __future__ import annotations

from collections import Counter
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from pynn.files import write_atomic
from pynn.report.bounds import bounded
from pynn.report.drawing import require_matplotlib
from pynn.report.pieces import (
    as_stated,
    badge,
    badges,
    duration,
    enumeration,
    figure,
    mean_and_std,
    of_class,
    percent,
    verdict_on,
)
from pynn.report.plots import overview
from pynn.report.results import check_rows
from pynn.report.section import section
from pynn.report.words import choice_text

__all__ = ["is_page", "render", "write_report"]

TITLE = "Neural networks, questions 2–7: measured results"


def write_report(rows: list[dict], path: str | Path) -> None:
    """Writes the page for `rows` to `path`, atomically; equal rows give equal bytes.

    Raises ResultsError where a row is not as `pynn.report.results` describes it, ImportError without matplotlib,
    OSError where `path` cannot be written.
    """
    write_atomic(path, render(rows).encode())


def is_page(path: str | Path) -> bool:
    """Whether the file at `path` is a page that `write_report` made."""
    if not Path(path).is_file():
        return False
    with open(path, "rb") as file:
        return f"<title>{escape(TITLE)}</title>".encode() in file.read(2000)


def render(rows: list[dict]) -> str:
    """The page for `rows` as text."""
    check_rows(rows)
    require_matplotlib()
    rows = [bounded(row) for row in rows]
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
        body=_results(rows, anchors) + "".join(section(*pair) for pair in zip(rows, anchors, strict=True)),
    )


# -- the top: what was found, and on which data -------------------------------------------------------------


def _summary(rows: list[dict]) -> str:
    if not rows:
        return "<p>No question has been run yet.</p>"
    verdicts = {row["question"]: verdict for row in rows if (verdict := verdict_on(row))}
    missed = [f"{question} ({verdict.text[2:]})" for question, verdict in verdicts.items() if not verdict.reached]
    sentences = []
    if verdicts:
        sentences.append(
            f"{len(verdicts) - len(missed)} of the {len(verdicts)} figures that have a target reach it"
            + (f"; {enumeration(missed)} {'does' if len(missed) == 1 else 'do'} not." if missed else ".")
        )
    embedded = sorted({row["dataset"] for row in rows if row["origin"] == "embedded"})
    real = sorted({row["dataset"] for row in rows if row["origin"] == "real"})
    if real:
        sentences.append(f"Measured on the data that the questions name: {enumeration(real)}.")
    if embedded:
        questions = [row["question"] for row in rows if row["origin"] == "embedded"]
        sentences.append(
            f"<strong>Other data in {enumeration(questions)}:</strong> the named data could not be had, and a "
            f"small set that comes with pynn ({enumeration(embedded)}) stands in, so that these figures do not "
            "compare with the reported ones."
        )
    if quick := [row["question"] for row in rows if row.get("quick")]:
        sentences.append(
            f"<strong>Quick settings in {enumeration(quick)}:</strong> smaller searches and shorter training than "
            "in a full run."
        )
    sentences.append("Every choice was made on validation data; test data were used once, for the chosen model.")
    return f"<p>{' '.join(sentences)}</p>"


def _results(rows: list[dict], anchors: list[str]) -> str:
    heads = ("Question", "Model", "Data", "Reported", "Ours", "Target", "Mean ± std", "Chosen", "Time")
    numeric = {"Reported", "Ours", "Target", "Mean ± std", "Time"}
    head = "".join(
        f'<th scope="col"{of_class("number-cell" if name in numeric else "")}>{name}</th>' for name in heads
    )
    body = "".join(_results_row(row, anchor) for row, anchor in zip(rows, anchors, strict=True))
    compared = [
        row
        for row in rows
        if row["origin"] == "real" and None not in (row.get("test_accuracy"), row.get("reported"))
    ]
    chart = (
        figure("At a glance", "Questions on the data they name.", overview(compared), "overview")
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
trainings of it with different seeds. {badge("real")} rows use the data set that the question names.
{badge("embedded")} rows use a small data set that comes with pynn; reported figures and targets do not apply.</p>
{chart}
</section>
"""


def _results_row(row: dict, anchor: str) -> str:
    verdict = verdict_on(row)
    ours = percent(row, "test_accuracy")
    if verdict:
        ours += f'<small class="{verdict.kind}">{verdict.text}</small>'
    comparable = row["origin"] == "real"
    cells = (
        ("Model", "title", f"{escape(row['title'])}<small>{escape(row['model'])}</small>"),
        ("Data", "", f"{escape(row['dataset'])} {badges(row)}"),
        ("Reported", "number-cell", as_stated(row.get("reported")) if comparable else ""),
        ("Ours", "number-cell ours", ours),
        ("Target", "number-cell", as_stated(row.get("target"), "≥ ") if comparable else ""),
        ("Mean ± std", "number-cell", mean_and_std(row)),
        ("Chosen", "chosen", escape(choice_text(row.get("chosen") or {}))),
        ("Time", "number-cell", duration(row.get("seconds"))),
    )
    return (
        f"<tr{of_class(verdict.kind if verdict and not verdict.reached else '')}>"
        f'<th scope="row"><a href="#{anchor}">{row["question"]}</a></th>'
        + "".join(
            f'<td data-label="{label}"{of_class(kind if text else f"{kind} empty".strip())}>'
            f"<div>{text or '<span class=soft>–</span>'}</div></td>"
            for label, kind, text in cells
        )
        + "</tr>\n"
    )
