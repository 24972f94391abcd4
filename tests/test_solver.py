"""The training loop: what it learns, records, restores and refuses."""

import sys
import types

import numpy as np
import pytest

import cnn_ext
from pynn.callbacks import STOP
from pynn.layers import BatchNorm1d, BatchNorm2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential
from pynn.losses import CrossEntropyLoss, LogisticLoss, MSELoss
from pynn.module import LayerError
from pynn.optim import SGD, Adam, AdamW
from pynn.schedules import Cosine, OneCycle
from pynn.solver import Solver, TrainingDiverged

pytestmark = pytest.mark.usefixtures("one_thread")


def blobs(n, seed=0, n_classes=3, n_features=5, dtype=np.float32):
    """Gaussian blobs whose centres lie on the axes: 4 standard deviations from the origin."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n)
    x = rng.normal(size=(n, n_features))
    x[np.arange(n), y] += 4
    return x.astype(dtype), y


def mlp(seed=0, dropout=False, norm=False):
    rng = np.random.default_rng(seed)
    layers = [Linear(5, 16, rng=rng), *([BatchNorm1d(16)] if norm else []), ReLU()]
    return Sequential(*layers, *([Dropout(0.2, rng=rng)] if dropout else []), Linear(16, 3, rng=rng))


def solver_for(model, *, lr=0.1, optimizer=SGD, seed=0, progress=False, **options):
    options = {"batch_size": 20, "rng": np.random.default_rng(seed), "progress": progress} | options
    return Solver(model, CrossEntropyLoss(), optimizer(model.parameters(), lr), **options)


def same_state(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[path], b[path]) for path in a)


# -- learning -------------------------------------------------------------------------------------------------


def test_learns_blobs():
    (x, y), (x_test, y_test) = blobs(600), blobs(400, seed=1)
    solver = solver_for(mlp())
    history = solver.fit(x, y, epochs=5)
    assert history["loss"] == sorted(history["loss"], reverse=True)
    assert history["loss"][-1] < 0.1 * history["loss"][0] < 0.2
    result = solver.evaluate(x_test, y_test)
    assert result["accuracy"] >= 0.98
    assert np.mean(solver.predict(x_test) == y_test) == pytest.approx(result["accuracy"], rel=1e-12)


def test_learns_images_with_a_cnn():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    x = rng.integers(0, 100, (300, 1, 8, 6), dtype=np.uint8)
    x[y == 1, :, 2:4, :] += 100  # a horizontal bar
    x[y == 0, :, :, 2:4] += 100  # a vertical one
    model = Sequential(
        Conv2d(1, 4, 3, padding=1, rng=rng),
        BatchNorm2d(4),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(48, 2, rng=rng),
    )
    solver = Solver(
        model,
        CrossEntropyLoss(),
        Adam(model.parameters(), 0.03),
        batch_size=50,
        transform=lambda x: (x.astype(np.float32) - 80) / 60,
        augment=lambda x, rng: np.roll(x, rng.integers(-1, 2), axis=(2, 3)),
        schedule=OneCycle(),
        rng=rng,
        progress=False,
    )
    solver.fit(x[:200], y[:200], epochs=8)
    assert solver.evaluate(x[200:], y[200:])["accuracy"] >= 0.98


def test_regression_gives_loss_alone_and_scores_as_predictions():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)).astype(np.float32)
    y = (x @ np.array([[1.0], [-2.0], [0.5]], np.float32)).astype(np.float32)
    model = Sequential(Linear(3, 1, rng=rng))
    solver = Solver(model, MSELoss(), SGD(model.parameters(), 0.1), batch_size=20, rng=rng, progress=False)
    history = solver.fit(x, y, epochs=20, validation_data=(x, y))
    assert solver.evaluate(x, y).keys() == {"loss"}
    assert solver.evaluate(x, y)["loss"] < 1e-6
    np.testing.assert_allclose(solver.predict(x), model(x), rtol=1e-5, atol=1e-6)
    assert history["accuracy"] == history["val_accuracy"] == [None] * 20


def test_train_step_is_forward_backward_update():
    (x, y), model = blobs(30), mlp()
    reference = model.astype(np.float64)
    scores = reference.forward(x.astype(np.float64), training=True)
    loss, dscores = CrossEntropyLoss()(scores, y)
    reference.backward(dscores)
    assert solver_for(model, lr=0.5).train_step(x, y) == pytest.approx(loss, rel=1e-6)
    for (path, parameter), expected in zip(model.named_parameters(), reference.parameters(), strict=True):
        np.testing.assert_allclose(
            parameter.data, expected.data - 0.5 * expected.grad, rtol=1e-5, atol=1e-6, err_msg=path
        )


def test_train_step_does_not_transform():
    (x, y), model = blobs(30), mlp()

    def refuse(*_):
        raise AssertionError("called")

    solver_for(model, transform=refuse, augment=refuse, schedule=refuse).train_step(x, y)


def test_max_grad_norm_bounds_the_update():
    (x, y), model = blobs(30), mlp()
    before = model.state_dict()
    solver_for(model, lr=1.0, max_grad_norm=1e-3).train_step(x, y)
    moved = sum(float(((model.state_dict()[path] - before[path]) ** 2).sum()) for path in before) ** 0.5
    assert moved == pytest.approx(1e-3, rel=1e-2)


# -- batches --------------------------------------------------------------------------------------------------


def recorded_batches(n, batch_size, epochs=1):
    """The sample numbers of each batch that `fit` trains on."""
    seen = []
    x = np.repeat(np.arange(n, dtype=np.float32)[:, None], 5, axis=1)
    solver = solver_for(mlp(), lr=0.0, batch_size=batch_size)
    solver.transform = lambda x: x / n
    solver.augment = lambda x, rng: (seen.append(x[:, 0].astype(int).tolist()), x)[1]
    solver.fit(x, np.zeros(n, int), epochs=epochs)
    return seen


@pytest.mark.parametrize(
    ("n", "batch_size", "sizes"),
    [(10, 5, [5, 5]), (12, 5, [5, 5, 2]), (11, 5, [5, 6]), (3, 5, [3]), (1, 5, [1]), (3, 1, [1, 1, 1])],
)
def test_an_epoch_is_every_sample_once(n, batch_size, sizes):
    batches = recorded_batches(n, batch_size)
    assert [len(batch) for batch in batches] == sizes
    assert sorted(number for batch in batches for number in batch) == list(range(n))


def test_each_epoch_is_shuffled_anew():
    first, second = recorded_batches(20, 20, epochs=2)
    assert first != second
    assert first != list(range(20))


def test_labels_stay_with_their_samples():
    pairs = []
    x = np.arange(40, dtype=np.float32)[:, None].repeat(5, axis=1) / 40

    class Loss(MSELoss):
        def __call__(self, scores, y):
            pairs.append(y.tolist())
            return super().__call__(scores, y)

    model = Sequential(Linear(5, 1, bias=False))
    solver = Solver(model, Loss(), SGD(model.parameters(), 0.0), batch_size=7, progress=False)
    inputs = []
    solver.augment = lambda x, rng: (inputs.append((x[:, 0] * 40).round().tolist()), x)[1]
    solver.fit(x, np.arange(40.0), epochs=2)
    assert pairs[1:] == inputs  # the first is the check of all labels


def test_batch_norm_can_take_any_number_of_samples():
    x, y = blobs(41)
    solver_for(mlp(norm=True), batch_size=20).fit(x, y, epochs=1)


# -- limits, schedules, history -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"epochs": 3}, [5, 10, 15]),
        ({"steps": 7}, [5, 7]),
        ({"epochs": 1, "steps": 7}, [5]),
        ({"epochs": 9, "steps": 7}, [5, 7]),
    ],
)
def test_epochs_and_steps(limits, expected):
    history = solver_for(mlp()).fit(*blobs(100), **limits)
    assert history["step"] == expected
    assert history["epoch"] == list(range(1, len(expected) + 1))


def test_history_has_one_entry_an_epoch():
    (x, y), validation = blobs(100), blobs(50, seed=1)
    solver = solver_for(mlp())
    history = solver.fit(x, y, epochs=3, validation_data=validation, restore_best_weights=False)
    assert set(history) == {"epoch", "step", "loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds"}
    assert {len(values) for values in history.values()} == {3}
    assert solver.history == history
    last = solver.evaluate(*validation)
    assert (history["val_loss"][-1], history["val_accuracy"][-1]) == (last["loss"], last["accuracy"])


def test_training_figures_are_means_over_the_epochs_batches():
    x, y = blobs(50)
    model = mlp()
    history = solver_for(model, lr=0.0, batch_size=20).fit(x, y, epochs=1)  # batches of 20, 20 and 10
    result = solver_for(model).evaluate(x, y)
    assert history["loss"][0] == pytest.approx(result["loss"], rel=1e-6)
    assert history["accuracy"][0] == pytest.approx(result["accuracy"], rel=1e-12)


def test_schedule_sees_every_step_and_leaves_the_base_lr():
    seen = []

    def schedule(step, total_steps):
        seen.append((step, total_steps))
        return Cosine()(step, total_steps)

    solver = solver_for(mlp(), lr=0.1, schedule=schedule)
    history = solver.fit(*blobs(100), epochs=2)
    assert seen == [(step, 10) for step in range(10)]
    assert history["lr"] == pytest.approx([0.1 * Cosine()(4, 10), 0.1 * Cosine()(9, 10)], rel=1e-12)
    assert solver.optimizer.groups[0]["lr"] == 0.1


def test_schedule_multiplies_the_lr():
    x, y = blobs(100)
    scheduled, plain = mlp(), mlp()
    solver_for(scheduled, lr=0.4, schedule=lambda step, total_steps: 0.25).fit(x, y, epochs=1)
    solver_for(plain, lr=0.1).fit(x, y, epochs=1)
    assert same_state(scheduled.state_dict(), plain.state_dict())


def test_fit_again_starts_a_new_history_from_the_present_weights():
    x, y = blobs(100)
    solver = solver_for(mlp(), optimizer=Adam, lr=0.01)
    first = solver.fit(x, y, epochs=3)
    second = solver.fit(x, y, epochs=3)
    assert second["epoch"] == [1, 2, 3]
    assert second["loss"][0] < first["loss"][-1]
    assert solver.optimizer.steps == 30


# -- early stopping and callbacks -----------------------------------------------------------------------------


def scripted_validation(solver, script):
    """Makes the solver's validation return `script`, and record the weights of each epoch."""
    remaining, weights = list(script), []

    def evaluate(self, x, y):
        weights.append(self.model.state_dict())
        value = remaining.pop(0)
        return {"loss": value, "accuracy": 1 - value}

    solver._evaluate = types.MethodType(evaluate, solver)
    return weights


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
@pytest.mark.parametrize(
    ("script", "patience", "epochs", "best"),
    [
        ([0.5, 0.3, 0.4, 0.35, 0.2], 2, 4, 1),  # stopped early
        ([0.5, 0.3, 0.4, 0.45, 0.31], None, 5, 1),  # the last epoch is reached
        ([0.5, 0.3, 0.4, 0.35, 0.31], 9, 5, 1),  # the last epoch is reached, patience left
        ([0.5, 0.4, 0.3, 0.2, 0.1], 1, 5, 4),  # the last epoch is the best
        ([0.5, 0.3, 0.3, 0.3, 0.1], 2, 4, 1),  # of equals the first
    ],
)
def test_best_weights_are_restored(monitor, script, patience, epochs, best):
    solver = solver_for(mlp(norm=True))
    weights = scripted_validation(solver, script)
    history = solver.fit(*blobs(60), epochs=5, validation_data=blobs(20), patience=patience, monitor=monitor)
    assert len(history["epoch"]) == epochs
    assert same_state(solver.model.state_dict(), weights[best])


def test_last_weights_are_kept_when_asked():
    solver = solver_for(mlp())
    weights = scripted_validation(solver, [0.1, 0.2, 0.3])
    solver.fit(*blobs(60), epochs=3, validation_data=blobs(20), restore_best_weights=False)
    assert same_state(solver.model.state_dict(), weights[-1])


def test_callbacks_see_each_epoch_and_can_stop():
    seen = []

    def record(solver, logs):
        seen.append((logs["epoch"], len(solver.history["epoch"])))

    solver = solver_for(mlp(), callbacks=[lambda solver, logs: STOP if logs["epoch"] == 2 else None, record])
    history = solver.fit(*blobs(60), epochs=5)
    assert seen == [(1, 1), (2, 2)]
    assert history["epoch"] == [1, 2]


def test_interrupt_keeps_the_history():
    def interrupt(solver, logs):
        if logs["epoch"] == 3:
            raise KeyboardInterrupt

    solver = solver_for(mlp(), callbacks=[interrupt])
    with pytest.raises(KeyboardInterrupt):
        solver.fit(*blobs(60), epochs=9, validation_data=blobs(20))
    assert solver.history["epoch"] == [1, 2, 3]
    assert solver.evaluate(*blobs(60))["accuracy"] > 0.5


# -- repeatability --------------------------------------------------------------------------------------------


def train_cnn(seed, threads=None):
    before = cnn_ext.get_num_threads()
    cnn_ext.set_num_threads(threads or before)
    try:
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(60, 2, 9, 7)).astype(np.float32)
        y = rng.integers(0, 3, 60)
        model = Sequential(
            Conv2d(2, 6, 3, rng=rng), BatchNorm2d(6), ReLU(), MaxPool2d(2), Flatten(),
            Dropout(0.3, rng=rng), Linear(36, 3, rng=rng),
        )  # fmt: skip
        solver = Solver(
            model, CrossEntropyLoss(), AdamW(model.parameters(), 0.01), batch_size=16, rng=rng, progress=False
        )
        history = solver.fit(x, y, epochs=3, validation_data=(x, y))
        return model.state_dict(), {name: history[name] for name in history if name != "seconds"}
    finally:
        cnn_ext.set_num_threads(before)


def test_one_seed_gives_the_same_bits():
    (weights, history), (again, history_again) = train_cnn(7), train_cnn(7)
    assert same_state(weights, again)
    assert history == history_again
    assert not same_state(weights, train_cnn(8)[0])


@pytest.mark.skipif(not cnn_ext.openmp_enabled(), reason="built without OpenMP, on one thread only")
def test_threads_do_not_change_a_bit():
    (one, history_one), (two, history_two) = train_cnn(7, threads=1), train_cnn(7, threads=2)
    assert same_state(one, two)
    assert history_one == history_two


# -- evaluation -----------------------------------------------------------------------------------------------


def test_evaluation_does_not_depend_on_its_batches(monkeypatch):
    x, y = blobs(1101)
    solver = solver_for(mlp(norm=True, dropout=True))
    solver.fit(x, y, epochs=1)
    whole = solver.evaluate(x, y)
    scores = solver.scores(x)
    monkeypatch.setattr("pynn.solver.EVALUATION_BATCH", 7)
    parts = solver.evaluate(x, y)
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert parts["accuracy"] == whole["accuracy"]
    np.testing.assert_allclose(solver.scores(x), scores, rtol=1e-5, atol=1e-6)


def test_evaluation_is_bounded_and_changes_nothing():
    x, y = blobs(1101)
    sizes = []
    solver = solver_for(mlp(norm=True), transform=lambda x: (sizes.append(len(x)), x)[1])
    before = solver.model.state_dict()
    solver.evaluate(x, y)
    solver.predict(x)
    assert max(sizes) <= 501
    assert same_state(before, solver.model.state_dict())


# -- divergence -----------------------------------------------------------------------------------------------


def test_nan_loss_stops_before_the_update():
    x, y = blobs(60)
    model = mlp(norm=True)
    solver = solver_for(model, optimizer=Adam, lr=0.01)
    solver.fit(x, y, epochs=1)
    model[0].weight.data[0, 0] = np.nan
    before, optimizer_before = model.state_dict(), solver.optimizer.state_dict()
    with pytest.raises(
        TrainingDiverged,
        match=r"^training diverged at step 3: the loss is nan, first non-finite in 0 Linear; lower the learning "
        r"rate \(now 0.01\), .* there is no checkpoint$",
    ) as caught:
        solver.train_step(x[:20], y[:20])
    assert (caught.value.step, caught.value.layer, caught.value.checkpoint) == (3, "0 Linear", None)
    after = model.state_dict()
    assert all(np.array_equal(after[path], before[path], equal_nan=True) for path in before)
    assert same_state(solver.optimizer.state_dict(), optimizer_before)
    with pytest.raises(LayerError, match="backward has nothing to go by"):  # the memory of the step is free again
        model.backward(np.zeros((20, 3), np.float32))


@pytest.mark.filterwarnings("ignore:overflow|invalid:RuntimeWarning")  # NumPy's, on the way to infinity
def test_divergence_keeps_the_history_and_names_the_checkpoint(tmp_path):
    x, y = blobs(60)
    path = tmp_path / "run.ckpt"

    def explode(solver, logs):
        if logs["epoch"] == 2:
            solver.optimizer.groups[0]["lr"] = 1e30

    solver = solver_for(mlp(), callbacks=[explode])
    with pytest.raises(TrainingDiverged, match=r"the last good checkpoint is .*run\.ckpt$") as caught:
        solver.fit(x, y, epochs=9, checkpoint=path)
    assert caught.value.step in {7, 8}
    assert caught.value.checkpoint == str(path)
    assert solver.history["epoch"] == [1, 2]
    resumed = solver_for(mlp())
    resumed.resume(path)
    assert all(np.isfinite(array).all() for array in resumed.model.state_dict().values())


def test_an_infinite_gradient_is_not_taken():
    x, y = blobs(20)
    model = mlp()
    solver = solver_for(model, max_grad_norm=1.0)
    before = model.state_dict()
    backward = model.backward

    def overflowing(dout, *, input_grad=True):
        backward(dout, input_grad=input_grad)
        model[0].weight.grad[0, 0] = np.inf

    model.backward = overflowing
    with pytest.raises(TrainingDiverged, match="the norm of the gradient is inf, first non-finite in the norm of"):
        solver.train_step(x, y)
    assert same_state(before, model.state_dict())


def test_an_overflow_in_the_last_update_is_noticed():
    x, y = blobs(20)
    model = mlp()
    solver = solver_for(model, lr=3e30)
    solver.schedule = lambda step, total_steps: 1e8
    with pytest.raises(TrainingDiverged, match=r"at step 1: the update overflowed, first non-finite in 0\.weight"):
        solver.fit(1000 * x, y, steps=1)


def test_a_validation_loss_that_is_not_finite_is_noticed():
    x, y = blobs(20)
    with pytest.raises(
        TrainingDiverged, match="the validation loss is nan, first non-finite in the validation scores"
    ):
        solver_for(mlp()).fit(x, y, epochs=1, validation_data=(np.full_like(x, 3e38), y))


# -- bad input ------------------------------------------------------------------------------------------------

X, Y = blobs(60)


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (X, Y[:-1], ValueError, r"x has 60 samples, (validation )?y has shape \(59,\)"),
        (X[:0], Y[:0], ValueError, r"x must have at least one sample, got shape \(0, 5\)"),
        (np.float32(1), Y, ValueError, r"x must have at least one sample, got shape \(\)"),
        (
            np.where(X > 4, np.float32("nan"), X),
            Y,
            ValueError,
            "x has NaN or infinite values among samples 0 to 59",
        ),
        (np.where(X > 4, np.float32("inf"), X), Y, ValueError, "x has NaN or infinite values"),
        (X.astype(str), Y, TypeError, "x must be an array of numbers, got dtype <U"),
        (X[:, :4], Y, LayerError, r"\[0 Linear\] expected x of shape \(N, 5\), got \(1, 4\)"),
        (X.astype(np.float64), Y, TypeError, r"\[0 Linear\] expected x of float32, got float64"),
        (X, np.where(np.arange(60) == 59, 3, Y), ValueError, "whole numbers from 0 to 2, got 3 at index 59"),
        (X, np.eye(3)[Y], ValueError, r"expected y of shape \(N,\), .*: of one-hot rows y.argmax"),
        (X, np.where(np.arange(60) == 59, np.nan, Y), ValueError, "got nan at index 59"),
        (X, Y.astype(str), TypeError, "y must be integers, floats or bools"),
        (X, 1, ValueError, r"x has 60 samples, (validation )?y has shape \(\)"),
    ],
)
@pytest.mark.parametrize("role", ["training", "validation", "evaluate"])
def test_data_that_do_not_fit_are_refused_before_any_update(role, x, y, error, message):
    solver = solver_for(mlp())
    before = solver.model.state_dict()
    attempts = {
        "training": lambda: solver.fit(x, y, epochs=1),
        "validation": lambda: solver.fit(X, Y, epochs=1, validation_data=(x, y)),
        "evaluate": lambda: solver.evaluate(x, y),
    }
    with pytest.raises(error, match=message):
        attempts[role]()
    assert same_state(before, solver.model.state_dict())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give epochs, steps or both"),
        ({"epochs": 0}, "epochs must be a whole number from 1, got 0"),
        ({"steps": 2.5}, "steps must be a whole number from 1, got 2.5"),
        ({"epochs": 10**400}, r"epochs must be less than 2\*\*63, got 1000"),
        ({"steps": 10**5000}, r"steps must be less than 2\*\*63, got a value of type int|got"),
        ({"epochs": True}, "epochs must be a whole number from 1, got True"),
        ({"epochs": 1, "patience": 2}, r"patience=2 needs validation_data=\(x, y\)"),
        ({"epochs": 1, "patience": 0, "validation_data": (X, Y)}, "patience must be a whole number from 1, got 0"),
        ({"epochs": 1, "validation_data": (X, Y, Y)}, r"fit: validation_data must be \(x, y\), got 3 items"),
        ({"epochs": 1, "monitor": "loss"}, "monitor must be 'val_loss' or 'val_accuracy', got 'loss'"),
    ],
)
def test_arguments_of_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        solver_for(mlp()).fit(X, Y, **arguments)


def test_validation_data_that_are_no_pair():
    with pytest.raises(TypeError, match=r"fit: validation_data must be \(x, y\), got ndarray"):
        solver_for(mlp()).fit(X, Y, epochs=1, validation_data=X[:2])


def test_accuracy_of_a_regression_cannot_be_monitored():
    model = Sequential(Linear(5, 1))
    solver = Solver(model, MSELoss(), SGD(model.parameters(), 0.1), progress=False)
    with pytest.raises(ValueError, match="monitor='val_accuracy' needs a classification loss"):
        solver.fit(X, Y, epochs=1, monitor="val_accuracy")


def test_arguments_of_the_constructor():
    model = mlp()
    with pytest.raises(ValueError, match="batch_size must be a whole number from 1, got 0"):
        solver_for(model, batch_size=0)
    with pytest.raises(TypeError, match="rng must be a numpy Generator or None, got 3"):
        solver_for(model, rng=3)
    for name in ("schedule", "transform", "augment"):
        with pytest.raises(TypeError, match=f"Solver: {name} must be a function or None, got 3"):
            solver_for(model, **{name: 3})
    with pytest.raises(ValueError, match="max_grad_norm must be above 0 or None, got 0"):
        solver_for(model, max_grad_norm=0)
    with pytest.raises(ValueError, match="the optimizer has parameters that the model lacks"):
        Solver(model, CrossEntropyLoss(), SGD(mlp().parameters(), 0.1))


def test_labels_of_two_classes_may_be_columns():
    model = Sequential(Linear(5, 1))
    y = (Y > 0)[:, None]
    solver = Solver(model, LogisticLoss(), SGD(model.parameters(), 0.1), progress=False)
    solver.fit(X, y, epochs=1)
    assert solver.predict(X).shape == (60,)


# -- progress -------------------------------------------------------------------------------------------------


def test_progress_is_one_line_an_epoch_where_there_is_no_terminal(capsys):
    solver_for(mlp(), progress=None).fit(X, Y, epochs=2, validation_data=(X, Y))
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 2
    assert lines[1].startswith("epoch 2/2  loss 0.")
    for name in ("accuracy", "val_loss", "val_accuracy", "lr 0.1", " s"):
        assert name in lines[1]


def test_progress_is_a_bar_on_a_terminal(capsys, monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    solver_for(mlp(), progress=None).fit(X, Y, epochs=2)
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch 2/2" in err
    assert "6/6" in err
    assert "\r" in err


def test_progress_is_lines_on_a_terminal_without_tqdm(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    solver_for(mlp(), progress=True).fit(X, Y, epochs=2)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_progress_can_be_silent(capsys):
    solver_for(mlp(), progress=False).fit(X, Y, epochs=2)
    assert capsys.readouterr() == ("", "")
