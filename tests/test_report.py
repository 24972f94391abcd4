"""The report's page and results.json: what they show, what they refuse, and that equal rows give equal bytes."""

import json
import math
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from report_rows import rows

from pynn.report import ResultsError, merge_rows, read_rows, render, write_report, write_rows
from pynn.report.images import filter_tiles, png
from pynn.report.search import search_plot
from pynn.report.words import choice_text, number, value_text

pytest.importorskip("matplotlib", reason="the report extra (matplotlib) is not installed")

VOID = {"meta", "link", "img", "br"}


def row_of(question: str, /, **changes) -> dict:
    return next(row for row in rows() if row["question"] == question) | changes


class Page(HTMLParser):
    """Tags with their attributes, in order, and the text inside each class; raises where tags do not match."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"


@pytest.fixture(scope="module")
def text():
    return render(rows())


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def cells(text: str, question: str) -> dict[str, str]:
    """The text of a question's cells in the table of results, by column."""
    line = next(line for line in text.split("<tr") if f">{question}</a></th>" in line)
    found = re.findall(r'<td data-label="([^"]+)"[^>]*>(.*?)</td>', line, re.DOTALL)
    return {label: re.sub(r"<[^>]+>", " ", content).strip() for label, content in found}


# -- the page -----------------------------------------------------------------------------------------------


def test_page_needs_nothing_from_elsewhere(page):
    for tag, attributes in page.tags:
        assert tag not in {"script", "iframe", "object", "embed"}
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes[name][:80])


def test_stylesheet_fetches_nothing(text):
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style


def test_every_question_has_a_row_a_section_and_a_link(page):
    ids = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    links = [attributes["href"][1:] for tag, attributes in page.tags if tag == "a"]
    expected = ["results", *(f"q{row['question'].replace('.', '-')}" for row in rows())]
    assert ids == expected
    assert all(links.count(name) == 2 for name in ids)  # navigation, and table or skip link


def test_ids_are_unique_and_references_resolve(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for value in attributes.values():
            for name in re.findall(r"url\(#([^)]+)\)", value or ""):
                assert name in ids
        for name in ("href", "xlink:href"):
            if attributes.get(name, "").startswith("#"):
                assert attributes[name][1:] in ids


def test_pictures_are_described(page):
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert (
        len(pictures) == sum(len((row["misclassified"] or {"true": []})["true"]) for row in rows()) + 32 + 32 + 8
    )
    assert len(drawings) == 1 + 7 + 8 * 3 + 6  # overview; searches; loss, accuracy, confusion; question 7
    assert all(attributes["alt"].strip() for attributes in pictures)
    assert all(attributes["role"] == "img" and attributes["aria-label"].strip() for attributes in drawings)


def test_table_cells_have_headers(page):
    heads = [attributes.get("scope") for tag, attributes in page.tags if tag == "th"]
    assert heads
    assert set(heads) == {"col", "row"}


def test_table_shows_ours_beside_the_reported_figure(text):
    assert cells(text, "5.3") == {
        "Model": "Convolutional network Conv2d(1, 32, k) – ReLU – MaxPool2d(2) – Linear(h) – ReLU – Linear(10), "
        "cross-entropy",
        "Data": "MNIST  real",
        "Reported": "97.24 %",
        "Ours": "99.12 % ✓ target reached",
        "Target": "≥ 99 %",
        "Mean ± std": cells(text, "5.3")["Mean ± std"],
        "Chosen": "kernel size 5, hidden 128",
        "Time": cells(text, "5.3")["Time"],
    }
    mean, std = 100 * row_of("5.3")["mean"], 100 * row_of("5.3")["std"]
    assert cells(text, "5.3")["Mean ± std"] == f"{mean:.2f} ± {std:.2f} % 3 seeds"


def test_missed_target_is_marked_and_told(text):
    assert cells(text, "2.4")["Ours"] == "93.2 % ▼ 0.80 points short"
    assert len(re.findall(r'<tr class="missed">', text)) == 1
    assert "6 of the 7 figures that have a target reach it; 2.4 (0.80 points short) does not." in text


def test_accuracy_equal_to_the_target_reaches_it():
    text = render([row_of("3.3", test_accuracy=0.928)])
    assert "target reached" in cells(text, "3.3")["Ours"]


def test_embedded_rows_are_not_set_against_the_reported_figures(text):
    assert cells(text, "4.3")["Data"] == "UCI digits 8×8  embedded"
    assert cells(text, "4.3")["Reported"] == cells(text, "4.3")["Target"] == "–"
    assert cells(text, "4.3")["Ours"] == "96.1 %"  # 360 samples do not tell hundredths apart
    assert "Other data in 4.3" in text
    assert "UCI digits 8×8" in text.split("</header>")[0]


def test_quick_rows_say_so(text):
    quick = render([row_of("3.3", quick=True)])
    assert cells(quick, "3.3")["Data"] == "binary20  real   quick"
    assert "Quick settings in 3.3" in quick
    assert "Quick settings" not in text


def test_every_choice_tried_and_every_setting_is_listed():
    text = render([row_of("5.3")])
    assert "Every choice tried (12)" in text
    assert len(re.findall(r'<tr class="chosen">', text)) == 1
    assert '<th scope="row">batch size</th><td>100</td>' in text
    assert '<th scope="row">isa</th><td>avx2</td>' in text


def test_misclassified_images_name_both_classes():
    row = row_of("6.2")
    text = render([row])
    true, predicted = (row["classes"][row["misclassified"][key][0]] for key in ("true", "predicted"))
    assert f'alt="a {true} predicted as {predicted}"' in text
    assert f"<span>{true} → {predicted}</span>" in text
    assert "24 of 2,189 misclassified test images" in text


def test_plots_of_question_7_carry_their_captions_and_labels():
    text = render([row_of("7.1")])
    for plot in row_of("7.1")["plots"]:
        assert plot["title"] in text
        assert plot["caption"].replace("'", "&#x27;") in text
        assert all(f">{label}</text>" in text for label in (plot["x_label"], plot["y_label"]))


def test_everything_given_is_escaped():
    row = row_of("6.2")
    evil = "<script>alert('x')</script>&\"$\\frac$"
    row |= {"title": evil, "model": evil, "dataset": evil, "notes": [evil], "config": {evil: evil}}
    row |= {"classes": [evil] * 10, "chosen": {evil: evil}, "environment": {evil: [evil]}}
    row["search"] = [
        {"choice": {evil: value}, "val_accuracy": 0.5, "seconds": 1.0} for value in (evil, evil + "2")
    ]
    lines = [{"label": evil, "x": [1, 2], "y": [1, 2]}, {"label": "b", "x": [1], "y": [1]}]
    scales = {"x_scale": "linear", "y_scale": "log"}
    row["plots"] = [{"title": evil, "caption": evil, "x_label": evil, "y_label": evil, "series": lines, **scales}]
    text = render([row])
    assert "<script" not in text
    assert "alert(" in text
    assert not any(tag == "script" for tag, _ in Page(text).tags)


def test_equal_rows_give_equal_bytes():
    some = [row_of("4.3"), row_of("7.2")]
    assert render(some) == render(json.loads(json.dumps(some)))


def test_reader_settings_of_matplotlib_change_nothing():
    import matplotlib

    expected = render([row_of("7.2")])
    with matplotlib.rc_context({"lines.linewidth": 9, "axes.xmargin": 0.3, "svg.fonttype": "path"}):
        assert render([row_of("7.2")]) == expected


def test_pyplot_is_left_alone():
    render([row_of("7.2")])
    assert "matplotlib.pyplot" not in sys.modules


def test_row_with_the_required_keys_alone_is_drawn():
    row = {"question": "2.3", "title": "t", "model": "m", "dataset": "d", "origin": "real"}
    assert cells(render([row]), "2.3")["Ours"] == "–"


def test_no_rows_are_a_page_too():
    assert "No question has been run yet." in render([])


def test_question_asked_of_two_data_sets_has_two_sections():
    page = Page(render([row_of("7.2"), row_of("7.2", dataset="other")]))
    ids = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert ids == ["results", "q7-2", "q7-2-2"]


def test_points_that_are_not_numbers_are_gaps():
    plot = row_of("7.3")["plots"][0]
    plot["series"] = [{"label": "only gaps", "x": [1, 2], "y": [None, math.nan]}]
    assert "<svg" in render([row_of("7.3", plots=[plot])]).split("</nav>")[1]


def test_report_is_written_whole_or_not_at_all(tmp_path):
    target = tmp_path / "report.html"
    write_report([row_of("3.3")], target)
    before = target.read_bytes()
    with pytest.raises(ResultsError, match="row 0: expected 'title' to be text, got 3"):
        write_report([row_of("3.3", title=3)], target)
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


# -- the pictures of searches -------------------------------------------------------------------------------


def trials(*choices, accuracy=0.9):
    return [{"choice": c, "val_accuracy": accuracy + 0.001 * n, "seconds": 1.0} for n, c in enumerate(choices)]


@pytest.mark.parametrize(
    ("search", "chosen", "description"),
    [
        (trials({"hidden": 10}, {"hidden": 100}), {"hidden": 100}, "against hidden; chosen 100"),
        (trials({"a": "x", "b": 1}, {"a": "y", "b": 2}), {"a": "y", "b": 2}, "by a and b; chosen a y, b 2"),
        (trials({"a": 1, "b": 1, "c": 0.5}, {"a": 2, "b": 2, "c": 0.1}), {"a": 1}, "of each trial, best first"),
        (trials({"layers": [8, 16]}, {"layers": [32]}), {"layers": [32]}, "of each trial, best first"),
        (
            trials({"hidden": 10, "lr": 0.1}, {"hidden": 30, "lr": 0.1}),
            {"hidden": 10, "lr": 0.1},
            "against hidden",
        ),
    ],
    ids=["one number", "two", "three", "lists", "one that varies"],
)
def test_search_is_drawn_by_the_number_of_choices(search, chosen, description):
    drawing = search_plot(search, chosen)
    assert description in re.search(r'aria-label="([^"]*)"', drawing).group(1)


@pytest.mark.parametrize("search", [[], trials({"hidden": 10}), [{"choice": {"a": 1}, "val_accuracy": None}] * 2])
def test_search_without_a_choice_is_not_drawn(search):
    assert search_plot(search, {}) == ""


def test_heat_map_shows_every_accuracy_and_marks_gaps():
    drawing = search_plot(trials({"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 1}), {"a": 1, "b": 2})
    shown = re.findall(r">([\d.–]+)</text>", drawing)
    assert {"90.00", "90.10", "90.20", "–"} <= set(shown)


# -- images -------------------------------------------------------------------------------------------------


def decoded(address: str) -> np.ndarray:
    import base64
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,")))))


@pytest.mark.parametrize("shape", [(8, 5), (5, 8, 3)])
def test_png_keeps_every_pixel(shape):
    image = np.random.default_rng(0).integers(0, 256, shape)
    np.testing.assert_array_equal(decoded(png(image.tolist())), image)


def test_filters_have_zero_in_the_middle_and_their_own_scale():
    tiles = filter_tiles([[[0.0, 2.0], [-2.0, 1.0]], [[0.0, 0.02], [-0.01, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    np.testing.assert_array_equal(decoded(tiles[0]), [[128, 255], [0, 191]])
    np.testing.assert_array_equal(decoded(tiles[1]), [[128, 255], [64, 128]])
    np.testing.assert_array_equal(decoded(tiles[2]), [[128, 128], [128, 128]])


# -- words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.001, "0.001"),
        (1e-5, "10⁻⁵"),
        (3e6, "3×10⁶"),
        (-2.5, "−2.5"),
        (99999.0, "99999"),
        (1e5, "10⁵"),
    ],
)
def test_numbers_are_written_as_on_an_axis(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(True, "yes"), (None, "none"), ([8, 16], "8–16"), ([], "none"), (1, "1"), ("a", "a")]
)
def test_values_are_written_in_words(value, text):
    assert value_text(value) == text


def test_choice_is_written_in_words():
    assert choice_text({"kernel_size": 7, "lr": 0.1}) == "kernel size 7, lr 0.1"


# -- results.json -------------------------------------------------------------------------------------------


def test_rows_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "results.json"
    write_rows(path, rows())
    assert read_rows(path) == rows()
    assert len(path.read_text().splitlines()) == len(rows()) + 2  # one row a line


def test_numpy_values_and_non_finite_numbers_become_json(tmp_path):
    path = tmp_path / "results.json"
    history = {"epoch": np.arange(3), "loss": (1.0, math.nan, math.inf)}
    write_rows(path, [row_of("7.3", history=history, seconds=np.float32(1.5))])
    (row,) = json.loads(path.read_text())
    assert row["history"] == {"epoch": [0, 1, 2], "loss": [1.0, None, None]}
    (timing,) = json.loads(path.with_name("timings.json").read_text())
    assert timing["seconds"] == 1.5


def test_merged_rows_replace_those_of_the_same_question():
    old = [row_of("2.3", title="old"), row_of("7.1", title="old")]
    new = [row_of("5.4", title="new"), row_of("2.3", title="new")]
    merged = merge_rows(old, new)
    assert [(row["question"], row["title"]) for row in merged] == [("2.3", "new"), ("5.4", "new"), ("7.1", "old")]


def test_questions_are_ordered_as_numbers():
    merged = merge_rows([row_of("2.3", question="10.1")], [row_of("2.3", question="2.10"), row_of("2.3")])
    assert [row["question"] for row in merged] == ["2.3", "2.10", "10.1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("{}", "expected a list of rows, got dict"),
        ("[3]", "row 0: expected a dict, got int"),
        ("[{}]", "row 0: expected 'question' to be a number as \"5.3\", got None"),
    ],
)
def test_file_of_something_else_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ResultsError, match=re.escape(message)) as caught:
        read_rows(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    "changes",
    [
        {"question": "2.3<b>"},
        {"origin": "else"},
        {"test_accuracy": "0.9"},
        {"seconds": math.inf},
        {"n_seeds": True},
        {"chosen": [1]},
        {"search": [{"choice": {}}, 3]},
        {"search": [{"choice": {"a": 1}, "val_accuracy": "high"}]},
        {"history": {"loss": 3}},
        {"classes": [1, 2]},
        {"confusion": [[1, 2], [3]]},
        {"confusion": [[1, 2], [3, -4]]},
        {"confusion": [[1]]},
        {"confusion": [[1, 2, 3]] * 3},
        {"filters": [[1, 2], [3, 4]]},
        {"filters": [[[1, 2], [3]]]},
        {"filters": [[[math.nan]]]},
        {"misclassified": {"images": [[[0]]], "true": [0]}},
        {"misclassified": {"images": [[[0]]], "true": [0], "predicted": [2]}},
        {"misclassified": {"images": [[[0]]], "true": [0, 1], "predicted": [1, 0]}},
        {"plots": [{"title": "t"}]},
        {"plots": [row_of("7.1")["plots"][0] | {"x_scale": "cubic"}]},
        {"plots": [row_of("7.1")["plots"][0] | {"series": [{"label": "l", "x": [1, 2], "y": [1]}]}]},
        {"notes": "one"},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_malformed_row_is_refused_by_key(changes):
    with pytest.raises(ResultsError, match=next(iter(changes))):
        render([row_of("3.3", **changes)])


JUNK = (
    *("1e400", "-1e400", "1" + "0" * 5000, "NaN", "Infinity", "1e-320", "1e308", "-5", "true", "null", '""', "[]"),
    *(
        '"\\ud800"',
        '"\\u0000\\u001b[31m"',
        '"<script>alert(1)</script>"',
        "{}",
        "[[]]",
        "[{}]",
        '{"a": {"b": [1]}}',
    ),
    *("[1e400]", "[null]", '"' + "x" * 5000 + '"', "123456789012345678901234567890", "[" * 40 + "]" * 40),
)


def places(value, path=()):
    """The paths of everything inside `value`, a long list by its first items."""
    inside = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, item in inside:
        yield (*path, key)
        yield from places(item, (*path, key))


@pytest.mark.parametrize("question", ["3.3", "7.3"])
def test_any_value_in_any_place_is_drawn_or_refused_in_one_sentence(question, tmp_path):
    rng = np.random.default_rng(0)
    path, refusals = tmp_path / "results.json", []
    everywhere = list(places(row_of(question)))
    for _ in range(40):
        row = json.loads(json.dumps(row_of(question)))
        place = everywhere[rng.integers(len(everywhere))]
        holder = row
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = "@"
        path.write_text(json.dumps([row]).replace('"@"', JUNK[rng.integers(len(JUNK))]))
        try:
            text = render(read_rows(path))
        except ResultsError as error:
            refusals.append(str(error))
        else:
            text.encode()  # no lone surrogates
            assert not re.search("<script|\x1b|\x00", text)
    assert 0 < len(refusals) < 40
    assert all(len(said) < 300 and said.isprintable() for said in refusals)


def test_a_thousand_classes_are_told_by_their_top_mistakes():
    confusion = np.diag(np.full(1000, 9))
    confusion[7, 3], confusion[1, 0] = 5, 2
    text = render([row_of("4.4", classes=[f"c{k}" for k in range(1000)], confusion=confusion.tolist())])
    table = re.search(r"Most frequent mistakes.*?</table>", text, re.DOTALL).group()
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in table.split("<tr>")[2:]]
    assert cells == [["c7", "c3", "5", "35.7 %"], ["c1", "c0", "2", "18.2 %"]]
    assert len(text) < 200_000


def test_long_lists_are_cut_and_the_page_says_so():
    search = trials(*({"lr": value} for value in range(1, 2001)), accuracy=0.0)
    search = [{**trial, "val_accuracy": 0.5} for trial in search]
    text = render([row_of("3.3", search=search, notes=["x" * 100_000] * 500, config={"a": [["b"] * 999] * 999})])
    assert "Shown are 200 of 2,000 trials of the search, 100 of 500 notes." in text
    assert len(text) < 600_000


def test_a_key_that_comes_twice_is_refused(tmp_path):
    path = tmp_path / "results.json"
    path.write_text('[{"question": "2.3", "question": "2.4"}]')
    with pytest.raises(ResultsError, match="the key question comes twice"):
        read_rows(path)


def test_timings_stand_beside_and_a_row_without_them_is_whole(tmp_path):
    path = tmp_path / "results.json"
    slow = [row_of("2.3", seconds=1e6), row_of("5.3")]
    write_rows(path, [row_of("2.3", seconds=1.0), row_of("5.3")])
    before = path.read_bytes()
    write_rows(path, slow)
    assert path.read_bytes() == before  # what a clock says is not in it
    assert read_rows(path) == slow
    write_rows(path, [row_of("2.3", title="another"), row_of("5.3")])
    stale = (tmp_path / "timings.json").read_bytes()
    path.write_bytes(before)
    (tmp_path / "timings.json").write_bytes(stale)
    assert "seconds" not in read_rows(path)[0]  # timings of another row are not taken for its own
    for damage in (b"", b"[3]", b'{"a": 1}', stale[:50], b"\xff"):
        (tmp_path / "timings.json").write_bytes(damage)
        assert "seconds" not in read_rows(path)[1]


def test_lone_surrogates_are_written_as_escapes(tmp_path):
    path = tmp_path / "results.json"
    write_rows(path, [row_of("2.3", notes=["a folder \udcff"])])
    assert read_rows(path)[0]["notes"] == ["a folder \udcff"]
    assert "a folder \\xff" in render(read_rows(path))
