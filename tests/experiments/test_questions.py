"""Every question, on tiny data: complete rows, repeatable, blind to the test data; on real data: the figures."""

import json
import os
from dataclasses import FrozenInstanceError, asdict, replace

import numpy as np
import pytest
from tiny_questions import SHORT, TINY, tiny

import cnn_ext
from pynn.data import DataNotFound
from pynn.experiments import QUESTIONS, q2, q3, q4, q5, q6, q7
from pynn.experiments.protocol import fit
from pynn.report.results import check_rows

PARTS = {
    "q2": ["2.3", "2.4"],
    "q3": ["3.3", "3.4"],
    "q4": ["4.3", "4.4"],
    "q5": ["5.3", "5.4"],
    "q6": ["6.2"],
    "q7": ["7.1", "7.2", "7.3"],
}
KEYS = {
    *("question", "title", "model", "dataset", "origin", "n_train", "n_val", "n_test"),
    *("test_accuracy", "reported", "target", "chosen", "mean", "std", "n_seeds", "seeds", "seconds"),
    *("search", "history", "confusion", "classes", "misclassified", "filters", "plots", "notes"),
    *("config", "environment"),
}


@pytest.fixture(autouse=True)
def one_thread():
    before = cnn_ext.get_num_threads()
    cnn_ext.set_num_threads(1)
    yield
    cnn_ext.set_num_threads(before)


def run(name, monkeypatch, change=lambda data: data, **options):
    def load(name, data_dir, *, fallback):
        assert fallback
        return change(tiny(name))

    for module in (q2, q3, q4, q5, q6, q7):
        monkeypatch.setattr(module, "load", load)
    return QUESTIONS[name].run(TINY[name], **{"progress": False, **options})


def timeless(row):
    """The row without what a clock measured, as JSON."""
    row = {key: value for key, value in row.items() if key != "seconds"}
    row["search"] = [{**trial, "seconds": None} for trial in row["search"]]
    row["history"] = {**row["history"], "seconds": None}
    return json.loads(json.dumps(row))


@pytest.mark.parametrize("name", QUESTIONS)
def test_rows_are_complete_and_handed_out_one_by_one(name, monkeypatch, capsys):
    handed_out = []
    rows = run(name, monkeypatch, on_row=handed_out.append)
    assert [row["question"] for row in rows] == PARTS[name]
    assert all(given is row for given, row in zip(handed_out, rows, strict=True))
    check_rows(json.loads(json.dumps(rows, allow_nan=False)))
    for row in rows:
        assert row.keys() == KEYS
        assert row["config"]
        assert (row["n_val"], row["n_test"], row["origin"]) == (20, 20, "real")
        assert row["environment"]["numpy"] == np.__version__
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["q2", "q3", "q4", "q5", "q6"])
def test_rows_with_an_accuracy_agree_with_themselves(name, monkeypatch):
    for row in run(name, monkeypatch):
        confusion = np.array(row["confusion"])
        assert confusion.sum() == row["n_test"]
        assert row["test_accuracy"] == pytest.approx(np.trace(confusion) / confusion.sum())
        assert row["test_accuracy"] == row["seeds"][0]
        assert row["mean"] == pytest.approx(np.mean(row["seeds"]))
        assert len(row["seeds"]) == row["n_seeds"]
        assert (row["std"] is None) == (row["n_seeds"] == 1)
        if row["search"]:
            best = max(row["search"], key=lambda trial: trial["val_accuracy"])
            assert row["chosen"] == best["choice"]
        if row["misclassified"] is not None:
            assert len(row["misclassified"]["true"]) == min(24, row["n_test"] - np.trace(confusion))
        assert row["history"]["epoch"] == [1]


def test_question_7_has_plots_and_notes_instead_of_an_accuracy(monkeypatch):
    for row in run("q7", monkeypatch):
        assert row["test_accuracy"] is None
        assert len(row["plots"]) >= 2
        assert all(any(character.isdigit() for character in note) for note in row["notes"])
        for plot in row["plots"]:
            assert all(len(line["x"]) > 1 and np.isfinite(line["y"]).all() for line in plot["series"])


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_seed_alone_decides(name, monkeypatch):
    first, same = (list(map(timeless, run(name, monkeypatch, seed=5))) for _ in range(2))
    assert first == same
    other = list(map(timeless, run(name, monkeypatch, seed=6)))
    assert all(a != b for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("name", QUESTIONS)
def test_nothing_but_the_verdict_depends_on_the_test_data(name, monkeypatch):
    def other_test_data(data):
        rng = np.random.default_rng(1)
        x_test = rng.permutation(data.x_test.ravel()).reshape(data.x_test.shape)
        return replace(data, x_test=x_test, y_test=(data.y_test + 1) % len(data.classes))

    verdict = {"test_accuracy", "mean", "std", "seeds", "confusion", "misclassified"}
    for row, other in zip(run(name, monkeypatch), run(name, monkeypatch, other_test_data), strict=True):
        row, other = timeless(row), timeless(other)
        if row["question"] == "7.2":
            assert row["plots"][0] != other["plots"][0]  # test accuracy
            assert row["plots"][2] == other["plots"][2]  # scale of the scores
        else:
            assert {key for key in row if row[key] != other[key]} <= verdict
            assert row["test_accuracy"] is None or row["confusion"] != other["confusion"]


@pytest.mark.parametrize("module", [q4, q5])
def test_the_search_is_shorter_than_the_final_training(module, monkeypatch):
    epochs = []

    def recording(model, loss, split, recipe, rng, training, **options):
        epochs.append(recipe.epochs)
        return fit(model, loss, split, recipe, rng, training, **options)

    monkeypatch.setattr(module, "fit", recording)
    monkeypatch.setattr(module, "load", lambda name, data_dir, *, fallback: tiny(name))
    long = {
        "q4": {"hidden": replace(SHORT, epochs=2)},
        "q5": dict.fromkeys(("plain", "batch_norm"), replace(SHORT, epochs=2)),
    }
    name = module.__name__.rpartition(".")[2]
    rows = module.run(replace(TINY[name], **long[name]), progress=False)
    expected = {
        "q4": [1] * 2 + [1] * 2 + [1] * 2 + [2] * 2,  # 4.3: candidates, seeds; 4.4: candidates, seeds
        "q5": [1] * 2 + [2] + [1] * 2 + [2],
    }
    assert epochs == expected[name]
    assert rows[-1]["history"]["epoch"] == [1, 2]


@pytest.mark.parametrize("name", QUESTIONS)
def test_configurations_are_frozen_plain_and_quick_ones_smaller(name):
    full, quick = QUESTIONS[name].Config(), QUESTIONS[name].Config.quick()
    assert full != quick
    field = next(iter(asdict(full)))
    with pytest.raises(FrozenInstanceError):
        setattr(full, field, None)
    assert json.loads(json.dumps(asdict(quick)))


def test_embedded_data_stand_in_where_there_are_none_but_not_for_a_folder_that_was_named(tmp_path, monkeypatch):
    config = replace(TINY["q6"], max_train=30)
    with pytest.raises(DataNotFound, match="CIFAR-10: expected cifar-10-batches-py/"):
        q6.run(config, data_dir=tmp_path, progress=False)
    for variable, value in (("XDG_CACHE_HOME", str(tmp_path)), ("PYNN_OFFLINE", "1"), ("PYNN_DATA", "")):
        monkeypatch.setenv(variable, value)
    (row,) = q6.run(config, progress=False)
    assert (row["origin"], row["dataset"], row["n_train"]) == ("embedded", "UCI digits", 30)
    assert "CIFAR-10" in row["notes"][0]
    assert np.shape(row["misclassified"]["images"])[1:] == (32, 32)


# -- on the real data ---------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.skipif("PYNN_DATA" not in os.environ, reason="the figures are those of real data: set PYNN_DATA")
@pytest.mark.parametrize(
    ("name", "quick", "least"),
    [
        ("q2", False, {"2.3": 0.936, "2.4": 0.94}),
        ("q3", False, {"3.3": 0.928, "3.4": 0.94}),
        ("q4", True, {"4.3": 0.89, "4.4": 0.95}),
        ("q5", True, {"5.3": 0.97, "5.4": 0.97}),
        ("q6", True, {"6.2": 0.45}),
    ],
)
def test_real_data_reach_the_figures(name, quick, least):
    question = QUESTIONS[name]
    rows = question.run(question.Config.quick() if quick else question.Config(), progress=False)
    assert {row["question"]: row["origin"] for row in rows} == dict.fromkeys(least, "real")
    short = {
        row["question"]: row["test_accuracy"] for row in rows if row["test_accuracy"] < least[row["question"]]
    }
    assert short == {}
