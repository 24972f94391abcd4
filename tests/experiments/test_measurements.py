"""Question 7's measurements, on cases whose outcome is known."""

import numpy as np
import pytest

from pynn import CrossEntropyLoss, Flatten, Linear, ReLU, Sequential, Sigmoid, Tanh, VanillaDropout
from pynn.data import Dataset
from pynn.experiments.measurements import loss_curve, plain_sgd, smoothed
from pynn.experiments.protocol import Split
from pynn.experiments.q7_divergence import outcome
from pynn.experiments.q7_dropout import logit_scale
from pynn.experiments.q7_sigmoid import GOAL, gradient_norms, one_signed_share, positive_share, zig_zag


@pytest.fixture
def split():
    rng = np.random.default_rng(0)
    x = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1).repeat(2, axis=2)
    y = rng.integers(0, 3, 40)
    parts = (x[:24], y[:24], x[24:32], y[24:32], x[32:], y[32:])
    return Split.of(Dataset("tiny", *parts, ("a", "b", "c"), "real", "made up"))


# -- loss curves --------------------------------------------------------------------------------------------


def test_smoothed_is_means_over_windows_at_their_last_steps():
    assert smoothed([1, 3, 5, 7, 9], points=2) == ([2, 4], [2.0, 6.0])
    assert smoothed([1.0, 2.0], points=50) == ([1, 2], [1.0, 2.0])
    assert smoothed([]) == ([], [])


def test_a_loss_curve_goes_through_all_samples_before_any_again(split):
    batches = []

    class Recording:
        def train_step(self, x, y):
            batches.append(x)
            return 0.0

    assert loss_curve(Recording(), split, 8, 6, np.random.default_rng(0)) == [0.0] * 6
    everything = np.sort(split.standardize(split.x_train), axis=0)
    for epoch in (batches[:3], batches[3:]):
        np.testing.assert_array_equal(np.sort(np.concatenate(epoch), axis=0), everything)


def test_a_loss_curve_ends_where_training_diverges(split):
    rng = np.random.default_rng(0)
    solver = plain_sgd(Sequential(Flatten(), Linear(2, 3, rng=rng), Linear(3, 3, rng=rng)), split, lr=1e30)
    with np.errstate(all="ignore"):
        losses = loss_curve(solver, split, 8, 50, rng)
    assert 1 <= len(losses) < 50
    assert np.isfinite(losses).all()


@pytest.mark.parametrize(
    ("losses", "sentence"),
    [
        ([2.0, 1.0, 0.5], "the loss fell to 0.5 by step 3 and ended at 0.5"),
        ([2.0, 0.5, 2.4], "the loss fell to 0.5 by step 2 and ended at 2.4, no better than chance (ln 10 = 2.30)"),
        ([2.0, 0.5], "the loss fell to 0.5 by step 2 and diverged to infinity at step 2"),
        ([], "the loss was infinite from the first step"),
    ],
)
def test_outcomes_in_words(losses, sentence):
    assert outcome(losses, steps=3, n_classes=10) == sentence


# -- activations --------------------------------------------------------------------------------------------


def deep(activation):
    rng = np.random.default_rng(0)
    return Sequential(
        Flatten(),
        Linear(4, 8, rng=rng),
        activation(),
        Linear(8, 8, rng=rng),
        activation(),
        Linear(8, 3, rng=rng),
    )


@pytest.fixture
def batch():
    rng = np.random.default_rng(1)
    return rng.standard_normal((20, 4)).astype(np.float32), rng.integers(0, 3, 20)


def test_sigmoid_outputs_are_all_positive_and_tanh_outputs_are_not(batch):
    assert positive_share(deep(Sigmoid), batch[0]) == 1
    assert 0.2 < positive_share(deep(Tanh), batch[0]) < 0.8


def test_one_sample_and_positive_inputs_give_one_signed_gradients(batch):
    x, y = batch
    assert one_signed_share(deep(Sigmoid), x[:1], y[:1]) == 1
    assert one_signed_share(deep(ReLU), x[:1], y[:1]) == 1
    assert one_signed_share(deep(Tanh), x[:1], y[:1]) == 0


def test_units_without_a_gradient_do_not_count(batch):
    model = deep(Tanh)
    model[5].weight.data[...] = 0  # nothing reaches the second layer's eight units: only the three outputs count
    assert one_signed_share(model, *batch) == 0


def test_gradient_norms_are_those_of_the_mean_loss(batch):
    x, y = batch
    model = deep(Tanh)
    norms = gradient_norms(model, x, y)
    assert gradient_norms(model, x, y) == norms  # nothing is left from the first time
    _, dscores = CrossEntropyLoss()(model.forward(x, training=True), y)
    model.zero_grad()
    model.backward(dscores)
    np.testing.assert_allclose(norms, [np.linalg.norm(model[i].weight.grad) for i in (1, 3, 5)], rtol=1e-6)


def test_two_weights_fed_by_sigmoids_move_together_those_fed_by_tanh_need_not():
    paths = {name: zig_zag(name, 60, np.random.default_rng(0)) for name in ("sigmoid", "tanh")}
    together = {name: (np.diff(path, axis=0).prod(axis=1) >= 0).mean() for name, path in paths.items()}
    assert together["sigmoid"] == 1
    assert together["tanh"] < 0.8
    distance = {name: np.linalg.norm(path[-1] - GOAL) for name, path in paths.items()}
    assert distance["tanh"] < 0.1 * distance["sigmoid"] < 0.1 * np.linalg.norm(GOAL)


# -- dropout ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rescale", "expected"), [(True, 1.0), (False, 4.0)])
def test_scores_without_the_factor_p_are_1_over_p_times_too_large(rescale, expected):
    rng = np.random.default_rng(0)
    linear = Linear(200, 3, bias=False, rng=rng)
    model = Sequential(VanillaDropout(0.25, rescale=rescale, rng=rng), linear)
    x = rng.standard_normal((50, 200)).astype(np.float32)
    assert logit_scale(model, x, masks=4000) == pytest.approx(expected, rel=0.01)
