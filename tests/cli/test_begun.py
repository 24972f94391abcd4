"""Trainings that are broken off: what is kept of them, and that going on ends as if nothing had been."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import refusal

from pynn.cli import main
from pynn.cli.signals import endings
from pynn.io import load, load_metadata
from pynn.solver import Solver

pytest.importorskip("safetensors", reason="the io extra (safetensors) is not installed")

EPOCHS = 6


@pytest.fixture
def training(features, tmp_path):
    """The arguments of a training of six epochs, and its model file where nothing disturbs it."""
    arguments = ["train", str(features[0]), "--epochs", str(EPOCHS), "--batch-size", "16", "--lr", "0.01"]
    whole = tmp_path / "whole"
    assert main([*arguments, "--out", str(whole)]) == 0
    return [*arguments, "--out", str(tmp_path / "model")], whole.read_bytes()


@pytest.fixture
def end_in(monkeypatch):
    """Makes a training end with an exception at a step; None undoes it."""
    step = Solver._train_step

    def at(n, error=KeyboardInterrupt):
        def ending(self, *arguments, **options):
            if self.run.step == n:
                raise error
            return step(self, *arguments, **options)

        monkeypatch.setattr(Solver, "_train_step", step if n is None else ending)

    return at


def test_a_finished_training_leaves_its_model_alone(training, tmp_path):
    arguments, whole = training
    assert main(arguments) == 0
    assert (tmp_path / "model").read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features.npz", "model", "whole"]


@pytest.mark.parametrize("step", [12, 30, 71])
def test_an_interrupted_training_keeps_its_best_model_and_goes_on(training, tmp_path, capsys, end_in, step):
    arguments, whole = training
    model = tmp_path / "model"
    end_in(step)
    capsys.readouterr()
    assert main(arguments) == 130
    epochs = step // 12
    said = capsys.readouterr().err.splitlines()[-1]
    best = f"{model} has the best model so far ({epochs} of 6 epochs are done)"
    assert said == f"pynn: interrupted: {best}; the same command with --resume goes on"
    assert load(model).output_shape((2,)) == (3,)
    assert load_metadata(model)["trained_on"]["epochs"] == epochs
    end_in(None)
    assert main([*arguments, "--resume"]) == 0
    assert model.read_bytes() == whole
    assert not (tmp_path / "model.checkpoint").exists()


def test_an_interrupt_before_the_first_epoch_leaves_the_old_model(training, tmp_path, capsys, end_in):
    arguments, whole = training
    (tmp_path / "model").write_text("old")
    end_in(3)
    capsys.readouterr()
    assert main(arguments) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        f"pynn: interrupted: no model was written, {tmp_path / 'model'} is as it was; "
        "the same command with --resume goes on"
    )
    assert (tmp_path / "model").read_text() == "old"
    end_in(None)
    assert main([*arguments, "--resume"]) == 0
    assert (
        f"there is no checkpoint {tmp_path / 'model.checkpoint'}: training begins anew" in capsys.readouterr().err
    )
    assert (tmp_path / "model").read_bytes() == whole


def test_without_validation_data_the_last_whole_epoch_is_kept(tmp_path, capsys, end_in, monkeypatch):
    """Interrupted in the middle of the second epoch: the model is that of the first."""
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "d.npz",
        x_train=rng.normal(size=(40, 2)),
        y_train=np.arange(40) % 2,
        x_test=np.ones((4, 2)),
        y_test=[0, 1, 0, 1],
        x_val=np.ones((0, 2)),
        y_val=np.ones(0, int),
    )
    arguments = ["train", str(tmp_path / "d.npz"), "--epochs", "3", "--batch-size", "10", "--out"]
    weights = {}
    for step in (4, 6):  # the first is at the end of an epoch
        end_in(step)
        assert main([*arguments, str(tmp_path / str(step))]) == 130
        weights[step] = load(tmp_path / str(step)).state_dict()
    assert all(np.array_equal(weights[4][name], weights[6][name]) for name in weights[4])


def test_a_training_that_was_broken_off_is_not_begun_anew_by_accident(training, tmp_path, capsys, end_in):
    arguments, whole = training
    end_in(30)
    assert main(arguments) == 130
    kept = (tmp_path / "model.checkpoint").read_bytes()
    end_in(None)
    capsys.readouterr()
    said = refusal(capsys, *arguments)
    assert said == (
        f"{tmp_path / 'model.checkpoint'} holds a training that was broken off: --resume goes on with it, "
        "--restart begins anew"
    )
    assert (tmp_path / "model.checkpoint").read_bytes() == kept
    assert main([*arguments, "--restart"]) == 0
    assert (tmp_path / "model").read_bytes() == whole


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["--epochs", "7"], "--epochs 6, now it is 7"),
        (["--seed", "1"], "--seed 0, now it is 1"),
        (["--batch-size", "20"], "--batch-size 16, now it is 20"),
        (["--lr", "0.02"], "--lr 0.01, now it is 0.02"),
        (["--hidden", "7"], "--hidden 128, now it is 7"),
        (["--model", "mlp"], "--model not given, now it is mlp"),
        (["--grayscale"], "--grayscale not given, now it is given"),
    ],
)
def test_other_arguments_are_refused_by_name(training, tmp_path, capsys, end_in, changed, said):
    arguments, _ = training
    end_in(30)
    assert main(arguments) == 130
    end_in(None)
    capsys.readouterr()
    assert said in refusal(capsys, *arguments, *changed, "--resume")


def test_other_data_are_refused(training, features, tmp_path, capsys, end_in):
    arguments, _ = training
    end_in(30)
    assert main(arguments) == 130
    end_in(None)
    path, x, y = features
    np.savez(path, X=x + 1, y=y)
    capsys.readouterr()
    assert main([*arguments, "--resume"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"pynn: error: {tmp_path / 'model.checkpoint'} is of another run: ")
    assert said.endswith("; give the same data as before, or begin anew with --restart")
    assert "resume(" not in said
    assert len(said) < 300


@pytest.mark.parametrize("option", ["--resume", "--restart", None])
def test_a_file_that_is_no_checkpoint_is_refused_and_kept(features, tmp_path, capsys, option):
    (tmp_path / "mine").write_text("my thesis")
    arguments = ["train", features[0], "--out", tmp_path / "model", "--checkpoint", tmp_path / "mine"]
    said = refusal(capsys, *arguments, *([option] if option else []))
    assert "remove it, or give another --checkpoint" in said
    assert (tmp_path / "mine").read_text() == "my thesis"


def test_a_time_limit_ends_the_training_and_it_goes_on_later(training, tmp_path, capsys):
    arguments, whole = training
    for _ in range(100):
        assert main([*arguments, "--time-limit", "0.001s", "--resume"]) == 0
        if not (tmp_path / "model.checkpoint").exists():
            break
        assert "epochs: the same command with --resume goes on." in capsys.readouterr().out
    assert (tmp_path / "model").read_bytes() == whole


@pytest.mark.parametrize("command", [("train", "x", "--out", "m"), ("run", "q2")])
@pytest.mark.parametrize("text", ["0", "-1", "1d", "1e9", "m", "nan", "1.5.2", "9" * 40])
def test_wrong_time_limits_are_refused(capsys, command, text):
    said = refusal(capsys, *command, f"--time-limit={text}")
    assert "--time-limit: expected a time above 0 as 90, 90s, 30m or 2h" in said


def test_divergence_keeps_the_best_model_and_speaks_of_the_command_line(training, tmp_path, capsys, end_in):
    from pynn.solver import TrainingDiverged

    arguments, _ = training
    end_in(30, TrainingDiverged(30, "the loss is nan", "0.weight", 0.01, "x"))
    capsys.readouterr()
    assert main(arguments) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "training diverged at step 30: the loss is nan" in said
    assert "begin anew with --restart and a lower --lr (now 0.01)" in said
    assert f"{tmp_path / 'model'} has the best model so far (2 of 6 epochs are done)" in said
    assert "max_grad_norm" not in said


def test_a_model_that_cannot_be_written_at_last_is_put_elsewhere(training, tmp_path, capsys, monkeypatch):
    """The folder goes while the training runs."""
    arguments, whole = training
    (tmp_path / "gone").mkdir()
    arguments = [*arguments[:-1], str(tmp_path / "gone" / "model"), "--checkpoint", str(tmp_path / "kept")]
    fit = Solver.fit

    def fit_and_lose_the_folder(self, *given, **options):
        fit(self, *given, **options)
        (tmp_path / "gone").rmdir()

    monkeypatch.setattr(Solver, "fit", fit_and_lose_the_folder)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main(arguments) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"pynn: error: cannot write {tmp_path / 'gone' / 'model'}: No such file or directory")
    place = said.partition("; the model was put at ")[2]
    assert Path(place).read_bytes() == whole


def start(arguments) -> subprocess.Popen:
    code = (
        "import signal, sys\nfrom pynn.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # which a background job has ignored,
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # and what nohup starts this one
        "raise SystemExit(main(sys.argv[1:]))"
    )
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"), (signal.SIGHUP, 129, "terminated")],
)
def test_signals_end_a_training_with_what_was_done(training, tmp_path, number, code, word):
    arguments, _ = training
    arguments[arguments.index("--epochs") + 1] = "100000"
    with start(arguments) as process:
        lines = iter(process.stderr.readline, "")
        assert any(line.startswith("epoch 2/") for line in lines)
        process.send_signal(number)
        process.send_signal(number) if number == signal.SIGTERM else None  # as `timeout` does
        *_, last = lines
    assert process.returncode == code
    assert last.startswith(f"pynn: {word}: {tmp_path / 'model'} has the best model so far (")
    assert last.endswith(" of 100000 epochs are done); the same command with --resume goes on\n")
    assert load(tmp_path / "model")


def test_a_signal_that_is_sent_twice_ends_once():
    """The second comes while the first is still dealt with."""
    with endings() as ending:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    assert (ending.word, ending.code) == ("terminated", 143)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_killed_and_resumed_it_ends_in_the_same_file(training, tmp_path):
    arguments, _ = training
    arguments[arguments.index("--epochs") + 1] = "60"
    assert main([*arguments[:-1], str(tmp_path / "uninterrupted")]) == 0
    with start(arguments) as process:
        assert any(line.startswith("epoch 9/") for line in iter(process.stderr.readline, ""))
        process.kill()
    assert not (tmp_path / "model").exists()
    assert main([*arguments, "--resume"]) == 0
    assert (tmp_path / "model").read_bytes() == (tmp_path / "uninterrupted").read_bytes()


def killed_and_resumed(arguments, model, rng) -> bytes:
    """The model of a training that is killed at random moments until it comes to its end."""
    while True:
        with start([*arguments, "--resume"]) as process:
            time.sleep(rng.uniform(0.2, 1.2))
            process.kill()
            process.stderr.read()
        if process.returncode == 0:
            return model.read_bytes()
        assert process.returncode == -signal.SIGKILL


@pytest.mark.long
def test_killed_at_any_moment_and_resumed_it_ends_in_the_same_file(training, tmp_path):
    arguments, _ = training
    arguments[arguments.index("--epochs") + 1] = "60"
    assert main([*arguments[:-1], str(tmp_path / "uninterrupted")]) == 0
    resumed = killed_and_resumed(arguments, tmp_path / "model", np.random.default_rng(0))
    assert resumed == (tmp_path / "uninterrupted").read_bytes()
    assert not [name for name in os.listdir(tmp_path) if name.endswith((".tmp", ".checkpoint"))]
