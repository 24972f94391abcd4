"""Softmax and cross-entropy: exact arithmetic and the twin, extreme scores, NaN, and what is refused."""

from decimal import Decimal, localcontext
from math import isnan

import numpy as np
import pytest
from kernel_cases import RELATIVE, numeric_gradient

from cnn_ext import reference, softmax_cross_entropy

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
smoothings = pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])


def exactly(scores, labels, label_smoothing):
    """(loss, gradient) of the formula in 60 digits, rounded to float64 once."""
    with localcontext() as context:
        context.prec = 60
        n, k = scores.shape
        smoothing = Decimal(label_smoothing)
        loss, dscores = Decimal(0), np.empty((n, k))
        for i, label in enumerate(labels):
            powers = [Decimal(float(score)).exp() for score in scores[i]]
            p = [power / sum(powers) for power in powers]
            q = [smoothing / k + (1 - smoothing if j == label else 0) for j in range(k)]
            loss -= sum(q[j] * p[j].ln() for j in range(k)) / n
            dscores[i] = [float((p[j] - q[j]) / n) for j in range(k)]
        return float(loss), dscores


@dtypes
@smoothings
@pytest.mark.parametrize("spread", [0.01, 3, 40])
def test_every_digit(spread, label_smoothing, dtype):
    """Relative to each entry: without smoothing also where p is almost q, and the loss almost 0."""
    rng = np.random.default_rng(0)
    scores = (spread * rng.standard_normal((6, 5))).astype(dtype)
    labels = np.array([0, 4, *scores[2:].argmax(axis=1)])
    loss, dscores = softmax_cross_entropy(scores, labels, label_smoothing=label_smoothing)
    exact_loss, exact = exactly(scores, labels, label_smoothing)
    assert loss == pytest.approx(exact_loss, rel=1e-14, abs=0)
    differences = 1e-16 if label_smoothing else np.finfo(dtype).smallest_subnormal
    rounding = 3e-7 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(dscores, exact, rtol=rounding, atol=differences)


@dtypes
@smoothings
@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 2), (3, 1), (7, 1023), (5, 1024), (5, 1025), (103, 10), (9000, 3)], ids=str
)
def test_the_twin_at_every_cut(shape, label_smoothing, dtype):
    rng = np.random.default_rng(1)
    scores, labels = rng.standard_normal(shape).astype(dtype), rng.integers(0, shape[1], shape[0])
    loss, dscores = softmax_cross_entropy(scores, labels, label_smoothing=label_smoothing)
    expected_loss, expected = reference.softmax_cross_entropy(scores, labels, label_smoothing=label_smoothing)
    assert type(loss) is float
    assert loss == pytest.approx(expected_loss, rel=1e-12, abs=1e-15)
    assert dscores.dtype == dtype
    np.testing.assert_allclose(dscores, expected, rtol=0, atol=RELATIVE[dtype] / shape[0])


@smoothings
def test_gradient_equals_central_differences(label_smoothing):
    rng = np.random.default_rng(2)
    scores, labels = rng.standard_normal((4, 3)), np.array([0, 2, 2, 1])

    def loss():
        return softmax_cross_entropy(scores, labels, label_smoothing=label_smoothing)[0]

    dscores = softmax_cross_entropy(scores, labels, label_smoothing=label_smoothing)[1]
    np.testing.assert_allclose(dscores, numeric_gradient(loss, scores, 1.0, 1e-5), rtol=1e-8, atol=1e-11)


@dtypes
def test_scores_of_any_size(dtype):
    far = 3e38 if dtype == np.float32 else 1.7e308  # twice as much is infinite in their own dtype
    scores = np.array([[far, -far], [0, 0], [-far, -far]], dtype)
    loss, dscores = softmax_cross_entropy(scores, np.array([0, 1, 0]))
    assert loss == pytest.approx(2 / 3 * np.log(2), rel=1e-15)
    np.testing.assert_allclose(dscores, np.array([[0, 0], [1, -1], [-1, 1]]) / 6, rtol=1e-7)
    loss, dscores = softmax_cross_entropy(scores[:1], np.array([1]))
    assert loss == 2 * float(dtype(far))
    np.testing.assert_array_equal(dscores, [[1, -1]])


def test_certainty_beyond_the_digits_of_one():
    loss, dscores = softmax_cross_entropy(np.array([[0.0, 80]]), np.array([1]))
    assert loss == pytest.approx(np.exp(-80), rel=1e-14, abs=0)
    np.testing.assert_allclose(dscores, [[np.exp(-80), -np.exp(-80)]], rtol=1e-14)


@dtypes
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [(0, 0), (150, 3), (299, 9)])
def test_one_score_that_is_not_finite_makes_all_nan(at, value, dtype):
    scores = np.random.default_rng(3).standard_normal((300, 10)).astype(dtype)
    scores[at] = value
    for label in (at[1], (at[1] + 1) % 10):
        loss, dscores = softmax_cross_entropy(scores, np.full(300, label))
        assert isnan(loss)
        assert np.isnan(dscores).all()


def refuses(error, message, scores, labels, **options):
    with pytest.raises(error, match=f"^softmax_cross_entropy: {message}"):
        softmax_cross_entropy(scores, labels, **options)


def test_labels_that_do_not_fit_are_refused():
    scores = np.zeros((3, 4))
    refuses(ValueError, "1 of 3 labels are not from 0 to 3", scores, np.array([0, 4, 3]))
    refuses(ValueError, "2 of 3 labels are not from 0 to 3", scores, np.array([-1, 2**62, 3]))
    refuses(ValueError, r"expected labels of shape \(3,\), got \(4,\)", scores, np.array([0, 1, 2, 3]))
    refuses(ValueError, r"expected labels of shape \(3,\), got \(3, 1\)", scores, np.array([[0], [1], [2]]))
    refuses(TypeError, "labels must be int64, got float64", scores, np.zeros(3))
    refuses(TypeError, "labels must be int64, got int32", scores, np.zeros(3, np.int32))


def test_smoothing_that_does_not_fit_is_refused():
    scores, labels = np.zeros((3, 4)), np.zeros(3, np.int64)
    refuses(ValueError, "label_smoothing must be from 0 to 1, got 1.5", scores, labels, label_smoothing=1.5)
    refuses(ValueError, "label_smoothing must be finite and at least 0", scores, labels, label_smoothing=-0.1)
    refuses(ValueError, "label_smoothing must be finite", scores, labels, label_smoothing=np.nan)
    refuses(TypeError, "label_smoothing must be a number", scores, labels, label_smoothing="0.1")
