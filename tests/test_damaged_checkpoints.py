"""A damaged checkpoint is refused when it is read, and changes nothing; one that is taken can be trained on."""

import copy
import json
import struct
from contextlib import suppress

import numpy as np
import pytest
from resumable import fit, interrupted, new_solver, outcome

from pynn.io import ModelFileError, read_tensors, write_tensors
from pynn.solver import TrainingDiverged

pytest.importorskip("safetensors")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(path, tensors, header) of a checkpoint after two epochs of six."""
    path = tmp_path_factory.mktemp("whole") / "c"
    interrupted(path, 2)
    tensors, header = read_tensors(path, "checkpoint")
    return path, tensors, {k: v for k, v in header.items() if k not in {"format", "kind"}}


def taken(path, **options):
    """Whether the checkpoint is taken; a refusal leaves the solver as it was."""
    solver = new_solver(seed=99, **options)
    before, run = outcome(solver), solver.run
    try:
        solver.resume(path)
        return solver
    except ModelFileError as error:
        message = str(error).replace(str(path), "c")
    assert outcome(solver) == before
    assert solver.run is run
    assert message.isprintable()
    assert len(message) < 300
    return None


def test_the_undamaged_one_is_taken(whole, tmp_path):
    _, tensors, header = whole
    write_tensors(tmp_path / "c", "checkpoint", tensors, header)
    solver, uninterrupted = taken(tmp_path / "c"), new_solver()
    fit(solver)
    fit(uninterrupted)
    assert outcome(solver) == outcome(uninterrupted)


def test_every_flipped_bit_of_the_arrays_is_told(whole, tmp_path):
    path, rng = whole[0], np.random.default_rng(0)
    data = bytearray(path.read_bytes())
    begin = 8 + struct.unpack("<Q", data[:8])[0]
    for position in rng.integers(8 * begin, 8 * len(data), 200):
        data[position // 8] ^= 1 << position % 8
        (tmp_path / "c").write_bytes(data)
        with pytest.raises(ModelFileError, match="c is damaged or not a checkpoint of pynn: its checksum is not"):
            new_solver().resume(tmp_path / "c")
        data[position // 8] ^= 1 << position % 8


def places(value, path=()):
    """The path of every value within a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


STRANGE = [
    None, True, False, 0, 1, -1, 2, 3, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, 2**128, -(2**63), 10**400,
    0.5, -0.0, 1e308, -1e308, 1e-320, 1.0, "", "x", "PCG64", [], [0], [[]], {}, {"a": 1}, [None] * 8, [1.0, 2.0],
]  # fmt: skip


def mutated(header, rng):
    """The header with one to three places replaced, left out, doubled or exchanged."""
    header = copy.deepcopy(header)
    for _ in range(rng.integers(1, 4)):
        ways = [path for path in places(header) if path and path[0] != "conditions"]
        path = ways[rng.integers(len(ways))]
        parent = header
        for key in path[:-1]:
            parent = parent[key]
        action = rng.integers(5)
        if action < 3:
            parent[path[-1]] = copy.deepcopy(STRANGE[rng.integers(len(STRANGE))])
        elif action == 3:
            del parent[path[-1]]
        elif isinstance(parent, list):
            parent.insert(int(rng.integers(len(parent) + 1)), copy.deepcopy(parent[path[-1]]))
    return header


@pytest.mark.parametrize("cases", [400, pytest.param(5_000, marks=pytest.mark.long)])
def test_mutated_headers_are_refused_or_can_be_trained_on(whole, tmp_path, cases):
    _, tensors, header = whole
    rng = np.random.default_rng(cases)
    refused = 0
    for _ in range(cases):
        write_tensors(tmp_path / "c", "checkpoint", tensors, mutated(header, rng))
        solver = taken(tmp_path / "c")
        if solver is None:
            refused += 1
            continue
        with suppress(TrainingDiverged, ModelFileError):  # any other error fails the test
            fit(solver)
    assert refused > cases / 2


def changed(header, *path, to):
    header = copy.deepcopy(header)
    parent = header
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = to(parent[path[-1]]) if callable(to) else to
    return header


@pytest.mark.parametrize(
    ("path", "to", "message"),
    [
        (("step",), -1, "its step is -1"),
        (("step",), 7, "its step 7 is not that of its last epoch"),
        (("step",), True, "its step is True"),
        (("best_epoch",), 3, "its best_epoch is 3"),
        (("best_epoch",), 0, "its best epoch is 0, which its history contradicts"),
        (("history", "loss"), lambda values: values[:1], "different lengths"),
        (("history", "loss", 0), None, "its loss is None, expected a finite number"),
        (("history", "loss", 0), "1", "its loss is '1'"),
        (("history", "accuracy", 1), 1.5, "its accuracy is 1.5, expected 0 to 1"),
        (("history", "epoch"), [1, 3], "do not count from 1"),
        (("history", "step"), [8, 8], "do not grow"),
        (("history", "lr", 0), -0.1, "its lr is -0.1"),
        (("history",), [], "other columns"),
        (("watched_from",), 9, "its watched_from is 9"),
        (("told",), 1, "neither true nor false"),
        (("broken_off",), {}, "incomplete"),
        (("settings", "lr"), [0.1, 0.2], "its setting lr is"),
        (("settings", "lr"), [-0.1], "its setting lr is"),
        (("settings", "optimizer", "betas"), [0.9], "its setting optimizer is"),
        (("settings", "max_grad_norm"), 0, "its max_grad_norm is 0"),
        (("settings",), {}, "its settings are others"),
        (("callbacks",), {}, "no list of their states"),
        (("callbacks",), [{"type": "ReduceOnPlateau", "state": {}}], "the state of callbacks ReduceOnPlateau"),
        (("conditions",), 3, "its conditions are 3"),
        (("generators",), [], "no states of random generators"),
        (
            ("generators", "solver", "state", "inc"),
            2**128,
            "generator solver is not one of a PCG64: inc is out of",
        ),
        (("generators", "solver", "has_uint32"), 2, "has_uint32 is out of its range"),
        (("generators", "5.rng"), {}, "generator 5.rng is not one of a PCG64: state has other entries"),
    ],
)
def test_what_no_training_writes(whole, tmp_path, path, to, message):
    _, tensors, header = whole
    write_tensors(tmp_path / "c", "checkpoint", tensors, changed(header, *path, to=to))
    solver = new_solver()
    before = outcome(solver)
    with pytest.raises(ModelFileError, match=f"c does not fit this solver: .*{message}"):
        solver.resume(tmp_path / "c")
    assert outcome(solver) == before


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (
            "model/0.weight",
            lambda a: a[:1],
            r"model expected 0.weight of shape \(4, 1, 3, 3\), got \(1, 1, 3, 3\)",
        ),
        ("model/0.weight", lambda a: a.astype(np.float64), "expected 0.weight of dtype float32, got float64"),
        ("model/0.weight", lambda a: a * np.nan, "0.weight has NaN or infinite values"),
        ("model/0.weight", lambda a: None, "model the state lacks 0.weight"),
        ("best/0.weight", lambda a: a[:1], "best weights expected 0.weight of shape"),
        ("best/0.weight", lambda a: None, "best weights the state lacks 0.weight"),
        ("best/6.bias", lambda a: a + np.inf, "6.bias has NaN or infinite values"),
        ("optimizer/0.m", lambda a: a[:1], "expected 0.m of shape"),
        ("optimizer/step", lambda a: a - 99, "optimizer's step is -91"),
        ("optimizer/step", lambda a: a.astype(np.float32), "expected step of dtype int64, got float32"),
        ("other/0.weight", lambda a: np.zeros(1), "an array 'other/0.weight' that belongs to no part"),
    ],
)
def test_arrays_that_do_not_fit(whole, tmp_path, name, array, message):
    _, tensors, header = whole
    with np.errstate(invalid="ignore"):
        wrong = tensors | {name: array(tensors.get(name))}
    write_tensors(tmp_path / "c", "checkpoint", {k: v for k, v in wrong.items() if v is not None}, header)
    solver = new_solver()
    before = outcome(solver)
    with pytest.raises(ModelFileError, match=message):
        solver.resume(tmp_path / "c")
    assert outcome(solver) == before


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("MT19937", ("state", "pos"), 2**31 - 1),
        ("MT19937", ("state", "pos"), 625),
        ("MT19937", ("state", "pos"), -1),
        ("MT19937", ("state", "key"), [0] * 623),
        ("MT19937", ("state", "key", 5), 2**32),
        ("MT19937", ("state", "key", 5), 1.0),
        ("Philox", ("buffer_pos",), 5),
        ("Philox", ("buffer_pos",), -1),
        ("Philox", ("buffer",), [0] * 5),
        ("Philox", ("state", "counter", 3), 2**64),
        ("Philox", ("state", "key"), [0]),
        ("SFC64", ("state", "state"), [1, 2, 3]),
        ("SFC64", ("uinteger",), 2**32),
        ("PCG64", ("bit_generator",), "PCG64DXSM"),
        ("PCG64DXSM", ("state", "state"), -1),
        ("PCG64DXSM", ("state",), None),
    ],
)
def test_generator_states_out_of_range(tmp_path, kind, path, value):
    options = {"bit_generator": getattr(np.random, kind)}
    fit(new_solver(**options), tmp_path / "c", epochs=1)
    tensors, header = read_tensors(tmp_path / "c", "checkpoint")
    header = changed(header, "generators", "solver", *path, to=value)
    write_tensors(tmp_path / "c", "checkpoint", tensors, header)
    solver = new_solver(**options)
    before = outcome(solver)
    with pytest.raises(ModelFileError, match=f"the state of generator solver is not one of a {kind}"):
        solver.resume(tmp_path / "c")
    assert outcome(solver) == before


def test_files_from_before_there_were_conditions_and_checksums(whole, tmp_path):
    import safetensors.numpy

    _, tensors, header = whole
    old = {name: header[name] for name in ("step", "history", "best_epoch", "generators")}
    text = json.dumps({"format": 1, "kind": "checkpoint", **old})
    (tmp_path / "c").write_bytes(safetensors.numpy.save(tensors, metadata={"pynn": text}))
    resumed, uninterrupted = new_solver(seed=99), new_solver()
    resumed.resume(tmp_path / "c")
    fit(resumed)
    fit(uninterrupted)
    assert outcome(resumed) == outcome(uninterrupted)


def test_a_state_that_cannot_be_kept_is_refused_before_training(tmp_path):
    class Own(np.random.PCG64):
        pass

    solver = new_solver(bit_generator=Own)
    with pytest.raises(ValueError, match="the state of a Own cannot be kept: use one of NumPy's, PCG64"):
        fit(solver, tmp_path / "c")
    assert solver.run.step == 0
    assert list(tmp_path.iterdir()) == []
