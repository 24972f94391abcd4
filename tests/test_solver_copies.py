"""Copies of a solver train as it does, threads may ask one solver, and one thread at a time trains it."""

import copy
import multiprocessing
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from resumable import VALIDATION, X, Y, fit, new_solver, outcome
from spawned import trained

pytestmark = pytest.mark.usefixtures("one_thread")


def by_pickle(solver):
    return pickle.loads(pickle.dumps(solver))


@pytest.mark.parametrize("copied", [copy.deepcopy, by_pickle], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("used", [False, True])
def test_a_copy_trains_as_the_original(copied, used):
    solver = new_solver()
    if used:
        fit(solver)
        solver.predict(X)
    twin = copied(solver)
    assert outcome(twin) == outcome(solver)
    fit(twin)
    state = outcome(solver)
    fit(solver)
    assert outcome(solver) != state  # the twin's training was its own
    assert outcome(twin) == outcome(solver)
    assert np.array_equal(twin.scores(X), solver.scores(X))


@pytest.mark.parametrize("copied", [copy.deepcopy, by_pickle], ids=["deepcopy", "pickle"])
def test_a_copy_from_within_a_callback_trains(copied):
    copies = []
    solver = new_solver(callbacks=lambda solver, logs: None)
    solver.callbacks = [lambda solver, logs: copies.append(copied(without_callbacks(solver)))]
    fit(solver)
    first, before = copies[0], copies[0].model.state_dict()
    assert first.history["epoch"] == [1]
    fit(first)
    assert not np.array_equal(first.model.state_dict()["6.weight"], before["6.weight"])


def without_callbacks(solver):
    twin = copy.copy(solver)
    twin.callbacks = ()
    return twin


def test_a_pool_of_spawned_processes_trains_as_one_does():
    solvers = [new_solver(optimizer, seed) for seed, optimizer in enumerate(["SGD", "AdamW"])]
    for solver in solvers:
        fit(solver, epochs=1)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        there = [*pool.map(trained, solvers)]
    assert there == [trained(solver) for solver in solvers]


def in_threads(*functions):
    """Runs all at once; the errors that ended them."""
    errors = []

    def guarded(function):
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_threads_may_ask_one_solver():
    solver = new_solver()
    fit(solver)
    expected = {n: solver.scores(X[:n]) for n in (1, 7, 20, 50)}
    accuracy = solver.evaluate(X, Y)

    def ask():
        for n in [*expected] * 10:
            assert np.array_equal(solver.scores(X[:n]), expected[n])
            assert solver.evaluate(X, Y) == accuracy

    assert in_threads(*[ask] * 8) == []


@pytest.mark.parametrize("doing", ["fit", "train_step", "resume"])
def test_one_thread_trains(doing, tmp_path):
    inside, done = threading.Event(), threading.Event()

    def wait(solver, logs):
        inside.set()
        assert done.wait(30)

    solver = new_solver(callbacks=wait)
    attempts = {
        "fit": lambda: fit(solver),
        "train_step": lambda: solver.train_step(X, Y),
        "resume": lambda: solver.resume(tmp_path / "c"),
    }

    def disturb():
        assert inside.wait(30)
        try:
            with pytest.raises(RuntimeError, match=f"{doing}: another thread trains this solver"):
                attempts[doing]()
        finally:
            done.set()

    assert in_threads(lambda: fit(solver), disturb) == []
    undisturbed = new_solver()
    fit(undisturbed)
    assert outcome(solver) == outcome(undisturbed)


def test_a_callback_does_not_fit():
    solver = new_solver()
    solver.callbacks = [lambda solver, logs: fit(solver)]
    with pytest.raises(RuntimeError, match="fit: this solver is in a fit already: a callback cannot train"):
        fit(solver)
    solver.callbacks = ()
    fit(solver)  # the refusal did not lock it
    assert solver.evaluate(*VALIDATION).keys() == {"loss", "accuracy"}
