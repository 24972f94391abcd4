"""Owns the small pieces of the page's HTML: figures, badges, percentages, durations, and verdicts on targets."""

from __future__ import annotations

from html import escape

from pynn.report.words import value_text, words

__all__ = [
    "accuracy",
    "as_stated",
    "badge",
    "badges",
    "duration",
    "enumeration",
    "figure",
    "mean_and_std",
    "of_class",
    "percent",
    "setting_text",
    "verdict_on",
]


class Verdict:
    """How a row's test accuracy stands to its target."""

    def __init__(self, points: float):
        self.reached = points >= 0
        self.kind = "reached" if self.reached else "missed"
        self.text = "✓ target reached" if self.reached else f"▼ {-points:.2f} points short"


def verdict_on(row: dict) -> Verdict | None:
    """None where there is nothing to judge: no target, no test accuracy, or data other than the question's."""
    if row["origin"] != "real" or row.get("target") is None or row.get("test_accuracy") is None:
        return None
    return Verdict(round(100 * (row["test_accuracy"] - row["target"]), 6))


def figure(title: str, caption: str, drawing: str, kind: str = "") -> str:
    """A <figure> of `drawing`, which is HTML; title and caption are text."""
    text = f"<span>{escape(caption)}</span>" if caption else ""
    heading = f"<figcaption><strong>{escape(title)}</strong>{text}</figcaption>"
    return f"<figure{of_class(kind)}>{heading}\n{drawing}</figure>\n"


def of_class(names: str) -> str:
    """The class attribute for a tag, or nothing."""
    return f' class="{names}"' if names else ""


def badge(kind: str) -> str:
    """A mark: "real", "embedded" or "quick"."""
    return f'<span class="badge {kind}">{kind}</span>'


def badges(row: dict) -> str:
    """Where the row's data come from, and whether it is of a quick run."""
    return badge(row["origin"]) + (" " + badge("quick") if row.get("quick") else "")


def percent(row: dict, key: str) -> str:
    """An accuracy on the row's test data, or nothing."""
    return accuracy(row.get(key), row.get("n_test")) if row.get(key) is not None else ""


def accuracy(fraction: float | None, samples: int | None) -> str:
    """A percentage with as many decimals as the number of samples can tell apart."""
    return "–" if fraction is None else f"{100 * fraction:.{1 if samples and samples < 1000 else 2}f} %"


def as_stated(fraction: float | None, sign: str = "") -> str:
    """A percentage with the decimals that its source gave it: 94 %, 97.24 %."""
    return "" if fraction is None else f"{sign}{round(100 * fraction, 2):g} %"


def mean_and_std(row: dict) -> str:
    """Mean ± sample standard deviation over two seeds or more, or nothing."""
    if row.get("mean") is None or not row.get("n_seeds") or row["n_seeds"] < 2:
        return ""
    spread = f" ± {100 * row['std']:.2f}" if row.get("std") is not None else ""
    return f"{100 * row['mean']:.2f}{spread} %<small>{row['n_seeds']} seeds</small>"


def duration(seconds: float | None) -> str:
    """41.5 s, or 3 min 07 s."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def setting_text(value) -> str:
    """A value of the configuration or the environment, which may be nested."""
    if isinstance(value, dict):
        return ", ".join(f"{words(key)} {setting_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(setting_text, value))
    return value_text(value)


def enumeration(names: list[str]) -> str:
    """["a", "b", "c"] as HTML "a, b and c"."""
    names = [escape(name) for name in names]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
