"""Section 12 of docs/derivations.md: what each inexact answer gives, what the right one, and where the two agree.

Right values are the library's; the numbers that the page quotes are computed here and looked for on the page.
"""

import re
from pathlib import Path

import numpy as np
import pytest
from formulas import check, check_numerically, numeric_gradient

import cnn_ext

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "derivations.md").read_text(encoding="utf-8")
ANSWERS = PAGE[PAGE.index("\n## 12. ") :]


@pytest.fixture
def rng():
    return np.random.default_rng(21)


def quoted(text):
    """Whether section 12 has these words, however its lines are broken."""
    return text in re.sub(r"\s+", " ", ANSWERS)


def test_every_inexact_answer_has_its_test():
    items = re.split(r"^\*\*", ANSWERS, flags=re.MULTILINE)[1:]
    assert len(items) >= 5
    tests = [re.search(r"^→ `tests/test_inexact_answers\.py::(\w+)`$", item, re.MULTILINE)[1] for item in items]
    assert len(set(tests)) == len(tests)


def test_a_bias_gradient_is_a_sum_over_the_batch(rng):
    for samples, agrees in [(1, True), (4, False)]:
        g, x, w = (rng.standard_normal(shape) for shape in [(samples, 5), (samples, 3), (3, 5)])
        db = cnn_ext.linear_backward(g, x, w)[2]
        check(g.sum(axis=0), db, numeric_gradient(lambda b, g=g, x=x, w=w: np.sum(g * (x @ w + b)), np.zeros(5)))
        assert (g.size == db.size and np.allclose(g, db)) == agrees

    g, x = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 3, 4, 5))
    ones, eps = np.ones(3), 1e-5
    _, mean, var = cnn_ext.batch_norm_forward(x, ones, ones, eps=eps)
    normalised = (x - mean[:, None, None]) / np.sqrt(var + eps)[:, None, None]
    _, dgamma, dbeta = cnn_ext.batch_norm_backward(g, x, ones, mean, var, eps=eps)
    check((g * normalised).sum(axis=(0, 2, 3)), dgamma)
    check(g.sum(axis=(0, 2, 3)), dbeta)
    image, weight = rng.standard_normal((2, 1, 5, 6)), rng.standard_normal((3, 1, 2, 2))
    check(g.sum(axis=(0, 2, 3)), cnn_ext.conv2d_backward(g, image, weight)[2])


def test_the_input_gradient_is_g_times_w_transposed(rng):
    g, x, w = (rng.standard_normal(shape) for shape in [(4, 5), (4, 3), (3, 5)])
    numeric = numeric_gradient(lambda x: np.sum(g * (x @ w)), x)
    check(g @ w.T, cnn_ext.linear_backward(g, x, w)[0], numeric)
    with pytest.raises(ValueError, match="mismatch"):
        w @ g
    assert (w @ rng.standard_normal((5, 5))).shape == (3, 5)  # M = N conforms; N × D would be (5, 3)

    g, x, w = rng.standard_normal((3, 4, 4))
    dx = cnn_ext.linear_backward(g, x, w)[0]
    assert (w @ g).shape == dx.shape
    assert np.abs(w @ g - dx).max() > 1
    check_numerically(w @ g, numeric_gradient(lambda x: np.sum(g * (w.T @ x)), x))  # samples in columns


def test_the_deviation_by_the_mean_has_no_factor_of_two():
    x = np.array([2, 4, 4, 4, 5, 5, 7, 9.0])
    assert x.mean() == 5

    def deviation(mu):
        return np.sqrt(np.mean((x - mu) ** 2))

    def slope(mu, factor):
        return -factor / (len(x) * deviation(mu)) * np.sum(x - mu)

    def numeric(f, mu):
        return numeric_gradient(lambda mu: f(mu[0]), np.array([mu]))[0]

    check_numerically(slope(4, 1), numeric(deviation, 4.0))
    assert quoted(f"the derivative is −{-slope(4, 1):.4f}, and −{-slope(4, 2):.4f} with the 2")
    assert slope(5, 1) == slope(5, 2) == 0  # at the mean
    check_numerically(-2 / len(x) * np.sum(x - 4), numeric(lambda mu: deviation(mu) ** 2, 4.0))  # the variance's


def test_sample_and_tap_need_a_letter_each():
    x, g = np.array([[1, 2, 3], [4, 5, 6.0]]), np.array([[1, 1], [1, 0.0]])
    one_letter = [sum(g[n, u] * x[n, u + n] for u in range(2)) for n in range(2)]
    two_letters = [sum(g[n, u] * x[n, u + i] for n in range(2) for u in range(2)) for i in range(2)]
    _, dw, _ = cnn_ext.conv2d_backward(g[:, None, None], x[:, None, None], np.ones((1, 1, 1, 2)))
    check(two_letters, dw[0, 0, 0])
    assert quoted("$x = (1, 2, 3), (4, 5, 6)$ and $g = (1, 1), (1, 0)$")
    assert quoted("it gives ({:.0f}, {:.0f}) for two taps".format(*one_letter))
    assert quoted("the gradient is ({:.0f}, {:.0f})".format(*two_letters))


def test_indices_from_one_need_a_minus_one():
    x, w = np.array([1, 2, 3.0]), np.array([1, 10.0])
    right = cnn_ext.conv2d_forward(x.reshape(1, 1, 1, 3), w.reshape(1, 1, 1, 2))[0, 0, 0]
    x_from_1, w_from_1 = {i + 1: v for i, v in enumerate(x)}, {i + 1: v for i, v in enumerate(w)}

    def output(u, pixel):
        return sum(x_from_1[pixel(u, i)] * w_from_1[i] for i in (1, 2))

    check([output(u, lambda u, i: u + i - 1) for u in (1, 2)], right)
    first = output(1, lambda u, i: u + i)
    assert first == right[1]
    with pytest.raises(KeyError, match="4"):
        output(2, lambda u, i: u + i)
    assert quoted(f"for $x = (1, 2, 3)$ and $w = (1, 10)$ its first output is {first:.0f}, which")
    assert quoted("the second of the right ones, {:.0f} and {:.0f}, and its second needs a fourth".format(*right))


def test_full_convolution_flips_once():
    g, w = np.array([1, 0.0]), np.array([1, 10.0])
    dx, _, _ = cnn_ext.conv2d_backward(g.reshape(1, 1, 1, 2), np.zeros((1, 1, 1, 3)), w.reshape(1, 1, 1, 2))
    once, twice = np.convolve(g, w), np.convolve(g, w[::-1])  # np.convolve is *_full
    check(once, dx[0, 0, 0])
    check(once, np.correlate(np.pad(g, 1), w[::-1]))  # correlation with padded g takes the rotated filter
    assert quoted("it gives ({:.0f}, {:.0f}, {:.0f}), where the gradient is".format(*twice))
    assert quoted("where the gradient is ({:.0f}, {:.0f}, {:.0f}).".format(*once))
    ones = np.ones(2)
    check(np.convolve(g, ones), np.convolve(g, ones[::-1]))
