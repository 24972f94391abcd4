"""A resumed run is the same run, or is refused by the name of what differs, or takes up what is accepted."""

import copy
import functools

import numpy as np
import pytest

from pynn.callbacks import STOP, ReduceOnPlateau
from pynn.conditions import OF_FIT, OF_SOLVER, difference
from pynn.data import Compose, Standardize
from pynn.io import ModelFileError, read_tensors
from pynn.layers import Dropout, Linear, ReLU, Sequential, Tanh
from pynn.losses import CrossEntropyLoss, MSELoss
from pynn.optim import SGD, Adam
from pynn.schedules import Cosine, StepDecay
from pynn.solver import Solver

pytest.importorskip("safetensors")
pytestmark = pytest.mark.usefixtures("one_thread")

DATA = np.random.default_rng(3)
X, Y = DATA.normal(size=(60, 4)).astype(np.float32), DATA.integers(0, 3, 60)
VALIDATION = DATA.normal(size=(30, 4)).astype(np.float32), DATA.integers(0, 3, 30)
OPTIONS = {"batch_size": 20, "max_grad_norm": 5.0, "progress": False}
FIT = {"epochs": 6, "validation_data": VALIDATION, "patience": 9}


def network(activation=ReLU, drop=0.2):
    rng = np.random.default_rng(0)
    return Sequential(Linear(4, 8, rng=rng), activation(), Dropout(drop, rng=rng), Linear(8, 3, rng=rng))


def new_solver(model=None, loss=None, optimizer=None, **options):
    model = model or network()
    optimizer = (optimizer or (lambda p: Adam(p, 0.01)))(model.parameters())
    options = OPTIONS | {"rng": np.random.default_rng(1)} | options
    return Solver(model, loss or CrossEntropyLoss(), optimizer, **options)


def body_fixed(model):
    model[0].trainable = False
    return model


def stop_at(epoch):
    return lambda solver, logs: STOP if logs["epoch"] == epoch else None


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A checkpoint after three of six epochs."""
    path = tmp_path_factory.mktemp("kept") / "c"

    def interrupt(solver, logs):
        if logs["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        new_solver(callbacks=interrupt).fit(X, Y, checkpoint=path, **FIT)
    return path


def outcome(solver):
    weights = {path: array.tobytes() for path, array in solver.model.state_dict().items()}
    return weights, {name: values for name, values in solver.history.items() if name != "seconds"}


def double(x):
    return 2 * x


def shift(x, rng):
    return x + rng.normal()


class Scale:
    def __init__(self, by):
        self.by = by

    def __call__(self, x, rng):
        return x * np.float32(self.by)

    def __repr__(self):
        return f"Scale({self.by})"


OTHER_SOLVERS = {
    "model": [{"model": network(Tanh)}, {"model": network(drop=0.3)}],
    "loss": [{"loss": CrossEntropyLoss(label_smoothing=0.1)}],
    "optimizer": [
        {"optimizer": lambda p: Adam(p, 0.01, betas=(0.8, 0.999))},
        {"optimizer": lambda p: Adam(p, 0.01, eps=1e-6)},
    ],
    "lr": [{"optimizer": lambda p: Adam(p, 0.02)}],
    "weight_decay": [{"optimizer": lambda p: Adam(p, 0.01, weight_decay=0.1)}],
    "batch_size": [{"batch_size": 30}],
    "schedule": [{"schedule": Cosine()}, {"schedule": lambda step, total: 1.0}],
    "augment": [{"augment": Scale(0.5)}, {"augment": shift}],
    "max_grad_norm": [{"max_grad_norm": 1.0}, {"max_grad_norm": None}, {"max_grad_norm": np.inf}],
    "callbacks": [{"callbacks": ReduceOnPlateau()}],
    "trainable": [{"model": body_fixed(network())}],
    "transform": [{"transform": double}, {"transform": Standardize.from_data(X)}],
}  # fmt: skip
OTHER_FITS = {
    "x": [{"x": X[:40], "y": Y[:40]}, {"x": X[::-1]}, {"x": X + np.float32(1e-6)}],
    "y": [{"y": Y[::-1]}, {"y": Y.astype(np.int8)}],
    "validation_data": [
        {"validation_data": None, "patience": None},
        {"validation_data": (VALIDATION[0][:9], VALIDATION[1][:9])},
    ],
    "epochs": [{"epochs": 7}],
    "steps": [{"steps": 18}],
    "monitor": [{"monitor": "val_accuracy"}],
    "patience": [{"patience": 8}, {"patience": None}],
    "restore_best_weights": [{"restore_best_weights": False}],
}  # fmt: skip


def cases(table):
    named = [(name, i, options) for name, row in table.items() for i, options in enumerate(row)]
    return [pytest.param(name, options, id=f"{name}-{i}") for name, i, options in named]


def go_on(solver, path):
    solver.resume(path)
    return solver.fit(X, Y, **FIT)


@pytest.mark.parametrize(("name", "options"), cases(OTHER_SOLVERS))
def test_another_solver_is_refused_by_name(kept, name, options):
    solver = new_solver(**copy.deepcopy(options))
    before, run = outcome(solver), solver.run
    with pytest.raises(
        ModelFileError, match=rf"{name}.* (was|were|with a state are) .*accept=\['{name}'\]"
    ) as refusal:
        go_on(solver, kept)
    assert len(str(refusal.value).replace(str(kept), "c")) < 300
    if name != "transform":  # which only shows with data
        assert outcome(solver) == before
        assert solver.run is run


@pytest.mark.parametrize(("name", "options"), cases(OTHER_SOLVERS))
def test_another_solver_is_taken_up_where_it_is_accepted(kept, tmp_path, name, options):
    solver = new_solver(**copy.deepcopy(options))
    solver.resume(kept, accept=name)
    history = solver.fit(X, Y, checkpoint=tmp_path / "c", **FIT)
    assert history["epoch"] == [1, 2, 3, 4, 5, 6]
    again = new_solver(**copy.deepcopy(options))
    assert go_on(again, tmp_path / "c")["epoch"] == history["epoch"]  # by its new conditions from now on
    with pytest.raises(ModelFileError, match=f"accept=.*'{name}'"):
        go_on(new_solver(), tmp_path / "c")


@pytest.mark.parametrize(("name", "options"), cases(OTHER_FITS))
def test_another_fit_is_refused_by_name_and_the_right_one_goes_on(kept, name, options):
    solver, uninterrupted = new_solver(), new_solver()
    solver.resume(kept)
    before = outcome(solver)
    arguments = {"x": X, "y": Y} | FIT | options
    with pytest.raises(ModelFileError, match=rf"c is of another run: .*{name}.* was .*accept=\[.*'{name}'"):
        solver.fit(**arguments)
    assert outcome(solver) == before
    solver.fit(X, Y, **FIT)
    uninterrupted.fit(X, Y, **FIT)
    assert outcome(solver) == outcome(uninterrupted)


@pytest.mark.parametrize(("name", "options"), cases(OTHER_FITS))
def test_another_fit_is_taken_up_where_it_is_accepted(kept, name, options):
    solver = new_solver()
    also = {"y"} if "y" in options else set()
    also |= {"patience"} if "patience" in options else set()
    solver.resume(kept, accept={name, *also})
    arguments = {"x": X, "y": Y} | FIT | options
    history = solver.fit(**arguments)
    assert len(history["epoch"]) == arguments["epochs"]
    assert history["step"][-1] == 9 + (arguments["epochs"] - 3) * (len(arguments["x"]) // 20)


def test_many_differences_are_one_short_sentence(kept):
    model = network(Tanh)
    options = {"batch_size": 1, "schedule": Cosine(), "augment": shift, "max_grad_norm": 1, "loss": MSELoss()}
    solver = Solver(model, optimizer=Adam(model.parameters(), 0.5, weight_decay=0.1, eps=1e-3), **options)
    solver.rng = np.random.default_rng(1)
    with pytest.raises(ModelFileError, match=r"accept=\['model', 'loss', 'optimizer', …\]") as refusal:
        solver.resume(kept)
    assert len(str(refusal.value).replace(str(kept), "c")) < 300
    assert str(refusal.value).isprintable()


def test_names_to_accept():
    solver = new_solver()
    with pytest.raises(ValueError, match="there is no condition 'epoch' to accept: did you mean 'epochs'"):
        solver.resume("c", accept="epoch")
    with pytest.raises(ValueError, match="there is no condition 'everything' to accept: there are model, loss"):
        solver.resume("c", accept=["lr", "everything"])


def test_a_longer_run_is_the_run_that_was_longer_from_the_start(tmp_path):
    short, long = new_solver(schedule=StepDecay(4)), new_solver(schedule=StepDecay(4))
    short.fit(X, Y, checkpoint=tmp_path / "c", **FIT | {"epochs": 3})
    resumed = new_solver(schedule=StepDecay(4))
    resumed.resume(tmp_path / "c", accept=["epochs"])
    resumed.fit(X, Y, **FIT | {"epochs": 8})
    long.fit(X, Y, **FIT | {"epochs": 8})
    assert outcome(resumed) == outcome(long)


@pytest.mark.parametrize("epochs", [2, 3])
def test_no_longer_run_is_refused(tmp_path, epochs):
    new_solver().fit(X, Y, checkpoint=tmp_path / "c", **FIT | {"epochs": 4})
    resumed = new_solver()
    resumed.resume(tmp_path / "c", accept="epochs")
    with pytest.raises(ValueError, match=f"at step 12 after 4 epochs: epochs={epochs}, steps=None leave nothing"):
        resumed.fit(X, Y, **FIT | {"epochs": epochs})
    assert resumed.fit(X, Y, **FIT | {"epochs": 5})["epoch"] == [1, 2, 3, 4, 5]


def test_epochs_of_another_batch_size_are_counted_as_epochs(kept):
    solver = new_solver(batch_size=30)
    solver.resume(kept, accept="batch_size")
    assert solver.fit(X, Y, **FIT)["step"] == [3, 6, 9, 11, 13, 15]


def test_patience_and_the_best_epoch_begin_anew_with_new_validation_data(kept):
    solver = new_solver()
    solver.resume(kept, accept=["validation_data", "patience", "epochs"])
    far = np.full((3, 4), 30, np.float32), np.array([0, 1, 2])
    history = solver.fit(X, Y, epochs=30, validation_data=far, patience=1)
    assert len(history["epoch"]) >= 5
    assert solver.run.best_epoch >= 4
    assert history["val_loss"][solver.run.best_epoch - 1] == min(history["val_loss"][3:])


def test_an_optimizer_that_the_state_does_not_fit_begins_anew(kept):
    solver = new_solver(optimizer=lambda p: SGD(p, 0.01, momentum=0.9))
    with pytest.raises(ModelFileError, match=r"\[SGD\] the state lacks 0.velocity"):
        solver.resume(kept)
    solver.resume(kept, accept="optimizer")
    assert solver.optimizer.steps == 0
    assert solver.fit(X, Y, **FIT)["step"][-1] == 18


# -- what changes on the way ----------------------------------------------------------------------------------


def settings_change(solver, logs):
    if logs["epoch"] == 2:
        solver.optimizer.groups[0]["lr"] *= 0.5
        solver.optimizer.groups[0]["weight_decay"] = 0.1
        solver.optimizer.betas = (0.7, 0.9)
        solver.max_grad_norm = 0.5
        solver.model[2].trainable = False  # no dropout any more
        solver.model[0].bias.requires_grad = False


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_what_a_callback_changed_survives(tmp_path, epoch):
    whole = new_solver(callbacks=settings_change)
    whole.fit(X, Y, **FIT)
    assert outcome(whole)[0] != outcome_without_callback()[0]

    def interrupt(solver, logs):
        if logs["epoch"] == epoch:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        new_solver(callbacks=[settings_change, interrupt]).fit(X, Y, checkpoint=tmp_path / "c", **FIT)
    resumed = new_solver(callbacks=settings_change)
    resumed.resume(tmp_path / "c")
    resumed.fit(X, Y, **FIT)
    assert outcome(resumed) == outcome(whole)


def test_an_lr_that_no_optimizer_takes_leaves_the_file(tmp_path):
    def overdo(solver, logs):
        if logs["epoch"] == 2:
            solver.optimizer.groups[0]["lr"] = 1e300

    with pytest.raises(ValueError, match=r"its setting lr is \[1e\+300\]"):
        new_solver(callbacks=overdo).fit(X, Y, checkpoint=tmp_path / "c", **FIT)
    resumed = new_solver()
    resumed.resume(tmp_path / "c")
    assert resumed.history["epoch"] == [1, 2]


@functools.cache
def outcome_without_callback():
    solver = new_solver()
    solver.fit(X, Y, **FIT)
    return outcome(solver)


def test_an_accepted_lr_does_not_undo_a_callback_that_came_after_it(tmp_path):
    def halve(solver, logs):
        solver.optimizer.groups[0]["lr"] *= 0.5

    new_solver(callbacks=halve).fit(X, Y, checkpoint=tmp_path / "c", **FIT | {"epochs": 2})
    resumed = new_solver(optimizer=lambda p: Adam(p, 0.08), callbacks=halve)
    resumed.resume(tmp_path / "c", accept=["lr", "epochs"])
    assert resumed.optimizer.groups[0]["lr"] == 0.08
    resumed.fit(X, Y, checkpoint=tmp_path / "c", **FIT | {"epochs": 4})
    assert resumed.optimizer.groups[0]["lr"] == 0.02
    again = new_solver(optimizer=lambda p: Adam(p, 0.08), callbacks=halve)
    again.resume(tmp_path / "c", accept=["lr", "epochs"])  # left in the script: there is nothing new to accept
    assert again.optimizer.groups[0]["lr"] == 0.02


def test_callbacks_see_every_epoch_once(tmp_path):
    seen = []

    def see(solver, logs):
        seen.append(logs["epoch"])

    new_solver(callbacks=see).fit(X, Y, checkpoint=tmp_path / "c", **FIT | {"epochs": 3})
    resumed = new_solver(callbacks=see)
    resumed.resume(tmp_path / "c", accept="epochs")
    resumed.fit(X, Y, **FIT)
    assert seen == [1, 2, 3, 4, 5, 6]


def test_callbacks_that_were_interrupted_are_called_again(tmp_path):
    seen = []

    def see(solver, logs):
        seen.append(logs["epoch"])
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        new_solver(callbacks=see).fit(X, Y, checkpoint=tmp_path / "c", **FIT)
    resumed = new_solver(callbacks=see)
    resumed.resume(tmp_path / "c")
    resumed.fit(X, Y, **FIT)
    assert seen == [1, 2, 2, 3, 4, 5, 6]


def test_a_run_that_a_callback_ended_has_ended(tmp_path):
    whole = new_solver(callbacks=stop_at(2))
    whole.fit(X, Y, checkpoint=tmp_path / "c", **FIT)
    assert whole.ended_by == "callback"
    resumed = new_solver()
    resumed.resume(tmp_path / "c")
    resumed.fit(X, Y, **FIT)
    assert outcome(resumed) == outcome(whole)
    assert resumed.ended_by == "callback"
    longer = new_solver()
    longer.resume(tmp_path / "c", accept="epochs")
    assert len(longer.fit(X, Y, **FIT | {"epochs": 7})["epoch"]) == 7


@pytest.mark.parametrize("epoch", [2, 3, 4, 5])
def test_reduce_on_plateau_goes_on(tmp_path, epoch):
    def new(*callbacks):
        return new_solver(optimizer=lambda p: SGD(p, 0.5), callbacks=[ReduceOnPlateau(patience=1), *callbacks])

    def interrupt(solver, logs):
        if logs["epoch"] == epoch:
            raise KeyboardInterrupt

    whole = new()
    whole.fit(X, Y, **FIT)
    assert len(set(whole.history["lr"])) > 1
    with pytest.raises(KeyboardInterrupt):
        new(interrupt).fit(X, Y, checkpoint=tmp_path / "c", **FIT)
    resumed = new()
    resumed.resume(tmp_path / "c")
    resumed.fit(X, Y, **FIT)
    assert outcome(resumed) == outcome(whole)


def test_augment_keeps_its_own_generator(tmp_path):
    class Noise:
        def __init__(self, seed):
            self.rng = np.random.default_rng(seed)

        def __call__(self, x, rng):
            return x + self.rng.normal(size=x.shape).astype(np.float32)

    whole = new_solver(augment=Noise(5))
    whole.fit(X, Y, **FIT)
    new_solver(augment=Noise(5)).fit(X, Y, checkpoint=tmp_path / "c", **FIT | {"epochs": 3})
    resumed = new_solver(augment=Noise(6))
    resumed.resume(tmp_path / "c", accept="epochs")
    resumed.fit(X, Y, **FIT)
    assert outcome(resumed) == outcome(whole)


def test_where_a_function_lies_in_memory_is_no_condition(tmp_path):
    def augment():
        return Compose(lambda x, rng: x, lambda x, rng: x)

    new_solver(augment=augment()).fit(X, Y, checkpoint=tmp_path / "c", **FIT)
    new_solver(augment=augment()).resume(tmp_path / "c")
    with pytest.raises(ModelFileError, match="augment was 'Compose"):
        new_solver(augment=Compose(lambda x, rng: x)).resume(tmp_path / "c")


@pytest.mark.parametrize("other", [Scale(0.6), None])
def test_an_augmentation_is_known_by_its_repr(tmp_path, other):
    new_solver(augment=Scale(0.5)).fit(X, Y, checkpoint=tmp_path / "c", **FIT)
    new_solver(augment=Scale(0.5)).resume(tmp_path / "c")
    with pytest.raises(ModelFileError, match=r"augment was 'Scale\(0.5\)', is (None|'Scale\(0.6\)'): make"):
        new_solver(augment=other).resume(tmp_path / "c")


@pytest.mark.parametrize(
    ("then", "now", "text"),
    [
        ({"a": 1}, {"a": 1.0}, None),
        ({"a": [1, {"b": "x"}]}, {"a": [1, {"b": "y"}]}, "c.a[1].b was 'x', is 'y'"),
        ({"a": [1]}, {"a": [2]}, "c.a was 1, is 2"),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, "c.a were 2, are 3"),
        ({"a": 1}, {"b": 1}, "c.a was 1, is None"),
        ({}, {"b": 1}, "c.b was None, is 1"),
        (None, {"b": 1}, "c was None, is {'b': 1}"),
        (True, 1, None),
        ("1", 1, "c was '1', is 1"),
    ],
)
def test_the_first_difference_is_named(then, now, text):
    assert difference("c", then, now) == text


class Counting:
    """A callback with a state that it takes back as it likes."""

    def __init__(self):
        self.epochs = 0

    def __call__(self, solver, logs):
        self.epochs += 1

    def state_dict(self):
        return {"epochs": self.epochs}

    def load_state_dict(self, state):
        self.epochs = state["epochs"]


class Refusing(Counting):
    def load_state_dict(self, state):
        if state["epochs"]:
            raise KeyError("nothing")


def test_callbacks_get_their_states_all_or_none(tmp_path):
    callbacks = [Counting(), Refusing()]
    new_solver(callbacks=callbacks).fit(X, Y, checkpoint=tmp_path / "c", **FIT)
    assert callbacks[0].epochs == 6
    solver = new_solver(callbacks=[Counting(), Refusing()])
    before = outcome(solver)
    with pytest.raises(
        ModelFileError, match="c does not fit this solver: Refusing does not take its state: 'nothing'"
    ):
        solver.resume(tmp_path / "c")
    assert solver.callbacks[0].epochs == 0
    assert outcome(solver) == before
    solver.callbacks = Counting()
    with pytest.raises(ModelFileError, match=r"of callbacks Counting, Refusing, the solver.s .* are Counting"):
        solver.resume(tmp_path / "c")


def test_every_condition_has_its_name(kept):
    conditions = read_tensors(kept, "checkpoint")[1]["conditions"]
    assert set(conditions) == {*OF_SOLVER, *OF_FIT}


def test_checkpoint_says_what_decides_the_run(kept):
    conditions = read_tensors(kept, "checkpoint")[1]["conditions"]
    assert conditions["batch_size"] == 20
    assert conditions["lr"] == [0.01]
    assert conditions["loss"] == {"type": "CrossEntropyLoss", "label_smoothing": 0.0}
    assert conditions["x"]["shape"] == [60, 4]
    assert conditions["schedule"] is None
