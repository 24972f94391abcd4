"""Frozen models, predictors and trainers in many threads, in copies, and in other processes."""

import contextlib
import copy
import gc
import multiprocessing
import os
import pickle
import sys
import threading
import weakref
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from engine_networks import NETWORKS, EngineTestScale, batch, layer_by_layer, network

import pynn
from pynn.engine import Predictor, Trainer, pool
from pynn.engine.inference import Plan
from pynn.layers import Linear, ReLU, Sequential
from pynn.module import Module, Parameter


@pytest.fixture
def often():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(count, function):
    """[function(0), function(1), …], all begun at once, each in a thread of its own."""
    barrier = threading.Barrier(count)

    def task(number):
        barrier.wait()
        return function(number)

    with ThreadPoolExecutor(count) as executor:
        return list(executor.map(task, range(count)))


# -- threads --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", [pynn.freeze, Predictor])
def test_many_threads_get_what_one_gets(name, kind, often):
    model, shape = network(name)
    batches = [batch(n, shape, n) for n in (1, 3, 12, 40)]
    expected = [kind(model)(x).tobytes() for x in batches]
    shared = kind(model)

    def wrong(number):
        order = np.random.default_rng(number).integers(len(batches), size=12)
        return sum(shared(batches[i]).tobytes() != expected[i] for i in order)

    assert in_threads(16, wrong) == [0] * 16


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("n", [1, 5, 12, 40])
def test_plans_of_one_shape_share_nothing_that_a_call_writes(name, n):
    """Two plans, step by step side by side."""
    model, shape = network(name)
    constants = pool.Constants()
    one, other = Plan(model, (n, *shape), constants), Plan(model, (n, *shape), constants)
    one.refresh()
    x, y = batch(n, shape), batch(n, shape, 1)
    expected = [one(x, 1), one(y, 1)]
    for plan, given in ((one, x), (other, y)):
        plan.given.pack(given)
    for first, second in zip(one.steps, other.steps, strict=True):
        first(1)
        second(1)
    for plan, scores in zip((one, other), expected, strict=True):
        actual = np.empty_like(scores)
        plan.made.unpack(actual)
        np.testing.assert_array_equal(actual, scores)


def test_many_threads_refresh_and_get_what_one_gets(often):
    model, shape = network("cnn_bn")
    x = batch(12, shape)
    predictor = Predictor(model)
    expected = predictor(x).tobytes()

    def wrong(_):
        found = 0
        for _ in range(20):
            predictor.refresh()
            found += predictor(x).tobytes() != expected
        return found

    assert in_threads(8, wrong) == [0] * 8
    shelves = predictor._pool._shelves[x.shape]
    assert len(shelves) <= pool.AT_ONCE + 1  # no more than were in use at once, and the next


@pytest.mark.parametrize("name", ["cnn_bn", "odd"])
def test_many_threads_of_plain_layers(name, often):
    model, shape = network(name)
    x = batch(12, shape)
    expected = model(x).tobytes()
    assert in_threads(8, lambda _: sum(model(x).tobytes() != expected for _ in range(5))) == [0] * 8


def test_a_solver_predicts_in_many_threads(often):
    model, shape = network("mlp")
    solver = pynn.Solver(model, pynn.CrossEntropyLoss(), pynn.SGD(model.parameters(), lr=0.1), progress=False)
    x = batch(300, shape)
    expected = solver.scores(x).tobytes()
    assert in_threads(8, lambda _: sum(solver.scores(x).tobytes() != expected for _ in range(10))) == [0] * 8


class EngineTestGate(Module):
    """Tells that it is called, and waits."""

    def __init__(self):
        self.entered, self.opened = threading.Event(), threading.Event()

    def forward(self, x, *, training=False):
        self.entered.set()
        assert self.opened.wait(10)
        return x


def test_a_call_ends_with_the_parameters_that_it_began_with(monkeypatch):
    monkeypatch.setattr(pool, "AT_ONCE", 2)
    gate = EngineTestGate()
    model = Sequential(gate, Linear(5, 16), ReLU(), EngineTestScale1d(16), Linear(16, 3))
    predictor, x = Predictor(model), batch(4, (5,))
    gate.opened.set()
    before = predictor(x)
    gate.opened.clear()
    gate.entered.clear()
    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(predictor, x)
        assert gate.entered.wait(10)
        for index in (1, 4):
            model[index].weight.data *= 2
            model[index].bias.data += 1
        predictor.refresh()
        gate.opened.set()
        after = predictor(x)
        np.testing.assert_array_equal(running.result(10), before)
    np.testing.assert_allclose(after, model(x), rtol=1e-5, atol=1e-5)
    assert np.abs(after - before).max() > 0.1


class EngineTestScale1d(EngineTestScale):
    """Of vectors."""

    def __init__(self, channels):
        super().__init__(channels)
        self.weight = Parameter(self.weight.data.reshape(-1))


class EngineTestAsks(Module):
    """Asks another thread for what the predictor that it is in gives of a smaller batch, and waits for it."""

    predictor = None

    def forward(self, x, *, training=False):
        if len(x) > 1:
            with ThreadPoolExecutor(1) as executor:
                return x + executor.submit(self.predictor, x[: len(x) // 2]).result(20).mean()
        return x


def test_calls_that_wait_for_others_end(monkeypatch):
    monkeypatch.setattr(pool, "AT_ONCE", 1)
    monkeypatch.setattr(pool, "PATIENCE", 0.05)
    model = Sequential(Linear(4, 4), EngineTestAsks())
    predictor = EngineTestAsks.predictor = Predictor(model)
    x = batch(8, (4,))
    np.testing.assert_allclose(predictor(x), model(x), rtol=1e-5, atol=1e-5)


def test_a_call_that_fails_gives_its_plan_back():
    class EngineTestFails(Module):
        def forward(self, x, *, training=False):
            raise ValueError("no")

    predictor = Predictor(Sequential(Linear(4, 4), EngineTestFails()))
    for _ in range(3):
        with pytest.raises(ValueError, match="no"):
            predictor(batch(8, (4,)))
    (shelf,) = predictor._pool._shelves[8, 4]
    assert (len(shelf.idle), shelf.lent, predictor._pool._running) == (1, 0, 0)


@pytest.mark.parametrize("lowered", [True, False])
def test_two_threads_in_one_trainer(lowered, often):
    """Neither a crash nor gradients of another's batch: a step is whole, or refused."""
    model, shape = network("cnn")
    if not lowered:
        layer_by_layer(model)
    trainer, x = Trainer(model), batch(12, shape)
    batches = [x * np.float32(1 + i) for i in range(8)]
    expected = []
    for each in batches:
        trainer.backward(trainer.forward(each).copy())
        expected.append([parameter.grad.tobytes() for parameter in model.parameters()])
    whole, exclusive = [0] * 8, threading.Lock()

    def steps(number):
        for _ in range(200):
            try:
                scores = trainer.forward(batches[number])
                with exclusive:
                    trainer.backward(scores)
                    gradients = [parameter.grad.tobytes() for parameter in model.parameters()]
                    trainer.accept()
            except ValueError as error:
                if "another thread has begun a step with this model" not in str(error):
                    raise
            else:
                assert gradients == expected[number]
                whole[number] += 1

    in_threads(8, steps)
    assert sum(whole) > 0


# -- copies ---------------------------------------------------------------------------------------------------


COPIES = {"deepcopy": copy.deepcopy, "copy": copy.copy, "pickle": lambda what: pickle.loads(pickle.dumps(what))}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("name", NETWORKS)
def test_copies_of_what_was_used(name, copied):
    model, shape = network(name)
    frozen, predictor, x = pynn.freeze(model), Predictor(model), batch(12, shape)
    expected = [frozen(x), predictor(x)]
    np.testing.assert_array_equal(copied(frozen)(x), expected[0])
    twin = copied(predictor)
    np.testing.assert_array_equal(twin(x), expected[1])
    twin.model.parameters()[0].data *= 2  # its own, but for a shallow copy
    twin.refresh()
    predictor.refresh()
    assert (predictor(x).tobytes() == expected[1].tobytes()) is (copied is not copy.copy)
    assert np.abs(twin(x) - expected[1]).max() > 0


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_copies_of_a_trainer_within_a_step(copied):
    model, shape = network("cnn")
    trainer, x = Trainer(model), batch(12, shape)
    scores = trainer.forward(x).copy()
    twin = copied(trainer)
    np.testing.assert_array_equal(twin.forward(x), scores)
    twin.backward(scores)
    gradients = [parameter.grad.copy() for parameter in twin.model.parameters()]
    trainer.backward(scores)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        np.testing.assert_array_equal(parameter.grad, gradient)


def test_a_spawned_process_computes_the_same():
    model, shape = network("cnn_bn")
    frozen, x = pynn.freeze(model), batch(12, shape)
    expected = frozen(x)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        np.testing.assert_array_equal(processes.submit(frozen, x).result(), expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_while_others_compute_computes_the_same():
    model, shape = network("mlp")
    frozen, x, done = pynn.freeze(model), batch(100, shape), threading.Event()
    expected = frozen(x)

    def busy():
        while not done.is_set():
            frozen(x)

    threads = [threading.Thread(target=busy) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                os._exit(0 if (frozen(x) == expected).all() else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        done.set()
        for thread in threads:
            thread.join()


# -- memory ---------------------------------------------------------------------------------------------------


@pytest.fixture
def no_gc():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("n", [1, 5, 100])
def test_batches_are_not_kept(name, n, no_gc):
    model, shape = network(name)
    frozen, trainer = pynn.freeze(model), Trainer(model)
    for compute in (frozen, trainer.forward) if n > 1 else (frozen,):
        x = batch(n, shape)
        given = weakref.ref(x)
        compute(x)
        del x
        assert given() is None


def test_a_batch_is_not_kept_after_a_failure():
    class EngineTestFailure(Module):
        def forward(self, x, *, training=False):
            raise ValueError("no")

    predictor, x = Predictor(Sequential(Linear(4, 4), EngineTestFailure())), batch(8, (4,))
    given = weakref.ref(x)
    with contextlib.suppress(ValueError):
        predictor(x)
    del x
    gc.collect()  # the error, whose frames have x
    assert given() is None


@pytest.mark.parametrize("name", NETWORKS)
def test_plans_that_are_put_away_return_their_memory_at_once(name, no_gc, monkeypatch):
    plans = []
    own = Plan.__init__
    monkeypatch.setattr(
        Plan, "__init__", lambda self, *args: (plans.append(weakref.ref(self)), own(self, *args))[1]
    )
    model, shape = network(name)
    frozen, trainer = pynn.freeze(model), Trainer(model)
    for n in range(2, 14):
        frozen(batch(n, shape))
    assert sum(plan() is not None for plan in plans) == pool.SHAPES
    trained = []
    for n in range(2, 14):
        trainer.forward(batch(n, shape))
        trained.append(weakref.ref(trainer._plan))
    assert sum(plan() is not None for plan in trained) == 4


def test_idle_plans_are_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(pool, "BYTES", 2**19)
    model, shape = network("cnn_bn")
    frozen = pynn.freeze(model)
    for n in (100, 101, 1, 2):
        frozen(batch(n, shape))
    assert frozen._pool.nbytes <= 2**19
    assert list(frozen._pool._shelves) == [(1, *shape), (2, *shape)]
    frozen(batch(100, shape))
    assert list(frozen._pool._shelves) == [(100, *shape)]  # the present one is kept in any case


def test_plans_of_one_shape_share_their_constants(often):
    model = Sequential(Linear(300, 400), ReLU(), Linear(400, 10))
    frozen, x = pynn.freeze(model), batch(12, (300,))
    in_threads(8, lambda _: [frozen(x) for _ in range(20)])
    (shelf,) = frozen._pool._shelves[x.shape]
    weights = 4 * (300 * 400 + 400 * 16)
    assert weights <= shelf.constants.nbytes < 1.2 * weights
