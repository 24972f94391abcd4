"""The example scripts run, offline, print what they show, and stay short."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).resolve().parent.parent / "examples").glob("*.py"))


def test_there_is_one_script_a_question_and_the_quickstart():
    assert [path.stem for path in SCRIPTS] == [
        "q2_logistic",
        "q3_svm",
        "q4_softmax",
        "q5_cnn",
        "q6_vgg",
        "q7_divergence",
        "q7_dropout",
        "q7_sigmoid",
        "quickstart",
    ]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_example(path, tmp_path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60
    environment = os.environ | {
        "PYNN_OFFLINE": "1",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONWARNINGS": "error",
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait sleep: tests may share the processors with others
    }
    run = subprocess.run(
        [sys.executable, path], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.splitlines()) >= 2
    assert list(tmp_path.iterdir()) == []
