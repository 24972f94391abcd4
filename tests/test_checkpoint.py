"""A training that was stopped anywhere continues from its checkpoint and ends as if it had not been stopped."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from resumable import EPOCHS, OPTIMIZERS, fit, interrupt_after, interrupted, new_solver, outcome

from pynn.files import WriteError
from pynn.io import ModelFileError, load
from pynn.layers import Flatten, Linear, Sequential
from pynn.losses import CrossEntropyLoss
from pynn.optim import AdamW
from pynn.solver import Solver

pytest.importorskip("safetensors")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("epoch", [1, 4, EPOCHS])
def test_resumed_is_uninterrupted_bit_for_bit(tmp_path, optimizer, epoch):
    whole = new_solver(optimizer)
    fit(whole)
    interrupted(tmp_path / "c", epoch, optimizer=optimizer)
    resumed = new_solver(optimizer, seed=99)  # nothing may depend on how the new solver began
    resumed.resume(tmp_path / "c")
    assert resumed.history["epoch"] == list(range(1, epoch + 1))
    fit(resumed, tmp_path / "c")
    assert outcome(resumed) == outcome(whole)


@pytest.mark.parametrize("name", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_every_bit_generator(tmp_path, name):
    options = {"bit_generator": getattr(np.random, name)}
    whole = new_solver(**options)
    fit(whole)
    interrupted(tmp_path / "c", 2, **options)
    resumed = new_solver(seed=99, **options)
    resumed.resume(tmp_path / "c")
    fit(resumed)
    assert outcome(resumed) == outcome(whole)


def test_a_generator_that_solver_and_layers_share(tmp_path):
    whole = new_solver(shared=True)
    fit(whole)
    interrupted(tmp_path / "c", 2, shared=True)
    resumed = new_solver(seed=99, shared=True)
    resumed.resume(tmp_path / "c")
    fit(resumed)
    assert outcome(resumed) == outcome(whole)


@pytest.mark.parametrize("patience", [1, 2])
def test_early_stopping_counts_across_the_interruption(tmp_path, patience):
    options = {"epochs": 30, "patience": patience}
    whole = new_solver("SGD")
    fit(whole, **options)
    stopped_at = whole.history["epoch"][-1]
    assert patience < stopped_at < 30
    for epoch in range(1, stopped_at + 1):
        with pytest.raises(KeyboardInterrupt):
            fit(new_solver("SGD", callbacks=[interrupt_after(epoch)]), tmp_path / "c", **options)
        resumed = new_solver("SGD", seed=99)
        resumed.resume(tmp_path / "c")
        fit(resumed, **options)
        assert outcome(resumed) == outcome(whole), epoch


def test_resuming_a_finished_run_gives_its_result(tmp_path):
    whole = new_solver()
    fit(whole, tmp_path / "c")
    resumed = new_solver(seed=99)
    resumed.resume(tmp_path / "c")
    fit(resumed)
    assert outcome(resumed) == outcome(whole)
    fit(resumed)  # the next one is a new run
    assert resumed.optimizer.steps == 2 * whole.optimizer.steps


def test_a_checkpoint_changes_nothing(tmp_path):
    with_checkpoint, without = new_solver(), new_solver()
    fit(with_checkpoint, tmp_path / "c")
    fit(without)
    assert outcome(with_checkpoint) == outcome(without)
    assert os.listdir(tmp_path) == ["c"]


KILLED = """
    import os, signal, sys
    sys.path.insert(0, sys.argv[1])
    import resumable as t
    solver, calls = t.new_solver(), []

    def killing(x, rng):
        calls.append(None)
        if len(calls) == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        return t.flip(x, rng)

    solver.augment = killing
    t.fit(solver, sys.argv[2])
"""


def test_kill_9_at_a_random_step(tmp_path):
    steps_an_epoch = 4
    step = int(np.random.default_rng().integers(steps_an_epoch + 1, EPOCHS * steps_an_epoch + 1))
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), os.path.dirname(__file__), tmp_path / "c", str(step)]
    )
    assert killed.returncode == -9
    whole, resumed = new_solver(), new_solver(seed=99)
    fit(whole)
    resumed.resume(tmp_path / "c")
    assert resumed.run.step == (step - 1) // steps_an_epoch * steps_an_epoch
    fit(resumed, tmp_path / "c")
    assert outcome(resumed) == outcome(whole), f"killed at step {step}"


# -- refusals -------------------------------------------------------------------------------------------------


def test_an_unwritable_checkpoint_is_refused_before_training(tmp_path):
    solver = new_solver()
    before = outcome(solver)
    with pytest.raises(WriteError, match=r"cannot write .*missing.c: No such file or directory"):
        fit(solver, tmp_path / "missing" / "c")
    assert outcome(solver) == before


def test_a_failing_write_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    solver = new_solver()

    def full(_):
        raise OSError(28, "No space left on device")

    def fill_the_disk(solver, logs):
        if logs["epoch"] == 2:
            monkeypatch.setattr(os, "fsync", full)

    solver.callbacks = (fill_the_disk,)
    with pytest.raises(WriteError, match="No space left on device"):
        fit(solver, tmp_path / "c")
    resumed = new_solver()
    resumed.resume(tmp_path / "c")
    assert resumed.history["epoch"] == [1, 2]
    assert os.listdir(tmp_path) == ["c"]


def another_model():
    model = Sequential(Flatten(), Linear(30, 3))
    return Solver(model, CrossEntropyLoss(), AdamW(model.parameters()), progress=False)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: new_solver("SGD"), "does not fit this solver: .SGD. the state lacks"),
        (lambda: new_solver(bit_generator=np.random.Philox), "does not fit this solver"),
        (another_model, "does not fit this solver: its random generators are solver, 5.rng, the solver's solver$"),
    ],
)
def test_a_checkpoint_of_another_solver_changes_nothing(tmp_path, other, message):
    fit(new_solver(), tmp_path / "c", epochs=1)
    solver = other()
    before = outcome(solver)
    with pytest.raises(ModelFileError, match=message):
        solver.resume(tmp_path / "c")
    assert outcome(solver) == before


def test_models_and_checkpoints_are_not_mistaken_for_each_other(tmp_path):
    solver = new_solver()
    fit(solver, tmp_path / "c", epochs=1)
    with pytest.raises(ModelFileError, match="is a checkpoint, expected a model"):
        load(tmp_path / "c")


def test_a_truncated_checkpoint_changes_nothing(tmp_path):
    solver = new_solver()
    fit(solver, tmp_path / "c", epochs=1)
    before = outcome(solver)
    whole = (tmp_path / "c").read_bytes()
    for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "c").write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match="is damaged or not a checkpoint of pynn"):
            solver.resume(tmp_path / "c")
    assert outcome(solver) == before


def test_a_checkpoint_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a checkpoint written by pynn"):
        new_solver().resume(tmp_path / "none")
