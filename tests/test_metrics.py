"""Metrics: values and refusals."""

import numpy as np
import pytest

from pynn.metrics import accuracy, confusion_matrix


@pytest.mark.parametrize(
    ("y", "y_pred", "expected"),
    [
        ([0, 1, 2, 2], [0, 2, 2, 2], 0.75),
        ([-1, 1, 1], [1, 1, -1], 1 / 3),
        (np.array([1, 0], np.uint8), np.array([1.0, 0.0]), 1.0),
        (["cat", "dog"], ["dog", "cat"], 0.0),
        ([3], [3], 1.0),
    ],
)
def test_accuracy(y, y_pred, expected):
    got = accuracy(y, y_pred)
    assert type(got) is float
    assert got == expected


def test_confusion_matrix_has_a_row_for_each_true_class():
    matrix = confusion_matrix([0, 0, 1, 2, 2, 2], np.array([0, 1, 1, 0, 2, 0], np.uint8), 4)
    np.testing.assert_array_equal(matrix, [[1, 1, 0, 0], [0, 1, 0, 0], [2, 0, 1, 0], [0, 0, 0, 0]])
    assert matrix.dtype == np.int64


def test_confusion_matrix_agrees_with_accuracy():
    rng = np.random.default_rng(0)
    y, y_pred = rng.integers(0, 7, (2, 500))
    matrix = confusion_matrix(y, y_pred, 7)
    assert matrix.sum() == 500
    assert np.trace(matrix) / 500 == accuracy(y, y_pred)
    np.testing.assert_array_equal(confusion_matrix(y_pred, y, 7), matrix.T)


@pytest.mark.parametrize(
    ("y", "y_pred", "error", "message"),
    [
        ([0, 1], [0], ValueError, r"expected y and y_pred of one shape \(N,\), N ≥ 1, got \(2,\) and \(1,\)"),
        ([[0, 1]], [[0, 1]], ValueError, r"got \(1, 2\) and \(1, 2\)"),
        ([0, 1], [[0.1, 0.9]] * 2, ValueError, r"got \(2,\) and \(2, 2\): of scores take y_pred.argmax"),
        ([], [], ValueError, r"got \(0,\) and \(0,\)"),
        ([0, 1], ["0", "1"], TypeError, "int64 labels cannot equal <U1 ones"),
    ],
)
def test_accuracy_refuses(y, y_pred, error, message):
    with pytest.raises(error, match=message):
        accuracy(y, y_pred)


@pytest.mark.parametrize(
    ("y", "y_pred", "n_classes", "error", "message"),
    [
        ([0, 3], [0, 0], 3, ValueError, "confusion_matrix: y must be whole numbers from 0 to 2, got 3 at index 1"),
        ([0, 0], [0, -1], 3, ValueError, "confusion_matrix: y_pred must be whole numbers from 0 to 2, got -1"),
        ([0, np.nan], [0, 0], 3, ValueError, "got nan at index 1"),
        ([0, 1], [0, 0, 0], 3, ValueError, "expected as many predictions as labels, 2, got 3"),
        ([0, 1], [0, 1], 0, ValueError, "n_classes must be an int from 1 to 20000, got 0"),
        ([0, 1], [0, 1], 2.0, ValueError, "n_classes must be an int from 1 to 20000, got 2.0"),
        (["a"], [0], 2, TypeError, "confusion_matrix: y must be integers, floats or bools"),
    ],
)
def test_confusion_matrix_refuses(y, y_pred, n_classes, error, message):
    with pytest.raises(error, match=message):
        confusion_matrix(y, y_pred, n_classes)


@pytest.mark.parametrize(
    ("y", "y_pred", "expected"),
    [
        ([0, 1, 1], [0, 1, 0], [[1, 0], [1, 1]]),
        ([0, 2], [0, 0], [[1, 0, 0], [0, 0, 0], [1, 0, 0]]),
        (["cat", "dog", "dog"], ["dog", "dog", "cat"], [[0, 1], [1, 1]]),
        ([-1, 1, 1], [1, 1, -1], [[0, 1], [1, 1]]),
        ([True, False], [True, True], [[0, 1], [0, 1]]),
        ([0.5, 1.5], [0.5, 0.5], [[1, 0], [1, 0]]),
        (np.array([[0], [1]]), [0, 1], [[1, 0], [0, 1]]),
    ],
    ids=str,
)
def test_confusion_matrix_of_any_labels_needs_no_number_of_classes(y, y_pred, expected):
    matrix = confusion_matrix(y, y_pred)
    np.testing.assert_array_equal(matrix, expected)
    assert matrix.dtype == np.int64


@pytest.mark.parametrize(
    ("y", "y_pred", "error", "message"),
    [
        ([0, 1], [0], ValueError, r"confusion_matrix: expected y and y_pred of one shape \(N,\)"),
        ([0, 1], np.eye(2), ValueError, r"got \(2,\) and \(2, 2\): of scores take y_pred.argmax\(axis=1\)"),
        (["a"], [0], TypeError, "confusion_matrix: <U1 labels cannot equal int64 ones"),
        ([0, 2**62], [0, 0], ValueError, "n_classes must be an int from 1 to 20000, got 4611686018427387905"),
        ([0, 1], [0, 10**400], TypeError, "int64 labels cannot equal object ones"),
    ],
)
def test_confusion_matrix_of_any_labels_refuses(y, y_pred, error, message):
    with pytest.raises(error, match=message):
        confusion_matrix(y, y_pred)
