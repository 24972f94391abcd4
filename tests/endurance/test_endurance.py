"""The endurance scripts themselves, a few cases of each: they pass, and they would notice."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent


def script(name, *arguments, **environment):
    """(exit code, what it prints)."""
    result = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | environment,
    )
    return result.returncode, result.stdout + result.stderr


def broken(name, line, instead, tmp_path, *arguments):
    """The same of a copy in which a line of a script or of the library is another."""
    root = FOLDER.parent.parent
    shutil.copytree(root / "pynn", tmp_path / "pynn")
    shutil.copytree(FOLDER, tmp_path / "endurance")
    path = tmp_path / name
    text = path.read_text(encoding="utf-8")
    assert line in text
    path.write_text(text.replace(line, instead), encoding="utf-8")
    result = subprocess.run(
        [sys.executable, *[str(tmp_path / "endurance" / f"{arguments[0]}.py"), *arguments[1:]]],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)])},
    )
    return result.returncode, result.stdout + result.stderr


@pytest.mark.long
@pytest.mark.parametrize("kind", ["fit", "train", "run"])
def test_killed_and_resumed(kind):
    code, said = script("kills", "--kind", kind, "--cases", "3")
    assert code == 0, said
    assert re.search(rf"{kind}: .*\d kills", said)


@pytest.mark.long
def test_a_run_that_forgets_its_generator_is_noticed(tmp_path):
    line = "        set_generator_state(generator, states[name])"
    code, said = broken(
        "pynn/checkpoint.py", line, "        pass", tmp_path, "kills", "--kind", "fit", "--cases", "4"
    )
    assert code == 1, said
    assert "other weights, history or results" in said


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux") or not shutil.which("gcc"), reason="needs Linux and gcc")
def test_every_failing_call_of_a_write():
    code, said = script("faults")
    assert code == 0, said
    assert "calls of fsync" in said


@pytest.mark.long
@pytest.mark.parametrize("kind", ["model", "checkpoint", "npz", "idx", "gz", "cifar", "tar", "image", "results"])
def test_damaged_files(kind):
    code, said = script("damage", "--kind", kind, "--cases", "1", "--seed", "7")
    assert code == 0, said
    assert "1,000 files" in said


@pytest.mark.long
def test_threads_and_copies():
    code, said = script("threads", "--minutes", "0.03")
    assert code == 0, said
    assert said.count("right answers") == 4
    assert "5 copies" in said


@pytest.mark.long
def test_training_leaves_memory_alone():
    """Too short to judge: that it runs, and counts what is there."""
    code, said = script("soak", "--minutes", "0.5")
    assert code in {0, 1}, said
    assert re.search(r"farthest from the first: \d+\.\d\d%", said)
