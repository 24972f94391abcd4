"""The documents keep their word: pointers and links resolve, formulas are tested, quoted code is the real code."""

import ast
import importlib
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DERIVATIONS = (ROOT / "docs" / "derivations.md").read_text(encoding="utf-8")

NAME = re.compile(r"`((?:cnn_ext|pynn)(?:\.\w+)+)(?:\([^`]*\))?`")
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
FILE = re.compile(r"`((?:cnn_ext|pynn|tests|docs|examples|benchmarks|\.ci)/[\w./]*)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
TAG = re.compile(r"\\tag\{([\d.]+)\}")


def resolve(dotted):
    """The object that a dotted name says, importing as many leading parts as are modules."""
    parts = dotted.split(".")
    value = importlib.import_module(parts[0])
    for i, part in enumerate(parts[1:], 2):
        try:
            value = getattr(value, part)
        except AttributeError:
            value = importlib.import_module(".".join(parts[:i]))
    return value


@cache
def functions(path):
    """Name → docstring of the test functions in a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {
        node.name: ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    }


def anchors(text):
    """The anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(text, folder):
    """Pointers and relative links of a document that lead nowhere."""
    for name in NAME.findall(text):
        try:
            resolve(name)
        except ImportError:
            yield name
    for path, test in TEST.findall(text):
        if not (ROOT / path).is_file() or (test and test not in functions(path)):
            yield f"{path}::{test}"
    for path in FILE.findall(text):
        if not (ROOT / path).exists():
            yield path
    for link in LINK.findall(text):
        path, _, anchor = link.partition("#")
        target = folder / path if path else None
        if re.match(r"[a-z]+:", link):  # elsewhere on the web
            continue
        if target and not target.exists():
            yield link
            continue
        if anchor and anchor not in anchors(target.read_text(encoding="utf-8") if target else text):
            yield link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_pointer_and_link_resolves(document):
    assert list(broken(document.read_text(encoding="utf-8"), document.parent)) == []


@pytest.mark.parametrize(
    "text",
    [
        "`cnn_ext.no_such_op`",
        "`pynn.layers.NoSuchLayer(3)`",
        "`tests/test_docs.py::test_no_such_thing`",
        "`tests/no_such_file.py`",
        "`cnn_ext/no_such_file.py`",
        "[a](docs/no-such-file.md)",
        "[a](#no-such-heading)",
        "[a](docs/derivations.md#no-such-heading)",
    ],
)
def test_a_broken_pointer_is_seen(text):
    assert len(list(broken(text, ROOT))) >= 1


def test_every_formula_is_followed_by_its_function_and_its_test():
    pieces = TAG.split(DERIVATIONS)[1:]  # tag, what follows it, tag, …
    tags, followers = pieces[::2], pieces[1::2]
    assert len(tags) == len(set(tags)) > 30
    for tag, follower in zip(tags, followers, strict=True):
        pointer = re.search(r"^→ (.+)$", follower, re.MULTILINE)
        assert pointer, f"no pointer after formula ({tag})"
        assert NAME.search(pointer[1]), f"no function after formula ({tag})"
        path, test = TEST.search(pointer[1]).groups()
        assert f"({tag})" in functions(path)[test], f"{test} does not claim formula ({tag})"


def test_every_reference_to_a_formula_is_to_one_of_the_page():
    references = set(re.findall(r"\((\d+\.\d+)\)", DERIVATIONS))
    assert len(references) > 10
    assert references <= set(TAG.findall(DERIVATIONS))


def test_every_formula_that_a_test_claims_is_in_the_document():
    claimed = re.findall(r"\((\d+\.\d+)\)", "".join(functions("tests/test_derivations.py").values()))
    assert set(claimed) == set(TAG.findall(DERIVATIONS))


def readme_block(language, heading):
    """The first fenced block of a language below a heading of the README."""
    below = README[README.index(f"\n## {heading}\n") :]
    return re.search(rf"```{language}\n(.*?)```", below, re.DOTALL)[1]


def test_readme_quickstart_is_the_example():
    example = (ROOT / "examples" / "quickstart.py").read_text(encoding="utf-8")
    docstring = ast.parse(example).body[0]
    body = "".join(example.splitlines(keepends=True)[docstring.end_lineno :])
    quickstart = readme_block("python", "Quickstart")
    assert body.strip().startswith(quickstart.strip())  # the rest of the example checks its accuracy
    assert 10 <= len(quickstart.splitlines()) <= 15


def test_readme_names_one_command_for_the_main_job_and_one_for_the_tests():
    commands = readme_block("sh", "Two commands").strip().splitlines()
    main_job, tests = (line for line in commands if not line.startswith("#"))
    assert re.fullmatch(r'pip install "\.\[\w+\]" && pynn run all', main_job)
    assert re.fullmatch(r'pip install -e "\.\[\w+\]" && pytest', tests)
    assert re.findall(r"^pip install .* && pytest$", README, re.MULTILINE) == [tests]  # what .ci/run looks for
