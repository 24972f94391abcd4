"""A training that a time limit ended goes on from its checkpoint and ends as one without a limit."""

import math
import time

import numpy as np
import pytest
from resumable import EPOCHS, VALIDATION, X, Y, fit, new_solver, outcome

import pynn.solver
from pynn.io import read_tensors

pytest.importorskip("safetensors")
pytestmark = pytest.mark.usefixtures("one_thread")


class Clock:
    """Time that passes by one second with each update."""

    def __init__(self, solver):
        self.solver, self.before = solver, 0

    def perf_counter(self):
        return float(self.before + self.solver.run.step)


@pytest.fixture
def clock(monkeypatch):
    def of(solver):
        made = Clock(solver)
        made.before = -solver.run.step
        monkeypatch.setattr(pynn.solver, "time", made)

    return of


def in_pieces(path, clock, seconds, **options):
    """The solver that ended the run, after as many fits as it takes."""
    for fits in range(100):
        solver = new_solver(seed=0 if fits == 0 else 99, **options)
        if fits:
            solver.resume(path)
        clock(solver)
        fit(solver, path, time_limit=seconds)
        if solver.ended_by != "time_limit":
            return solver, fits + 1
    raise AssertionError("no end")


@pytest.mark.parametrize("seconds", [0.5, 1, 2, 3, 4, 5, 7, 8, 23])
@pytest.mark.parametrize("shared", [False, True])
def test_pieces_make_the_whole_bit_for_bit(tmp_path, clock, seconds, shared):
    whole = new_solver(shared=shared)
    fit(whole)
    solver, fits = in_pieces(tmp_path / "c", clock, seconds, shared=shared)
    assert outcome(solver) == outcome(whole)
    assert solver.history["step"][-1] == 4 * EPOCHS
    assert fits == math.ceil(4 * EPOCHS / math.ceil(seconds)) or seconds == 23


@pytest.mark.parametrize("kind", ["MT19937", "Philox", "SFC64", "PCG64DXSM"])
def test_every_bit_generator_finds_its_place_in_the_epoch(tmp_path, clock, kind):
    options = {"bit_generator": getattr(np.random, kind)}
    whole = new_solver(**options)
    fit(whole)
    assert outcome(in_pieces(tmp_path / "c", clock, 3, **options)[0]) == outcome(whole)


def test_a_limit_within_an_epoch(tmp_path, clock):
    solver = new_solver()
    clock(solver)
    history = fit(solver, tmp_path / "c", time_limit=6)
    assert solver.ended_by == "time_limit"
    assert history["epoch"] == [1]
    assert solver.run.step == 6
    assert read_tensors(tmp_path / "c", "checkpoint")[1]["broken_off"]["n_correct"] >= 0
    best = {path: array.copy() for path, array in solver.run.best_weights.items()}
    assert all(np.array_equal(array, best[path]) for path, array in solver.model.state_dict().items())


def test_a_limit_that_is_never_reached_changes_nothing(tmp_path):
    limited, free = new_solver(), new_solver()
    fit(limited, tmp_path / "c", time_limit=3600)
    fit(free)
    assert outcome(limited) == outcome(free)
    assert limited.ended_by == "steps"


def test_real_time():
    solver = new_solver()
    began = time.perf_counter()
    solver.fit(X, Y, epochs=10**6, validation_data=VALIDATION, time_limit=0.2)
    assert 0.2 <= time.perf_counter() - began < 5
    assert solver.ended_by == "time_limit"


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, "time_limit must be above 0 seconds, got 0"),
        (-1.5, ValueError, "got -1.5"),
        (math.nan, ValueError, "got nan"),
        ("1h", TypeError, "time_limit must be a number of seconds, got '1h'"),
        (True, TypeError, "got True"),
    ],
)
def test_limits_that_are_none(value, error, message):
    with pytest.raises(error, match=message):
        new_solver().fit(X, Y, epochs=1, time_limit=value)


def test_a_very_long_limit():
    solver = new_solver()
    solver.fit(X, Y, epochs=1, time_limit=10**400)
    assert solver.ended_by == "steps"
