"""Losses: exact values, gradients by central differences, extreme scores, and what is refused."""

import json
from math import exp, isnan, log, log1p

import numpy as np
import pytest

from pynn.losses import (
    CrossEntropyLoss,
    HingeLoss,
    LogisticLoss,
    MSELoss,
    MultiClassHingeLoss,
    SquaredHingeLoss,
    class_indices,
    softmax,
)

BINARY = [LogisticLoss(), HingeLoss(), SquaredHingeLoss()]
MULTI_CLASS = [MultiClassHingeLoss(), MultiClassHingeLoss(0.3), CrossEntropyLoss(), CrossEntropyLoss(0.1)]
ALL = [*BINARY, *MULTI_CLASS, MSELoss()]
N, K = 7, 5

binary = pytest.mark.parametrize("loss_fn", BINARY, ids=repr)
multi_class = pytest.mark.parametrize("loss_fn", MULTI_CLASS, ids=repr)
every_loss = pytest.mark.parametrize("loss_fn", ALL, ids=repr)


def a_batch(loss_fn, rng, n=N, dtype=np.float64):
    """Random scores and labels that `loss_fn` takes."""
    if loss_fn in BINARY:
        return rng.normal(size=(n, 1)).astype(dtype) * 2, rng.integers(0, 2, n)
    scores = rng.normal(size=(n, K)).astype(dtype) * 2
    return scores, rng.integers(0, K, n) if loss_fn in MULTI_CLASS else rng.normal(size=(n, K))


def distance_to_kink(loss_fn, scores, y):
    """How far the scores may move before the loss stops being differentiable."""
    if isinstance(loss_fn, HingeLoss | SquaredHingeLoss):
        return np.abs(1 - np.where(y > 0, 1, -1) * scores.reshape(-1)).min()
    if isinstance(loss_fn, MultiClassHingeLoss):
        gaps = scores - scores[np.arange(len(y)), y][:, None] + loss_fn.margin
        return np.abs(gaps[np.arange(scores.shape[1]) != y[:, None]]).min() / 2
    return np.inf


# -- gradients ------------------------------------------------------------------------------------------------


@every_loss
@pytest.mark.parametrize("n", [N, 1])
def test_gradient_is_the_central_difference(loss_fn, n):
    rng = np.random.default_rng(3)
    scores, y = a_batch(loss_fn, rng, n)
    h = 1e-5
    assert distance_to_kink(loss_fn, scores, y) > 10 * h
    _, dscores = loss_fn(scores, y)
    assert np.abs(dscores).max() > 0.01
    for index in np.ndindex(scores.shape):
        ahead, behind = scores.copy(), scores.copy()
        ahead[index] += h
        behind[index] -= h
        numeric = (loss_fn(ahead, y)[0] - loss_fn(behind, y)[0]) / (2 * h)
        assert dscores[index] == pytest.approx(numeric, rel=1e-7, abs=1e-10)


@every_loss
def test_loss_and_gradient_are_means_over_the_batch(loss_fn):
    scores, y = a_batch(loss_fn, np.random.default_rng(3))
    loss, dscores = loss_fn(scores, y)
    singles = [loss_fn(scores[i : i + 1], y[i : i + 1]) for i in range(N)]
    assert loss == pytest.approx(np.mean([single for single, _ in singles]), rel=1e-14)
    np.testing.assert_allclose(dscores, np.concatenate([d for _, d in singles]) / N, rtol=1e-14, atol=1e-16)


# -- values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss_fn", "scores", "y", "loss", "dscores"),
    [
        (LogisticLoss(), [0.0, 0.0], [0, 1], log(2), [0.25, -0.25]),
        (LogisticLoss(), [2.0], [1], log1p(exp(-2)), [-1 / (1 + exp(2))]),
        (HingeLoss(), [0.5, -3.0, 2.0, 0.25], [1, 1, 1, 0], (0.5 + 4 + 0 + 1.25) / 4, [-0.25, -0.25, 0, 0.25]),
        (HingeLoss(), [1.0], [1], 0, [0]),  # at the kink
        (SquaredHingeLoss(), [0.5, -3.0, 2.0], [1, 1, 1], (0.25 + 16) / 3, [-1 / 3, -8 / 3, 0]),
        (
            MultiClassHingeLoss(),
            [[1.0, 2.0, 1.5], [0.0, 9.0, 0.0]],
            [0, 1],
            (2 + 1.5) / 2,
            [[-1, 0.5, 0.5], [0] * 3],
        ),
        (MultiClassHingeLoss(2.0), [[1.0, 2.0, -4.0]], [0], 3, [[-1, 1, 0]]),
        (MultiClassHingeLoss(), [[1.0, 0.0]], [0], 0, [[0, 0]]),  # at the kink
        (CrossEntropyLoss(), [[0.0, 0.0, 0.0, 0.0]], [2], log(4), [[0.25, 0.25, -0.75, 0.25]]),
        (CrossEntropyLoss(), [[log(3), 0.0]], [0], log(4 / 3), [[-0.25, 0.25]]),
        # q = (0.9, 0.1)
        (CrossEntropyLoss(0.2), [[log(3), 0.0]], [0], 0.9 * log(4 / 3) + 0.1 * log(4), [[-0.15, 0.15]]),
        (MSELoss(), [[1.0, 2.0], [3.0, 5.0]], [[1, 0], [3, 4]], 5 / 4, [[0, 1], [0, 0.5]]),
        (MSELoss(), [[1.0], [4.0]], [0, 6], 5 / 2, [[1], [-2]]),
    ],
)
def test_exact_values(loss_fn, scores, y, loss, dscores):
    got_loss, got_dscores = loss_fn(np.array(scores), np.array(y))
    assert type(got_loss) is float
    assert got_loss == pytest.approx(loss, rel=1e-15, abs=1e-15)
    np.testing.assert_allclose(got_dscores, dscores, rtol=1e-15, atol=1e-16)


@every_loss
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradient_has_the_scores_dtype_and_shape_and_full_precision(loss_fn, dtype):
    scores, y = a_batch(loss_fn, np.random.default_rng(4), dtype=dtype)
    exact_loss, exact = loss_fn(scores.astype(np.float64), y)
    loss, dscores = loss_fn(scores, y)
    assert (dscores.dtype, dscores.shape) == (dtype, scores.shape)
    assert dscores.flags.c_contiguous
    assert loss == exact_loss
    np.testing.assert_array_equal(dscores, exact.astype(dtype))


@every_loss
def test_strided_and_read_only_scores(loss_fn):
    scores, y = a_batch(loss_fn, np.random.default_rng(5))
    loss, dscores = loss_fn(scores, y)
    wide = np.zeros((2 * N, 3 * scores.shape[1]))
    wide[::2, ::3] = scores
    for given in (wide[::2, ::3], np.asfortranarray(scores)):
        given.flags.writeable = False
        got_loss, got = loss_fn(given, y)
        assert got_loss == pytest.approx(loss, rel=1e-15)
        np.testing.assert_array_equal(got, dscores)
        assert got.flags.c_contiguous
        np.testing.assert_array_equal(given, scores)


# -- extreme scores -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("loss_fn", "scores", "y", "loss", "dscores"),
    [
        (LogisticLoss(), [1e4, -1e4], [1, 0], 0, [0, 0]),
        (LogisticLoss(), [1e4, -1e4], [0, 1], 1e4, [0.5, -0.5]),
        (HingeLoss(), [1e4, -1e4], [0, 1], 10001, [0.5, -0.5]),
        (SquaredHingeLoss(), [-1e4], [1], 10001**2, [-20002]),
        (MultiClassHingeLoss(), [[1e4, -1e4, 0]], [1], 30002, [[1, -2, 1]]),
        (CrossEntropyLoss(), [[1e4, -1e4], [-1e4, 1e4]], [0, 1], 0, [[0, 0], [0, 0]]),
        (CrossEntropyLoss(), [[1e4, -1e4]], [1], 2e4, [[1, -1]]),
        (CrossEntropyLoss(0.1), [[1e4, -1e4]], [0], 1e3, [[0.05, -0.05]]),
        (MSELoss(), [[1e4, -1e4]], [[-1e4, -1e4]], 2e8, [[2e4, 0]]),
    ],
)
def test_extreme_scores(loss_fn, scores, y, loss, dscores, dtype):
    got_loss, got = loss_fn(np.array(scores, dtype), np.array(y))
    assert got_loss == pytest.approx(loss, rel=1e-14, abs=0)
    np.testing.assert_allclose(got, np.array(dscores, dtype), rtol=1e-14 if dtype == np.float64 else 1e-6, atol=0)


def test_logistic_tail_is_not_rounded_away():
    loss, dscores = LogisticLoss()(np.array([50.0]), [1])
    assert loss == pytest.approx(exp(-50), rel=1e-14, abs=0)
    assert dscores[0] == pytest.approx(-exp(-50), rel=1e-14, abs=0)


@multi_class
@pytest.mark.parametrize("shift", [1e4, -1e4])
def test_shift_of_the_scores_changes_nothing(loss_fn, shift):
    rng = np.random.default_rng(6)
    scores = rng.integers(-32, 32, (N, K)) / 8  # exact after the shift
    y = rng.integers(0, K, N)
    for dtype in (np.float32, np.float64):
        loss, dscores = loss_fn(scores.astype(dtype), y)
        shifted_loss, shifted_dscores = loss_fn((scores + shift).astype(dtype), y)
        assert shifted_loss == loss
        np.testing.assert_array_equal(shifted_dscores, dscores)


@every_loss
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("label", [0, 1])
def test_scores_that_are_not_finite_give_a_nan_loss_and_gradient(loss_fn, value, label):
    scores, y = a_batch(loss_fn, np.random.default_rng(7))
    scores[3, 0], y[3] = value, label
    loss, dscores = loss_fn(scores, y)
    assert isnan(loss)
    assert dscores.shape == scores.shape
    assert np.isnan(dscores).all()


def test_overflow_gives_an_infinite_loss_without_a_warning():
    assert MSELoss()(np.array([1e200]), [-1e200])[0] == np.inf
    assert SquaredHingeLoss()(np.array([-1e200]), [1])[0] == np.inf


# -- labels and predictions -----------------------------------------------------------------------------------


@binary
@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
@pytest.mark.parametrize("scores_shape", [(4,), (4, 1)])
def test_binary_labels_of_any_form(loss_fn, dtype, shape, scores_shape):
    scores = np.array([0.3, -2.0, 1.7, -0.2]).reshape(scores_shape)
    loss, dscores = loss_fn(scores, np.array([0, 1, 1, 0]))
    forms = [np.array([0, 1, 1, 0], dtype)]
    if np.dtype(dtype).kind in "if":
        forms.append(np.array([-1, 1, 1, -1], dtype))
    for y in forms:
        got_loss, got = loss_fn(scores, y.reshape(shape))
        assert got_loss == loss
        np.testing.assert_array_equal(got, dscores)
        assert got.shape == scores_shape
        np.testing.assert_array_equal(loss_fn.correct(scores, y.reshape(shape)), [False, False, True, True])


@pytest.mark.parametrize("kind", [LogisticLoss, HingeLoss, SquaredHingeLoss])
def test_binary_predictions(kind):
    scores = np.array([[-0.1], [0.0], [3.0]], np.float32)
    np.testing.assert_array_equal(kind().predict(scores), [0, 0, 1])
    np.testing.assert_array_equal(kind(labels=(-1, 1)).predict(scores[:, 0]), [-1, -1, 1])
    assert kind().predict(scores).dtype == np.int64


@multi_class
def test_class_predictions(loss_fn):
    scores = np.array([[0.0, 2.0, 1.0], [5.0, 5.0, -1.0]], np.float32)
    np.testing.assert_array_equal(loss_fn.predict(scores), [1, 0])  # the first of equals
    np.testing.assert_array_equal(loss_fn.correct(scores, [1, 1]), [True, False])
    assert loss_fn.correct(scores, [1, 1]).dtype == bool


@multi_class
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64, np.float32])
def test_class_indices_of_any_dtype(loss_fn, dtype):
    scores, y = a_batch(loss_fn, np.random.default_rng(8))
    assert loss_fn(scores, y.astype(dtype))[0] == loss_fn(scores, y)[0]


def test_tasks():
    assert {loss_fn.task for loss_fn in BINARY + MULTI_CLASS} == {"classification"}
    assert MSELoss().task == "regression"


@every_loss
def test_config_rebuilds_the_loss_through_json(loss_fn):
    assert type(loss_fn)(**json.loads(json.dumps(loss_fn.config()))) == loss_fn


def test_repr_and_equality():
    assert repr(CrossEntropyLoss(np.float32(0.5))) == "CrossEntropyLoss(label_smoothing=0.5)"
    assert repr(HingeLoss(labels=[-1, 1])) == "HingeLoss(labels=(-1, 1))"
    assert LogisticLoss() != HingeLoss()
    assert MultiClassHingeLoss(1) == MultiClassHingeLoss()


# -- refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss_fn", "scores_shape", "y", "message"),
    [
        (LogisticLoss(), (3,), [0, 1, 2], r"\[LogisticLoss\] y must be 0/1 or -1/\+1, got 2 at index 2"),
        (LogisticLoss(), (3,), np.array([0, 255, 1], np.uint8), "got 255 at index 1"),
        (HingeLoss(), (3,), [0, 0.5, 1], "got 0.5 at index 1"),
        (HingeLoss(), (3,), [np.nan, 0, 1], "got nan at index 0"),
        (SquaredHingeLoss(), (3,), [0, -1, 1], r"\[SquaredHingeLoss\] y mixes 0 and -1"),
        (
            LogisticLoss(),
            (3, 1),
            [0, 1],
            r"expected y of shape \(3,\) or \(3, 1\) for scores of shape \(3, 1\), got",
        ),
        (LogisticLoss(), (3,), [[0, 1, 1]], r"got \(1, 3\)"),
        (LogisticLoss(), (3, 2), [0, 1, 1], r"\(N,\) or \(N, 1\), got \(3, 2\): for several classes use Cross"),
        (LogisticLoss(), (0,), [], r"at least one sample, got shape \(0,\)"),
        (CrossEntropyLoss(), (0, 3), [], r"at least one sample, got shape \(0, 3\)"),
        (MSELoss(), (), 1, r"at least one sample, got shape \(\)"),
        (
            CrossEntropyLoss(),
            (3, 1),
            [0, 0, 0],
            r"\(N, K\) with K ≥ 2 classes, got \(3, 1\): for one score a sample",
        ),
        (CrossEntropyLoss(), (3,), [0, 0, 0], r"\(N, K\) with K ≥ 2 classes, got \(3,\)"),
        (
            CrossEntropyLoss(),
            (2, 3),
            [0, 3],
            r"\[CrossEntropyLoss\] y must be whole numbers from 0 to 2, got 3 at ind",
        ),
        (CrossEntropyLoss(), (2, 3), [-1, 0], "from 0 to 2, got -1 at index 0"),
        (CrossEntropyLoss(), (2, 3), [0, 1.5], "got 1.5 at index 1"),
        (MultiClassHingeLoss(), (2, 3), [0, np.nan], "got nan at index 1"),
        (MultiClassHingeLoss(), (2, 3), [0, np.inf], "got inf at index 1"),
        (MultiClassHingeLoss(), (2, 3), [0, 1, 2], r"expected 2 labels for scores \(2, 3\), got 3"),
        (CrossEntropyLoss(), (2, 3), np.eye(3)[:2], r"y of shape \(N,\), one class index a sample, got \(2, 3\)"),
        (MSELoss(), (3, 2), [1, 2, 3], r"y of the scores' shape \(3, 2\), got \(3,\)"),
        (MSELoss(), (3,), [[1], [2], [3]], r"y of the scores' shape \(3,\), got \(3, 1\)"),
        (MSELoss(), (3,), [1, np.inf, 3], r"\[MSELoss\] y must be finite, got inf"),
    ],
)
def test_values_that_do_not_fit_are_refused(loss_fn, scores_shape, y, message):
    with pytest.raises(ValueError, match=message):
        loss_fn(np.zeros(scores_shape), y)
    if loss_fn.task == "classification":
        with pytest.raises(ValueError, match=message):
            loss_fn.correct(np.zeros(scores_shape), y)


@every_loss
def test_wrong_dtypes_are_refused(loss_fn):
    scores, y = a_batch(loss_fn, np.random.default_rng(9))
    for dtype in (np.int64, np.float16, complex):
        with pytest.raises(TypeError, match=f"scores must be float32 or float64, got {np.dtype(dtype)}"):
            loss_fn(scores.astype(dtype), y)
    for labels in (y.astype(str), y.astype(complex), y.astype(object)):
        with pytest.raises(TypeError, match="y must be integers, floats or bools, got "):
            loss_fn(scores, labels)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (LogisticLoss, {"labels": (1, 0)}, r"\[LogisticLoss\] labels must be \(0, 1\) or \(-1, 1\), got \(1, 0\)"),
        (HingeLoss, {"labels": 1}, "labels must be"),
        (MultiClassHingeLoss, {"margin": 0}, r"\[MultiClassHingeLoss\] margin must be a number above 0, got 0"),
        (MultiClassHingeLoss, {"margin": np.inf}, "got inf"),
        (CrossEntropyLoss, {"label_smoothing": 1.1}, "label_smoothing must be from 0 to 1, got 1.1"),
        (CrossEntropyLoss, {"label_smoothing": np.nan}, "got nan"),
        (CrossEntropyLoss, {"label_smoothing": "0.1"}, "got '0.1'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(**arguments)


def test_class_indices_names_its_caller():
    with pytest.raises(ValueError, match="caller: labels must be whole numbers from 0 to 1, got 2 at index 0"):
        class_indices("caller:", "labels", [2], 2)
    assert class_indices("caller:", "labels", [True, False], 2).dtype == np.int64


# -- probabilities --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax(dtype):
    scores = np.random.default_rng(0).normal(0, 5, (7, 4)).astype(dtype)
    expected = np.exp(scores.astype(np.longdouble))
    expected /= expected.sum(axis=1, keepdims=True)
    p = softmax(scores)
    assert p.dtype == dtype
    # exp turns the absolute error of its argument, half a unit in the last place of s − max, into a relative one.
    rtol = (float(np.ptp(scores)) / 2 + 4) * np.finfo(np.float64).eps + np.finfo(dtype).eps
    np.testing.assert_allclose(p, expected.astype(np.float64), rtol=rtol)
    assert np.array_equal(CrossEntropyLoss().probabilities(scores), p)
    assert np.array_equal(softmax(scores.T, axis=0), p.T)
    assert np.array_equal(softmax(scores[0]), p[0])


def test_softmax_of_extremes():
    inf, nan = np.inf, np.nan
    scores = np.array([[1e308, -1e308], [-inf, 0], [inf, 0], [nan, 0], [-inf, -inf]])
    assert np.array_equal(softmax(scores), [[1, 0], [0, 1], [nan, nan], [nan, nan], [nan, nan]], equal_nan=True)
    assert softmax(np.zeros((2, 3, 4))).shape == (2, 3, 4)
    with pytest.raises(TypeError, match="softmax: scores must be float32 or float64, got int64"):
        softmax(np.array([1, 2]))


def test_logistic_probabilities():
    scores = np.array([[-800.0], [-1], [0], [2], [800]])
    p = LogisticLoss(labels=(-1, 1)).probabilities(scores)
    np.testing.assert_allclose(p[:, 1], [0, 1 / (1 + np.e), 0.5, 1 / (1 + np.exp(-2)), 1], rtol=1e-15)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-15)
    assert LogisticLoss().probabilities(scores[:, 0].astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.eye(3), r"got \(3, 3\): of one-hot rows y.argmax\(axis=1\) is"),
        (np.array(["a", "b", "a"]), r"got <U1: np.unique\(y, return_inverse=True\)\[1\] counts the classes"),
        (np.array(["a", "b", "a"], object), "got object: np.unique"),
    ],
)
def test_labels_of_another_form_are_told_how_to_be_one(y, message):
    with pytest.raises((TypeError, ValueError), match=message):
        CrossEntropyLoss()(np.zeros((3, 3)), y)


def test_softmax_of_extremes_warns_of_nothing():
    big = np.finfo(np.float32).max
    scores = np.array([[big, -big], [1e38, 1e38], [-np.inf, 0], [np.inf, 0], [np.nan, 0], [-np.inf, -np.inf]])
    for dtype in (np.float32, np.float64):
        p = softmax(scores.astype(dtype))
        np.testing.assert_array_equal(p[:3], [[1, 0], [0.5, 0.5], [0, 1]])
        assert np.isnan(p[3:]).all()


@pytest.mark.parametrize(("arguments", "error", "message"), [
    (([[1, 2]],), TypeError, "softmax: scores must be float32 or float64, got int64: use .astype"),
    ((np.ones((2, 2)), 2), ValueError, "softmax: axis must be from -2 to 1, got 2"),
    ((np.ones((2, 2)), None), ValueError, "softmax: axis must be from -2 to 1, got None"),
    ((np.ones((0, 2)),), ValueError, r"softmax: expected scores of at least one sample, got shape \(0, 2\)"),
    ((1.0,), ValueError, "softmax: axis must be"),
])  # fmt: skip
def test_softmax_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        softmax(*arguments)


@pytest.mark.parametrize(
    "value", [10**400, -(10**400), float("nan"), float("inf"), True, "1", None, np.ones(2)], ids=repr
)
def test_numbers_of_losses_that_do_not_fit_are_refused(value):
    for make in (lambda: MultiClassHingeLoss(margin=value), lambda: CrossEntropyLoss(label_smoothing=value)):
        with pytest.raises(ValueError, match=r"(margin|label_smoothing) must be .*, got "):
            make()
