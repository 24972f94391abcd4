"""Processes in surroundings that are wrong or broken: told in a sentence, without a traceback."""

import os
import subprocess
import sys


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, env=os.environ | environment
    )


def test_an_instruction_set_that_is_not_there_is_told_where_a_name_is_used():
    """The import itself stands, so that the command line can say it too."""
    assert python("-c", "import pynn, pynn.cli; pynn.__version__", PYNN_ISA="sse9").returncode == 0
    for code in ("import pynn; pynn.Solver", "from pynn import Solver", "from pynn import *"):
        failed = python("-c", code, PYNN_ISA="sse9")
        assert failed.returncode == 1
        assert "ImportError: PYNN_ISA is 'sse9', but this processor runs " in failed.stderr
