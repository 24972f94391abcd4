"""The figures of a trained classifier: what accuracy alone would hide, in few lines."""

import numpy as np

from pynn.cli.figures import classification_figures


def test_accuracy_stands_beside_the_largest_class_and_each_class():
    """Three in a hundred are ill, and nobody is found: right in 97 % of cases."""
    y = np.zeros(100, int)
    y[:3] = 1
    text = classification_figures("screening", y, np.zeros(100, int), ("well", "ill"))
    assert text.splitlines() == [
        "Test accuracy 97.00 % on 100 samples of screening.",
        "The largest class, well, has 97.00 % of them.",
        "class  samples    recall  precision",
        "well        97  100.00 %    97.00 %",
        "ill          3    0.00 %          –",
    ]


def test_recall_is_of_a_class_and_precision_of_what_is_taken_for_it():
    y, y_pred = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 0])
    rows = [line.split() for line in classification_figures("d", y, y_pred, ("a", "b", "c")).splitlines()[3:]]
    assert rows == [["a", "4", "75.00", "%", "75.00", "%"], ["b", "2", "50.00", "%", "50.00", "%"]]


def test_of_many_classes_those_recognised_worst_are_shown():
    y = np.repeat(np.arange(1000), 4)
    y_pred = y.copy()
    y_pred[:: 4 * 50] += 1  # one sample of every fiftieth class
    y_pred[4 * 700 : 4 * 701] = 5
    lines = classification_figures("d", y, y_pred, tuple(f"class {k}" for k in range(1000))).splitlines()
    assert len(lines) == 24
    assert lines[2] == "Of 1000 classes, the 20 that are recognised worst:"
    assert [line.split()[1] for line in lines[4:7]] == ["700", "0", "50"]


def test_names_are_short_and_printable():
    text = classification_figures("\x1b[2J", np.array([0, 1]), np.array([0, 1]), ("x" * 999, "\n\u202e"))
    assert all(line.isprintable() and len(line) < 120 for line in text.splitlines())
