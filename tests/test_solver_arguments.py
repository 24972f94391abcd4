"""What users type: habits from elsewhere work, or are refused at once by name with what to write instead."""

import functools
import pickle
import types

import numpy as np
import pytest

import pynn
from pynn.callbacks import STOP, ReduceOnPlateau
from pynn.habits import explains
from pynn.layers import Conv2d, Flatten, Linear, ReLU, Sequential
from pynn.losses import CrossEntropyLoss, HingeLoss, LogisticLoss, MSELoss
from pynn.module import LayerError
from pynn.optim import SGD, Adam
from pynn.schedules import Cosine, PerEpoch, StepDecay
from pynn.solver import Solver, TrainingDiverged

pytestmark = pytest.mark.usefixtures("one_thread")

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 5)).astype(np.float32), RNG.integers(0, 3, 60)


def mlp():
    rng = np.random.default_rng(1)
    return Sequential(Linear(5, 8, rng=rng), ReLU(), Linear(8, 3, rng=rng))


def new_solver(model=None, loss=None, lr=0.1, **options):
    model = model or mlp()
    options = {"batch_size": 20, "progress": False, "rng": np.random.default_rng(2)} | options
    return Solver(model, loss or CrossEntropyLoss(), SGD(model.parameters(), lr), **options)


def parts(**replaced):
    model = mlp()
    given = {"model": model, "loss": CrossEntropyLoss(), "optimizer": SGD(model.parameters(), 0.1)} | replaced
    return given["model"], given["loss"], given["optimizer"]


# -- the constructor ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"loss": "cross_entropy"}, r"loss must be a loss, as pynn.CrossEntropyLoss\(\), got 'cross_entropy'"),
        ({"loss": CrossEntropyLoss}, r"got the class CrossEntropyLoss: call it, CrossEntropyLoss\(…\)"),
        ({"loss": lambda scores, y: (0.0, scores)}, "loss must be a loss, .* got the function <lambda>"),
        ({"loss": None}, "loss must be a loss, .* got None"),
        ({"optimizer": "adam"}, r"as pynn.Adam\(model.parameters\(\), lr=0.001\), got 'adam'"),
        ({"optimizer": Adam}, r"got the class Adam: call it, Adam\(…\)"),
        ({"optimizer": 0.1}, "optimizer must be an optimizer, .* got 0.1"),
        ({"model": Sequential}, r"model must be a pynn.Module, .* got the class Sequential: call it"),
        ({"model": [Linear(5, 3)]}, r"model must be pynn.Sequential\(\*layers\), got \[Linear\(5, 3\)\]"),
        ({"model": pynn.freeze(mlp())}, "model must be a pynn.Module, .* got a Frozen"),
        (
            {"model": CrossEntropyLoss()},
            r"model must be a pynn.Module, .*, got CrossEntropyLoss",
        ),
        ({"loss": SGD(mlp().parameters(), 0.1)}, "loss and optimizer are in each other's place"),
        ({"loss": types.SimpleNamespace(task="classification", __call__=1)}, "loss must be a loss"),
    ],
)
def test_parts_that_are_none(replaced, message):
    with pytest.raises(TypeError, match=f"^Solver: .*{message}"):
        Solver(*parts(**replaced))


def test_a_loss_for_classification_needs_predict():
    class Loss:
        task = "classification"

        def __call__(self, scores, y):
            return 0.0, scores

    with pytest.raises(TypeError, match="a loss for classification has correct and predict"):
        Solver(*parts(loss=Loss()))


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("lr", r"it is the optimizer's: pynn.Adam\(model.parameters\(\), lr=…\)"),
        ("learning_rate", "it is the optimizer's"),
        ("epochs", r"it is fit's: solver.fit\(x, y, epochs=…\)"),
        ("metrics", "accuracy is measured for every classification loss"),
        ("scheduler", "it is called schedule"),
        ("criterion", "it is called loss"),
        ("random_state", r"give rng=np.random.default_rng\(seed\)"),
        ("batchsize", "did you mean batch_size?"),
        ("call_backs", "did you mean callbacks?"),
        ("zzz", "it takes model, loss, optimizer, batch_size"),
    ],
)
def test_names_that_the_solver_lacks(name, remedy):
    with pytest.raises(TypeError, match=f"^Solver has no argument '{name}': {remedy}"):
        Solver(*parts(), **{name: 1})


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("batch_size", r"it is the Solver's: Solver\(…, batch_size=…\)"),
        ("learning_rate", "it is the optimizer's"),
        ("verbose", "it is the Solver's progress"),
        ("validation_split", r"give a part of the data: validation_data=\(x_val, y_val\)"),
        ("callbacks", r"they are the Solver's: Solver\(…, callbacks=\[…\]\)"),
        ("sample_weight", "samples weigh alike"),
        ("epoch", "did you mean epochs?"),
        ("max_epochs", "it is called epochs"),
        ("timelimit", "did you mean time_limit?"),
        ("foo", "it takes x, y, epochs"),
    ],
)
def test_names_that_fit_lacks(name, remedy):
    solver = new_solver()
    with pytest.raises(TypeError, match=rf"^Solver.fit has no argument '{name}': {remedy}"):
        solver.fit(X, Y, epochs=1, **{name: 1})
    assert solver.run.step == 0


@pytest.mark.parametrize("arguments", [(X, Y, 10), (X,), (), ((X, Y),)])
def test_arguments_by_position(arguments):
    with pytest.raises(TypeError, match=r"^Solver\.fit takes x, y by position, all else by name: (too|missing)"):
        new_solver().fit(*arguments)
    with pytest.raises(TypeError, match=r"^Solver takes model, loss, optimizer by position"):
        Solver(*parts(), 100)


def test_a_remedy_goes_before_a_similar_name():
    @explains(bb="give cc")
    def function(bbb=0, *, cc=0):
        return bbb + cc

    assert function(1, cc=2) == 3
    with pytest.raises(TypeError, match="function has no argument 'bb': give cc"):
        function(bb=1)
    with pytest.raises(TypeError, match=r"function has no argument .bbbb.: did you mean bbb\?"):
        function(bbbb=1)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("callbacks", 42, r"callbacks must be functions \(solver, logs\), got 42"),
        ("callbacks", [42], r"callbacks\[0\] must be a function, got 42"),
        ("callbacks", "print", "callbacks must be functions"),
        ("callbacks", STOP, "got pynn.STOP"),
        (
            "callbacks",
            [print, ReduceOnPlateau],
            r"callbacks\[1\] must be a function, got the class",
        ),
        ("callbacks", lambda logs: None, r"takes \(solver, logs\), the function <lambda> takes \(logs\)"),
        ("transform", lambda: 0, r"transform must be a function or None that takes \(x\), the function <lambda>"),
        ("transform", np.float32, "transform must be a function or None, got the class float32"),
        ("augment", lambda x: x, r"augment must be a function or None that takes \(x, rng\)"),
        ("schedule", Cosine, "schedule must be a function or None, got the class Cosine: call it"),
        ("schedule", 0.5, "schedule must be a function or None, got 0.5"),
        ("schedule", lambda step: 1.0, r"that takes \(step, total_steps\)"),
        ("max_grad_norm", "1", "max_grad_norm must be above 0 or None, got '1'"),
        ("progress", "no", "progress must be True, False or None, got 'no'"),
        ("rng", 42, r"rng must be a numpy Generator or None, got 42: np.random.default_rng\(seed\)"),
    ],
)
def test_values_that_do_not_fit_whenever_they_are_set(name, value, message):
    with pytest.raises(TypeError, match=f"^Solver: .*{message}"):
        new_solver(**{name: value})
    solver = new_solver()
    before = getattr(solver, name)
    with pytest.raises(TypeError, match=f"^Solver: .*{message}"):
        setattr(solver, name, value)
    assert getattr(solver, name) is before


@pytest.mark.parametrize("callbacks", [None, (), [], print, [print]])
def test_callbacks_of_any_number(callbacks, capsys):
    new_solver(callbacks=callbacks).fit(X, Y, epochs=2)
    assert len(capsys.readouterr().out.splitlines()) == (2 if callbacks else 0)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("compile", r"Solver\(model, loss, optimizer\) takes"),
        ("train", r"train by fit\(x, y, epochs=…\)"),
        ("score", r"it is evaluate\(x, y\)\['accuracy'\]"),
        ("save", r"write pynn.save\(solver.model, path\)"),
        ("partial_fit", r"it is called train_step\(x, y\)"),
        ("predict_probs", r"did you mean predict_proba\?"),
    ],
)
def test_methods_of_other_libraries(name, remedy):
    with pytest.raises(AttributeError, match=rf"\[Solver\] has no attribute '{name}': {remedy}"):
        getattr(new_solver(), name)
    assert not hasattr(new_solver(), name)


@pytest.mark.parametrize("method", ["predict", "scores", "predict_proba"])
def test_evaluation_takes_no_batch_size(method):
    with pytest.raises(TypeError, match=f"Solver.{method} has no argument 'batch_size': evaluation works through"):
        getattr(new_solver(), method)(X, batch_size=32)
    with pytest.raises(TypeError, match=r"Solver.evaluate has no argument 'verbose': evaluation shows nothing"):
        new_solver().evaluate(X, Y, verbose=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda solver: solver.fit(X, Y, epochs=1, checkpoint=3), "expected the path of a file, got 3"),
        (lambda solver: solver.fit(X, Y, epochs=1, checkpoint=True), "expected the path of a file, got True"),
        (
            lambda solver: solver.fit(X, Y, epochs=1, restore_best_weights="no"),
            "must be True or False, got 'no'",
        ),
        (lambda solver: solver.resume(3), "expected the path of a file, got 3"),
        (lambda solver: solver.resume("c", accept=True), r"accept must be names of conditions, .* got True"),
        (lambda solver: solver.resume("c", ["lr"]), "Solver.resume takes path by position, all else by name"),
        (lambda solver: pynn.load(0), "expected the path of a file, got 0"),
        (lambda solver: pynn.save(solver.model, 1), "expected the path of a file, got 1"),
    ],
)
def test_values_of_another_type(call, message):
    with pytest.raises(TypeError, match=message):
        call(new_solver())


# -- callbacks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [True, 1, 0.99, "stop", np.bool_(True), np.ones(3), {"stop": True}, None])
def test_only_stop_ends_a_training(value):
    assert new_solver(callbacks=lambda solver, logs: value).fit(X, Y, epochs=3)["epoch"] == [1, 2, 3]


def test_stop_is_itself_wherever_it_went():
    assert pynn.STOP is STOP
    assert pickle.loads(pickle.dumps(STOP)) is STOP
    assert repr(STOP) == "pynn.STOP"


def lrs(values, **options):
    """The lr after each of these figures."""
    solver = new_solver(lr=1.0)
    reduce = ReduceOnPlateau("val_loss", **options)
    out = []
    for epoch, value in enumerate(values, start=1):
        reduce(solver, {"epoch": epoch, "val_loss": value})
        out.append(solver.optimizer.lr)
    return out


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        ([3, 2, 1, 0], {"patience": 1}, [1, 1, 1, 1]),
        ([3, 3, 3, 3], {"patience": 1, "factor": 0.5}, [1, 0.5, 0.25, 0.125]),
        ([3, 3, 3, 3, 3], {"patience": 2, "factor": 0.5}, [1, 1, 0.5, 0.5, 0.25]),
        ([3, 4, 2, 4, 4], {"patience": 2, "factor": 0.5}, [1, 1, 1, 1, 0.5]),
        ([3, 3, 3], {"patience": 1, "factor": 0.5, "min_lr": 0.4}, [1, 0.5, 0.4]),
        ([3, 3], {"patience": 1, "min_lr": 2.0}, [1, 1]),  # never upwards
    ],
)
def test_reduce_on_plateau(values, options, expected):
    assert lrs(values, **options) == expected


def test_reduce_on_plateau_watches_accuracy_upwards_and_starts_anew():
    solver, reduce = new_solver(lr=1.0), ReduceOnPlateau("accuracy", patience=1)
    for epoch, value in [(1, 0.5), (2, 0.6), (1, 0.1), (2, 0.2)]:
        reduce(solver, {"epoch": epoch, "accuracy": value})
    assert solver.optimizer.lr == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"monitor": "val_acc"}, "monitor must be one of loss, val_loss, accuracy, val_accuracy, got 'val_acc'"),
        ({"factor": 1}, "factor must be a number between 0 and 1, got 1"),
        ({"factor": "0.1"}, "got '0.1'"),
        ({"patience": 0}, "patience must be a whole number from 1, got 0"),
        ({"patience": True}, "got True"),
        ({"min_lr": -1}, "min_lr must be a finite number from 0, got -1"),
        ({"min_lr": 10**400}, "min_lr must be a finite number"),
    ],
)
def test_arguments_of_reduce_on_plateau(arguments, message):
    with pytest.raises(ValueError, match=f"^ReduceOnPlateau: .*{message}"):
        ReduceOnPlateau(**arguments)


@pytest.mark.parametrize(
    "state", [{}, {"best": 1.0, "waited": 3}, {"best": "1", "waited": 0}, {"best": 10**400, "waited": 0}]
)
def test_states_of_reduce_on_plateau(state):
    reduce = ReduceOnPlateau(patience=3)
    with pytest.raises(ValueError, match="ReduceOnPlateau: expected a best figure and the epochs waited"):
        reduce.load_state_dict(state)
    assert reduce.state_dict() == {"best": None, "waited": 0}


def test_what_a_callback_watches_must_be_measured():
    with pytest.raises(ValueError, match=r"watches val_loss: give validation_data=\(x, y\)"):
        new_solver(callbacks=ReduceOnPlateau()).fit(X, Y, epochs=1)
    model = Sequential(Linear(5, 1))
    solver = Solver(model, MSELoss(), SGD(model.parameters(), 0.1), callbacks=ReduceOnPlateau("accuracy"))
    with pytest.raises(ValueError, match="watches accuracy, which a regression has not"):
        solver.fit(X, X[:, :1], epochs=1)


# -- schedules and functions ----------------------------------------------------------------------------------


def test_schedules_in_epochs():
    history = new_solver(schedule=PerEpoch(StepDecay(2, 0.5)), lr=1e-3).fit(X, Y, epochs=6)
    assert history["lr"] == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 2.5e-4], rel=1e-12)


@pytest.mark.parametrize(
    ("factor", "error", "message"),
    [
        (None, TypeError, "schedule must return a number, got None at step 0"),
        ("1", TypeError, "got '1' at step 0"),
        (np.ones(2), TypeError, r"got an array of shape \(2,\)"),
        (-0.5, ValueError, "schedule must return a finite number from 0 up, got -0.5 at step 0"),
        (np.nan, ValueError, "got nan at step 0"),
        (10**400, ValueError, "must return a finite number"),
    ],
)
def test_what_a_schedule_returns(factor, error, message):
    with pytest.raises(error, match=f"^Solver: .*{message}"):
        new_solver(schedule=lambda step, total: factor).fit(X, Y, epochs=1)


@pytest.mark.parametrize("factor", [1, np.float32(0.5), np.array(0.5), np.int64(1)])
def test_numbers_that_a_schedule_may_return(factor):
    new_solver(schedule=lambda step, total: factor).fit(X, Y, epochs=1)


@pytest.mark.parametrize("name", ["transform", "augment"])
@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (lambda x: None, TypeError, r"an array of the batch's \d+ samples, got None"),
        (lambda x: x.tolist(), TypeError, "an array"),
        (lambda x: x[1:], ValueError, "got shape"),
        (lambda x: x[0, 0], TypeError, "got"),
    ],
)
def test_what_transform_and_augment_return(name, result, error, message):
    function = {"transform": result, "augment": lambda x, rng: result(x)}[name]
    solver = new_solver(**{name: function})
    before = solver.model.state_dict()
    with pytest.raises(error, match=f"^Solver: {name} must return .*{message}"):
        solver.fit(X, Y, epochs=1)
    assert all(np.array_equal(array, before[path]) for path, array in solver.model.state_dict().items())


def test_the_wrong_dtype_of_a_transform_is_told():
    with pytest.raises(TypeError, match=r"expected x of float32, got float64: .* \(as transform returned it\)"):
        new_solver(transform=lambda x: x.astype(np.float64)).predict(X)


def test_functions_in_place_leave_the_callers_arrays():
    def halve(x):
        x /= 2
        return x

    def zero(x, rng):
        x[: len(x) // 2] = 0
        return x

    x, validation = X.copy(), X.copy()
    solver = new_solver(transform=halve, augment=zero)
    solver.fit(x, Y, epochs=2, validation_data=(validation, Y))
    solver.evaluate(x, Y), solver.predict(x), solver.scores(x)
    assert np.array_equal(x, X)
    assert np.array_equal(validation, X)
    plain = new_solver(solver.model)
    assert np.array_equal(solver.scores(x), plain.scores(x / 2))


# -- inputs ---------------------------------------------------------------------------------------------------


def image_solver():
    model = Sequential(Conv2d(1, 2, 3), Flatten(), Linear(2 * 2 * 3, 3))
    return Solver(model, CrossEntropyLoss(), SGD(model.parameters(), 0.1), progress=False)


@pytest.mark.parametrize("method", ["predict", "scores", "predict_proba"])
def test_a_single_sample_is_told_to_be_a_batch(method):
    with pytest.raises(ValueError, match=r"x of shape \(5,\) is a single sample: give a batch of one, x\[None\]"):
        getattr(new_solver(), method)(X[0])
    with pytest.raises(ValueError, match=r"x of shape \(1, 4, 5\) is a single sample"):
        getattr(image_solver(), method)(np.zeros((1, 4, 5), np.float32))
    solver = new_solver(transform=pynn.data.Standardize.from_data(X))
    with pytest.raises(ValueError, match=r"x of shape \(5,\) is a single sample"):
        getattr(solver, method)(X[0])


class Frame:
    """What pandas has: its own way to become an array."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        if isinstance(self.values, Exception):
            raise self.values
        return np.asarray(self.values, dtype)


@pytest.mark.parametrize("x", [Frame(X), X[::-1][::-1], np.asfortranarray(X), X.view(np.ma.MaskedArray)])
def test_inputs_that_are_arrays_in_other_clothes(x):
    assert np.array_equal(new_solver().scores(x), new_solver().scores(X))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X.astype(np.float64), "expected x of float32, got float64: convert it with .astype"),
        (X.tolist(), "expected x of float32, got float64"),
        (X.astype(int), "expected x of float32, got int64"),
        (
            X.astype(object),
            r"an array of numbers, got dtype object: convert it with .astype\(np.float32\)",
        ),
        (None, "x must be an array of numbers, got a NoneType of dtype object"),
        ("abc", "got a str of dtype"),
        ({"x": X}, "got a dict of dtype object"),
        (np.ma.masked_array(X, X > 1), "x has masked values, which would be taken as they are"),
        ([[1.0, 2.0], [3.0]], "x cannot be made a NumPy array: setting an array element"),
        (
            Frame(RuntimeError("Can't call numpy() on Tensor\nthat requires grad")),
            "Can't call numpy.. on Tensor that",
        ),
        (X[:0], r"x must have at least one sample, got shape \(0, 5\)"),
    ],
)
def test_inputs_that_are_none(x, message):
    for use in (lambda solver: solver.predict(x), lambda solver: solver.fit(x, Y, epochs=1)):
        with pytest.raises((TypeError, ValueError), match=message) as refusal:
            use(new_solver())
        assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    ("loss", "labels"), [(CrossEntropyLoss(), Y), (LogisticLoss(), Y > 0), (LogisticLoss((-1, 1)), Y > 0)]
)
def test_probabilities(loss, labels):
    model = mlp() if loss == CrossEntropyLoss() else Sequential(Linear(5, 1))
    solver = new_solver(model, loss)
    solver.fit(X, labels, epochs=1)
    p = solver.predict_proba(X)
    assert p.shape == (60, 3 if model[-1].out_features == 3 else 2)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    names = np.array(getattr(loss, "labels", (0, 1, 2)))
    assert np.array_equal(names[p.argmax(axis=1)], solver.predict(X))


@pytest.mark.parametrize("loss", [HingeLoss(), MSELoss()])
def test_scores_that_are_no_probabilities(loss):
    with pytest.raises(TypeError, match=f"predict_proba: the scores of {type(loss).__name__} are no log-prob"):
        new_solver(Sequential(Linear(5, 1)), loss).predict_proba(X)


# -- parts that are exchanged ---------------------------------------------------------------------------------


def test_another_model_is_trained_and_asked():
    solver, other = new_solver(), mlp()
    solver.fit(X, Y, epochs=1)
    old = solver.model.state_dict()
    other[0].bias.data[...] = 1
    solver.model = other
    reference = new_solver(other)
    assert np.array_equal(solver.scores(X), reference.scores(X))
    with pytest.raises(ValueError, match="the optimizer has parameters that the model lacks: build it from this"):
        solver.fit(X, Y, epochs=1)
    with pytest.raises(ValueError, match="the optimizer has parameters that the model lacks"):
        solver.train_step(X, Y)
    solver.optimizer = SGD(other.parameters(), 0.1)
    before = other.state_dict()
    solver.fit(X, Y, epochs=1)
    assert not np.array_equal(other[0].weight.data, before["0.weight"])
    assert np.array_equal(solver.model[0].weight.data, other[0].weight.data)
    assert old.keys() == before.keys()


def test_a_layer_put_into_the_model_is_not_the_optimizers():
    model = mlp()
    solver = new_solver(model)
    solver.fit(X, Y, epochs=1)
    model[0].weight = pynn.Parameter(np.zeros((5, 8), np.float32))
    with pytest.raises(ValueError, match="the optimizer has parameters that the model lacks"):
        solver.fit(X, Y, epochs=1)


def test_another_loss_counts_from_the_next_call_on():
    solver = new_solver()
    plain = solver.evaluate(X, Y)["loss"]
    solver.loss = CrossEntropyLoss(label_smoothing=0.5)
    assert solver.evaluate(X, Y)["loss"] != plain
    assert solver.evaluate(X, Y)["loss"] == new_solver(solver.model, solver.loss).evaluate(X, Y)["loss"]


def test_parameters_that_nobody_trains_are_told():
    model = mlp()
    head = SGD(model[2].parameters(), 0.1)
    with pytest.warns(UserWarning, match=r"Solver: 0.weight and 1 others of the model are not the optimizer's"):
        Solver(model, CrossEntropyLoss(), head)
    model[0].trainable = False
    Solver(model, CrossEntropyLoss(), head)  # on purpose: no warning


def test_divergence_can_be_pickled_and_has_its_parts():
    error = pickle.loads(pickle.dumps(TrainingDiverged(3, "the loss is nan", "0 Linear", 0.1, "run.ckpt")))
    assert (error.step, error.problem, error.layer, error.lr, error.checkpoint) == (
        3, "the loss is nan", "0 Linear", 0.1, "run.ckpt",
    )  # fmt: skip
    assert error.finding == "training diverged at step 3: the loss is nan, first non-finite in 0 Linear"
    assert str(error).startswith(error.finding)
    assert len(str(error)) < 300


def test_partial_functions_and_methods_are_functions():
    class Reader:
        def scale(self, x):
            return x

        def __call__(self, solver, logs):
            return None

    solver = new_solver(
        transform=Reader().scale, callbacks=Reader(), augment=functools.partial(lambda k, x, rng: x, 1)
    )
    solver.fit(X, Y, epochs=1)
    with pytest.raises(LayerError):
        solver.predict(X[:, :2])
