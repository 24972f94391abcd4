"""The mathematics of the documents is what GitHub shows: Markdown reads a page before the formulas are looked for.

A fenced ```math block and a backtick span $`…`$ are code to Markdown and reach the formula as they are. A plain
$…$ is text: a backslash before punctuation is an escape there (`\\,` becomes `,`), `*` and some `_` are emphasis,
`<b` is HTML.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]

BLOCK = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
BACKTICK = re.compile(r"\$`([^`]+)`\$")
CODE = re.compile(r"(?<!\$)(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
PLAIN = re.compile(r"(.?)\$([^$]+)\$(.?)", re.DOTALL)

EATEN = {
    "an escape": re.compile(r"\\[^\w\s]"),
    "emphasis by *": re.compile(r"\*"),
    "emphasis by _": re.compile(r"[^\w\s]_"),  # after punctuation it may open; after a letter or digit it cannot
    "HTML": re.compile(r"<[a-zA-Z/!?]"),
    "an entity": re.compile(r"&#?\w+;"),
    "a link": re.compile(r"\]\s*[(\[]"),
    "strike-through": re.compile("~"),
    "a backtick": re.compile("`"),
    "a line break": re.compile(r"\n"),
    "space at an end": re.compile(r"^\s|\s$"),
}
REFUSED = re.compile(r"\\(?:operatorname|def|newcommand|href|require|unicode|htmlClass|mathchoice)\b")  # by GitHub


def blocks(text):
    return BLOCK.findall(text)


def spans(text):
    """The inline formulas of a document: (in backticks, plain), the latter with the characters at their sides."""
    prose = FENCED.sub("", text)
    backtick = BACKTICK.findall(prose)
    return backtick, PLAIN.findall(CODE.sub("code", BACKTICK.sub("formula", prose)))


def faults(text):
    """What GitHub would not show as it is written."""
    backtick, plain = spans(text)
    for before, formula, after in plain:
        for what, pattern in EATEN.items():
            if pattern.search(formula):
                yield f"{what} in ${formula}$"
        if before not in ("", " ", "\n", "(", "[", "|") or after not in ("", *" \n.,;:)]|?!"):
            yield f"not told from text: {before}${formula}${after}"
    for formula in backtick:
        if "\n" in formula:
            yield f"a line break in $`{formula}`$"
    for formula in [*blocks(text), *backtick, *(formula for _, formula, _ in plain)]:
        if REFUSED.search(formula):
            yield f"a macro that GitHub refuses in {formula}"
        if formula.replace(r"\{", "").count("{") != formula.replace(r"\}", "").count("}"):
            yield f"unbalanced braces in {formula}"
        if sorted(re.findall(r"\\begin\{(\w+)\}", formula)) != sorted(re.findall(r"\\end\{(\w+)\}", formula)):
            yield f"unbalanced environments in {formula}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_mathematics_is_shown_as_written(document):
    assert list(faults(document.read_text(encoding="utf-8"))) == []


def test_the_derivations_are_full_of_mathematics():
    text = (ROOT / "docs" / "derivations.md").read_text(encoding="utf-8")
    assert len(blocks(text)) > 50
    assert sum(map(len, spans(text))) > 100
    assert text.count("```math") == len(blocks(text))


@pytest.mark.parametrize(
    "text",
    [
        r"$a\,b$",
        r"$\{0, 1\}$",
        r"$a \\ b$",
        r"$a\;b$",
        r"$\bigl\| x \bigr\|$",
        "$a * b * c$",
        r"$a *_{\mathrm{full}} b$",
        r"$\hat{x}_i y_j$",
        "$i <n$",
        "$a\nb$",
        "$`a\nb`$",
        "$ a$",
        "a$b$",
        "$n$th",
        "$`\\operatorname{x}`$",
        "```math\n\\frac{1}{2\n```",
        "```math\n\\begin{aligned} x\n```",
    ],
)
def test_a_span_that_github_would_change_is_seen(text):
    assert len(list(faults(text))) >= 1


@pytest.mark.parametrize(
    "text",
    [
        r"$`a\,b * c`$",
        "of $`x`$, $y$ and ($z$).",
        "```math\na\\,b \\\\ c * d\n```",
        "`$HOME` and `a * $b`",
        "```sh\necho $HOME $PATH\n```",
        r"$x_{n,c,u+i} \le \mathbf 1$",
    ],
)
def test_a_span_that_github_shows_is_left_alone(text):
    assert list(faults(text)) == []
