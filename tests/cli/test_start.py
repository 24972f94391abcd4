"""The command line itself: its arguments, what was probably meant, its exit codes."""

import subprocess
import sys

import pytest
from command_line import python, refusal

import cnn_ext

pytest.importorskip("matplotlib", reason="the report extra (matplotlib) is not installed")
pytest.importorskip("safetensors", reason="the io extra (safetensors) is not installed")


def test_module_and_script_are_one_command():
    version, described = python("-m", "pynn", "--version"), python("-m", "pynn", "info")
    assert version.stdout.startswith("pynn ")
    assert described.stdout.startswith(version.stdout.split()[0])
    assert (version.returncode, described.returncode) == (0, 0)
    told = dict(line.split(maxsplit=1) for line in described.stdout.splitlines())
    assert told["isa"] == cnn_ext.isa
    assert int(told["threads"]) == cnn_ext.get_num_threads()
    assert told["openmp"] == str(cnn_ext.openmp_enabled())
    assert "numpy" in told


def test_help_imports_nothing_heavy():
    code = "import sys\nfrom pynn.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    heavy = "{'matplotlib', 'PIL', 'safetensors', 'tqdm', 'pynn.experiments', 'pynn.report'}"
    found = python("-c", f"{code}print('HEAVY', sorted({heavy} & set(sys.modules)))")
    assert "usage: pynn" in found.stdout
    assert "HEAVY []" in found.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_training_keeps_the_memory_that_it_frees():
    """Blocks of the size of activations, taken and freed as a step does: without it each round faults anew."""
    code = """
import resource, sys
import numpy as np
from pynn.cli.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def step():
    blocks = [np.ones(2**20) for _ in range(4)]
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {
        how: int(subprocess.run([sys.executable, "-c", code, how], capture_output=True, check=True).stdout)
        for how in ("kept", "given back")
    }
    if faults["given back"] < 1000:
        pytest.skip("this allocator keeps freed memory anyway")
    assert faults["kept"] < faults["given back"] / 10


def test_no_traceback_and_exit_code_2_from_the_shell():
    refused = python("-m", "pynn", "run", "q99")
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith("pynn: error: unknown question 'q99'")
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["rnu"], "unknown command 'rnu': did you mean pynn run? The commands are run, report, train,"),
        (["run"], "QUESTION"),
        (["run", "q2", "--sed", "1"], "unrecognized arguments: --sed: did you mean --seed?"),
        (["run", "q2", "--seed", "-1"], "--seed: expected a whole number from 0, got '-1'"),
        (["run", "q2", "--seed", "1.5"], "--seed: expected a whole number from 0, got '1.5'"),
        (["run", "q2", "--threads", "0"], "--threads: expected a whole number from 1, got '0'"),
        (["run", "q2", "--threads", "100000"], "--threads 100000: set_num_threads: expected 1 to"),
        (["train", "x.npz"], "--out"),
        (["train", "x.npz", "--out", "m", "--lr", "nan"], "--lr: expected a number above 0, got 'nan'"),
        (["train", "x.npz", "--out", "m", "--lr", "0"], "--lr: expected a number above 0, got '0'"),
        (["train", "x.npz", "--out", "m", "--epochs", "²"], "--epochs: expected a whole number from 1, got '²'"),
        (["train", "x.npz", "--out", "m", "--model", "rnn"], "invalid choice: 'rnn'"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_told_in_one_sentence(capsys, arguments, said):
    assert said in refusal(capsys, *arguments)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("trian", "pynn train"),
        ("--train", "pynn train"),
        ("-train", "pynn train"),
        ("TRAIN", "pynn train"),
        ("fit", "pynn train"),
        ("predcit", "pynn predict"),
        ("evaluate", "pynn predict"),
        ("q3", "pynn run q3"),
        ("help", "pynn --help"),
        ("-v", "pynn --version"),
        ("train x --outt m", "--out"),
        ("train x -o m", "--out"),
        ("train x --output=m", "--out"),
        ("train x --out m --epoch 3", "--epochs"),
        ("train x --out m --batch_size 3", "--batch-size"),
        ("train x --out m --learning-rate 3", "--lr"),
        ("train x --out m -lr 3", "--lr"),
        ("train x --out m --greyscale", "--grayscale"),
        ("predict m x -j 2", "--threads"),
        ("run q2 --fast", "--quick"),
        ("info --helpp", "--help"),
    ],
)
def test_what_was_meant_is_suggested(capsys, typed, meant):
    assert f"did you mean {meant}? " in refusal(capsys, *typed.split())


def test_what_is_near_to_nothing_gets_no_suggestion(capsys):
    assert "did you mean" not in refusal(capsys, "xyzzy")
    assert "did you mean" not in refusal(capsys, "info", "--xyzzy")


@pytest.mark.parametrize("value", ["-1", "-.5", "-x y"])
def test_a_value_with_a_dash_is_no_option(capsys, value):
    """Negative numbers are values that are refused as such; with a space in it, nothing is an option."""
    said = refusal(capsys, "train", "x", "--out", "m", "--lr", value)
    assert said.startswith("argument --lr: expected a number above 0, got")


def test_what_follows_two_dashes_is_a_file(capsys):
    assert refusal(capsys, "predict", "--", "-o", "x").startswith("there is no file -o")


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_names_that_no_file_can_have_are_refused(capsys, name):
    assert "expected the name of a file or folder" in refusal(capsys, "train", name, "--out", "m")
