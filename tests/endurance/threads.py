"""Many Python threads predict with one frozen model, and copies of everything do as the original.

    python tests/endurance/threads.py --minutes 10

Kinds `mlp` and `cnn`: 32 threads share one `freeze(model)` and ask it for batches of 12, 100, 400, 1 and 37
samples; each answer must have the bits that one thread alone got before. Kinds `predictor` and `solver` do the
same with `pynn.engine.Predictor` and `Solver.scores`. Kind `copies`: model, optimizer, solver and frozen model,
used before, go through deepcopy, pickle, a forked and a spawned process, and must predict and train there as the
original does.

`--minutes` is for each kind that has threads; `--cases` counts copies.
"""

from __future__ import annotations

import copy
import pickle
import sys
import threading
import time
from collections import Counter
from multiprocessing import get_context

import numpy as np
from harness import Outcome, arguments, run

import pynn
from pynn.engine import Predictor

THREADS = 32
BATCHES = (12, 100, 400, 1, 37)


def mlp(rng):
    return pynn.models.mlp(60, 50, 10, rng=rng), (60,)


def cnn(rng):
    return pynn.models.cnn_bn((3, 12, 12), kernel_size=3, filters=12, hidden=24, rng=rng), (3, 12, 12)


# -- threads ------------------------------------------------------------------------------------------------


def shared(kind: str, rng: np.random.Generator):
    """(function of a batch that all threads call, shape of a sample)."""
    model, shape = (mlp if kind == "mlp" else cnn)(rng)
    if kind == "predictor":
        return Predictor(model), shape
    if kind == "solver":
        solver = pynn.Solver(model, pynn.CrossEntropyLoss(), pynn.SGD(model.parameters(), lr=0.1), rng=rng)
        return solver.scores, shape
    return pynn.freeze(model), shape


def threads(kind: str, seed: int, seconds: float) -> Outcome:
    rng = np.random.default_rng(seed)
    alone, shape = shared(kind, np.random.default_rng(seed))
    together, _ = shared(kind, np.random.default_rng(seed))  # no thread has called it before
    questions = [rng.standard_normal((n, *shape)).astype(np.float32) for n in BATCHES for _ in range(3)]
    answers = [alone(x) for x in questions]
    outcome, start = Outcome(), threading.Barrier(THREADS)
    ends = time.monotonic() + seconds

    def serve(number: int) -> None:
        mine, right, wrong = np.random.default_rng((seed, number)), 0, set()
        start.wait()
        while time.monotonic() < ends:
            i = int(mine.integers(len(questions)))
            try:
                if np.array_equal(together(questions[i]), answers[i]):
                    right += 1
                else:
                    wrong.add(f"wrong scores for a batch of {len(questions[i])}")
            except Exception as error:
                wrong.add(f"{type(error).__name__}: {error}")
        with lock:
            outcome.counts["right answers"] += right
            outcome.failures += wrong

    lock = threading.Lock()
    workers = [threading.Thread(target=serve, args=(i,)) for i in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return outcome


# -- copies -------------------------------------------------------------------------------------------------


def trained(seed: int) -> tuple[pynn.Solver, pynn.Frozen, np.ndarray, np.ndarray]:
    """A solver that trained and predicted, its frozen model, and data."""
    rng = np.random.default_rng(seed)
    model, shape = (mlp, cnn)[seed % 2](rng)
    optimizer = (pynn.Adam, pynn.SGD, pynn.RMSProp)[seed % 3](model.parameters(), lr=0.01)
    solver = pynn.Solver(
        model, pynn.CrossEntropyLoss(), optimizer, batch_size=20, rng=np.random.default_rng(seed), progress=False
    )
    x, y = rng.standard_normal((64, *shape)).astype(np.float32), rng.integers(0, 10, 64)
    solver.fit(x, y, epochs=1)
    solver.predict(x)
    frozen = pynn.freeze(model)
    frozen(x)
    return solver, frozen, x, y


def future(solver, frozen, x, y) -> list[bytes]:
    """What comes of them from here on: scores, an epoch, a step, scores."""
    before = [frozen(x).tobytes(), solver.scores(x).tobytes()]
    losses = solver.fit(x, y, epochs=2)["loss"]
    model, optimizer = solver.model, solver.optimizer
    scores = model.forward(x, training=True)
    optimizer.zero_grad()
    model.backward(solver.loss(scores, y)[1])
    optimizer.step()
    after = [solver.scores(x).tobytes(), frozen(x).tobytes(), *(p.data.tobytes() for p in model.parameters())]
    return [*before, repr(losses).encode(), *after]


def by_pickle(things) -> list[bytes]:
    return future(*pickle.loads(pickle.dumps(things)))


def by_deepcopy(things) -> list[bytes]:
    return future(*copy.deepcopy(things))


def by_pair(things) -> list[bytes]:
    """Model and optimizer alone are copied together, and a new solver gets them."""
    solver, frozen, x, y = things
    model, optimizer = pickle.loads(pickle.dumps((solver.model, solver.optimizer)))
    rng = copy.deepcopy(solver.rng)
    twin = pynn.Solver(model, solver.loss, optimizer, batch_size=20, rng=rng, progress=False)
    return future(twin, copy.deepcopy(frozen), x, y)


def in_process(method: str, things) -> list[bytes]:
    context = get_context(method)
    results = context.SimpleQueue()
    process = context.Process(target=_put_future, args=(results, things))
    process.start()
    answer = results.get()
    process.join()
    return answer


def _put_future(results, things) -> None:
    try:
        results.put(future(*things))
    except Exception as error:
        results.put([f"{type(error).__name__}: {error}".encode()])


def copies(seed: int) -> Outcome:
    things, outcome = trained(seed), Outcome()
    ways = {
        "deepcopy": by_deepcopy,
        "pickle": by_pickle,
        "model and optimizer by pickle": by_pair,
        "fork": lambda things: in_process("fork", things),
        "spawn": lambda things: in_process("spawn", things),
    }
    found = {}
    for name, way in ways.items():
        try:
            found[name] = way(things)
        except Exception as error:
            outcome.failures.append(f"{name}: {type(error).__name__}: {error}")
    expected = future(*things)  # last: the original must not have moved by its copies
    for name, answer in found.items():
        outcome.counts += Counter({"copies": 1})
        if len(answer) == 1:
            outcome.failures.append(f"{name}: {answer[0].decode()}")
        elif answer != expected:
            outcome.failures.append(f"{name}: the copy's scores or training differ from the original's")
    return outcome


def case(kind: str, seed: int) -> Outcome:
    return copies(seed) if kind == "copies" else threads(kind, seed, SECONDS)


GIVEN = arguments(__doc__, cases=1, kinds=("mlp", "cnn", "predictor", "solver", "copies"))
SECONDS = 60 * (GIVEN.minutes or 0.1)
GIVEN.minutes = None  # it is the length of a case here

if __name__ == "__main__":
    sys.exit(run(case, GIVEN))
