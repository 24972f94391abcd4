"""The in-place updates: against their twins over several steps, by hand, and refusals that leave all as it was."""

from itertools import chain

import numpy as np
import pytest
from kernel_cases import RELATIVE

import cnn_ext
from cnn_ext import Updates, adam_update, reference, rmsprop_update, sgd_update

SGD = {"lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0}
RMSPROP = {"lr": 0.1, "alpha": 0.9, "eps": 1e-8, "weight_decay": 0.0}
ADAM = {"step": 1, "lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.0, "decoupled": False}

RULES = {
    "sgd": ("sgd_update", 0, {**SGD, "momentum": 0.0, "weight_decay": 0.01}),
    "momentum": ("sgd_update", 1, {**SGD, "weight_decay": 0.01}),
    "nesterov": ("sgd_update", 1, {**SGD, "nesterov": True, "weight_decay": 0.01}),
    "rmsprop": ("rmsprop_update", 1, {**RMSPROP, "weight_decay": 0.01}),
    "adam": ("adam_update", 2, {**ADAM, "weight_decay": 0.01}),
    "adamw": ("adam_update", 2, {**ADAM, "weight_decay": 0.01, "decoupled": True}),
}

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def states(op, count, param):
    """The positional state arguments of an op: zeros, or None for plain SGD."""
    return [np.zeros_like(param) for _ in range(count)] or [None]


@dtypes
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", [(1,), (3, 5, 2), (9001,)], ids=str)
def test_five_steps_equal_the_twins(shape, rule, dtype):
    op, count, rates = RULES[rule]
    rng = np.random.default_rng(0)
    param = rng.standard_normal(shape).astype(dtype)
    twin = param.astype(np.float64)
    state, twin_state = states(op, count, param), states(op, count, twin)
    for step in range(1, 6):
        grad = rng.standard_normal(shape).astype(dtype)
        rates = rates | {"step": step} if op == "adam_update" else rates
        assert getattr(cnn_ext, op)(param, grad, *state, **rates) is None
        getattr(reference, op)(twin, grad.astype(np.float64), *twin_state, **rates)
    for actual, expected in zip([param, *state], [twin, *twin_state], strict=True):
        if expected is not None:
            np.testing.assert_allclose(actual, expected, rtol=RELATIVE[dtype], atol=RELATIVE[dtype])


def test_sgd_by_hand():
    param, grad, velocity = np.array([1.0, -2]), np.array([10.0, 20]), np.array([5.0, 0])
    sgd_update(param, grad, None, lr=0.5, momentum=0, nesterov=False, weight_decay=2)
    np.testing.assert_array_equal(param, [-5, -10])  # 1 − ½ (10 + 2), −2 − ½ (20 − 4)
    rates = {"lr": 0.5, "momentum": 0.5, "weight_decay": 0}
    sgd_update(param, grad, velocity, **rates, nesterov=False)
    np.testing.assert_array_equal(velocity, [12.5, 20])
    np.testing.assert_array_equal(param, [-11.25, -20])
    sgd_update(param, grad, velocity, **rates, nesterov=True)
    np.testing.assert_array_equal(velocity, [16.25, 30])
    np.testing.assert_array_equal(param, [-11.25 - (10 + 8.125) / 2, -20 - (20 + 15) / 2])


def test_rmsprop_by_hand():
    param, square_avg = np.array([1.0]), np.array([4.0])
    rmsprop_update(param, np.array([3.0]), square_avg, lr=0.5, alpha=0.75, eps=1.0, weight_decay=1.0)
    np.testing.assert_array_equal(square_avg, [7])  # ¾ · 4 + ¼ · (3 + 1)²
    np.testing.assert_allclose(param, [1 - 0.5 * 4 / (np.sqrt(7) + 1)], rtol=1e-15)


@pytest.mark.parametrize(("decoupled", "g", "start"), [(False, 7.0, 1.0), (True, 3.0, 0.6)])
def test_adam_by_hand(decoupled, g, start):
    param, m, v = np.array([1.0]), np.array([1.0]), np.array([2.0])
    adam_update(
        param,
        np.array([3.0]),
        m,
        v,
        step=2,
        lr=0.1,
        beta1=0.5,
        beta2=0.75,
        eps=1.0,
        weight_decay=4.0,
        decoupled=decoupled,
    )
    assert m == (1 + g) / 2
    assert v == 1.5 + g * g / 4
    m_hat, v_hat = m / (1 - 0.5**2), v / (1 - 0.75**2)
    np.testing.assert_allclose(param, start - 0.1 * m_hat / (np.sqrt(v_hat) + 1), rtol=1e-15)


def test_the_first_step_of_adam_has_the_length_of_lr():
    param, grad = np.zeros(4), np.array([1e-3, -1, 50, -1e6])
    adam_update(param, grad, np.zeros(4), np.zeros(4), **ADAM)
    np.testing.assert_allclose(param, [-0.1, 0.1, -0.1, 0.1], rtol=1e-4)


def test_views_of_larger_memory_are_updated_within_their_bounds():
    memory = np.zeros(30)
    sgd_update(memory[10:20], np.ones(10), None, **SGD | {"momentum": 0})
    np.testing.assert_array_equal(memory, np.repeat([0, -0.1, 0], 10))


# -- many parameters at once ----------------------------------------------------------------------------------

SIZES = [1, 3, 8191, 2, 8193, 20000, 7, 8192, 5]  # of runs of 8192 elements: within, across, exactly one


@dtypes
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("threads", [1, 2, 5] if cnn_ext.openmp_enabled() else [1])
def test_many_parameters_get_the_bits_that_each_gets_alone(rule, dtype, threads):
    op, count, rates = RULES[rule]
    rng = np.random.default_rng(0)
    params = [rng.standard_normal(size).astype(dtype) for size in SIZES]
    grads = [np.empty_like(param) for param in params]
    memory = [[np.zeros_like(param) for _ in range(count)] for param in params]
    alone = [param.copy() for param in params]
    memory_alone = [[array.copy() for array in arrays] for arrays in memory]
    updates = Updates(zip(params, grads, *zip(*memory, strict=True), strict=True))
    before = cnn_ext.get_num_threads()
    cnn_ext.set_num_threads(threads)
    try:
        for step in range(1, 4):
            rates = rates | {"step": step} if op == "adam_update" else rates
            for grad, param, arrays in zip(grads, alone, memory_alone, strict=True):
                grad[...] = rng.standard_normal(grad.shape)
                getattr(cnn_ext, op)(param, grad, *(arrays or [None]), **rates)
            getattr(updates, op.removesuffix("_update"))(**rates)
    finally:
        cnn_ext.set_num_threads(before)
    for one, other in zip(chain(params, *memory), chain(alone, *memory_alone), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([], ValueError, "Updates: expected rows of param, grad and up to two states"),
        ([(np.ones(2),)], ValueError, "Updates: expected rows"),
        ([(np.ones(2), np.ones(2)), (np.ones(2), np.ones(2), np.ones(2))], ValueError, "Updates: expected rows"),
        ([(np.ones(2), [1, 1])], TypeError, "grad of row 0 is read in place and must be a NumPy array, got list"),
        ([(np.ones(2), np.ones(3))], ValueError, r"expected grad of row 0 of shape \(2,\), got \(3,\)"),
        ([(np.ones(2), np.ones(2)), (np.ones(2, np.float32),) * 2], TypeError, "param of row 1 is float32, but"),
        ([(np.ones(2), np.ones(4)[::2])], ValueError, "grad of row 0 is read in place and must be C-contiguous"),
        ([(np.ones(0), np.ones(0))], ValueError, r"param of row 0 of shape \(0,\) is empty"),
        (
            [(line := np.ones(9), np.ones(9)), (line[8:], np.ones(1))],
            ValueError,
            "param of row 0 and param of row 1 must not share memory",
        ),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows, error, message):
    with pytest.raises(error, match=message):
        Updates(rows)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda u: u.rmsprop(lr=1, alpha=0.9, eps=0, weight_decay=0), "this update has 1 states, the table 0"),
        (lambda u: u.sgd(lr=1, momentum=0.5, nesterov=False, weight_decay=0), "velocity must be None exactly"),
        (lambda u: u.sgd(lr=1e39, momentum=0, nesterov=False, weight_decay=0), r"lr must be at most 3.4e\+38"),
    ],
)
def test_steps_that_do_not_fit_are_refused(call, message):
    param = np.ones(2, np.float32)
    with pytest.raises(ValueError, match=message):
        call(Updates([(param, np.ones(2, np.float32))]))
    np.testing.assert_array_equal(param, 1)


P, G, S, T = np.ones((3, 4)), np.ones((3, 4)), np.zeros((3, 4)), np.zeros((3, 4))
PLAIN = {"momentum": 0}
FROZEN = np.ones((3, 4))
FROZEN.setflags(write=False)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sgd_update([1.0], [1.0], [0.0], **SGD), TypeError, "param is written.* got list"),
        (lambda: sgd_update(FROZEN, G, S, **SGD), ValueError, "param is written.*writable"),
        (lambda: sgd_update(P, G, FROZEN, **SGD), ValueError, "velocity is written.*writable"),
        (lambda: sgd_update(P.T, G.T, S.T, **SGD), ValueError, "param is written.*C-contiguous"),
        (lambda: adam_update(P, G, S, T[::-1], **ADAM), ValueError, "v is written.*C-contiguous"),
        (lambda: adam_update(P, G, S, T[:2], **ADAM), ValueError, r"expected v of shape \(3, 4\), got \(2, 4"),
        (lambda: sgd_update(P, G[0], S, **SGD), ValueError, r"expected grad of shape \(3, 4\), got \(4,\)"),
        (lambda: sgd_update(P, P, S, **SGD), ValueError, "param and grad must not share memory"),
        (lambda: adam_update(P, G, S, S, **ADAM), ValueError, "m and v must not share memory"),
        (lambda: sgd_update(P, G, None, **SGD), ValueError, "velocity must be None exactly"),
        (lambda: sgd_update(P, G, S, **SGD | PLAIN), ValueError, "velocity must be None exactly"),
        (lambda: sgd_update(P, G, None, **SGD | PLAIN | {"nesterov": True}), ValueError, "nesterov needs"),
        (lambda: sgd_update(P, G, S, **SGD | {"lr": np.nan}), ValueError, "lr must be finite"),
        (lambda: sgd_update(P, G, S, **SGD | {"lr": -1.0}), ValueError, "lr must be finite"),
        (lambda: sgd_update(P, G, S, **SGD | {"lr": True}), TypeError, "lr must be a number, got bool"),
        (lambda: rmsprop_update(P, G, S, **RMSPROP | {"alpha": 1}), ValueError, r"in \[0, 1\)"),
        (lambda: adam_update(P, G, S, T, **ADAM | {"beta2": 1.5}), ValueError, r"beta2 must .* in \[0, 1\)"),
        (lambda: adam_update(P, G, S, T, **ADAM | {"step": 0}), ValueError, "step counts from 1, got 0"),
        (lambda: adam_update(P, G, S, T, **ADAM | {"step": 1.0}), TypeError, "step must be an int, got float"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(call, error, message):
    with pytest.raises(error, match=message):
        call()
    np.testing.assert_array_equal([P, G, FROZEN, S, T], [np.ones((3, 4))] * 3 + [np.zeros((3, 4))] * 2)
