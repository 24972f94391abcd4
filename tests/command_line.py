"""What the tests of the command line share."""

import csv
import io
import subprocess
import sys

from pynn.cli import main


def python(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, **options)


def refusal(capsys, *arguments) -> str:
    """The sentence on stderr with which `arguments` are refused."""
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pynn: error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err.removeprefix("pynn: error: ").strip()


def refusal_after_progress(capsys, *arguments) -> str:
    """As `refusal`, for commands that may have shown progress before."""
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert all(line.startswith(("epoch ", "pynn: training ")) for line in lines[:-1])
    assert lines[-1].startswith("pynn: error: ")
    return lines[-1]


def predictions(text: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(text)))
