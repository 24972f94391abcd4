"""What a training shows never ends it."""

import io
import os
import subprocess
import sys
import textwrap

import pytest
from resumable import fit, new_solver, outcome

from pynn.progress import open_progress, say

pytestmark = pytest.mark.usefixtures("one_thread")


class Broken(io.StringIO):
    """A stream whose every use fails."""

    encoding = "ascii"

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error

    def flush(self):
        raise self.error

    def isatty(self):
        return False


class Terminal(Broken):
    def isatty(self):
        return True


ERRORS = [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left on device"), ValueError("closed file")]


@pytest.mark.parametrize("stream", [None, *map(Broken, ERRORS), *map(Terminal, ERRORS)])
def test_a_broken_stderr_does_not_end_a_training(monkeypatch, stream):
    silent, loud = new_solver(), new_solver()
    fit(silent)
    loud.progress = True
    monkeypatch.setattr(sys, "stderr", stream)
    fit(loud)
    say("a line")
    assert outcome(loud) == outcome(silent)


def test_a_closed_stderr(monkeypatch):
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    solver = new_solver()
    solver.progress = True
    assert len(fit(solver)["epoch"]) == 6


def test_a_bar_that_breaks_falls_silent(monkeypatch):
    tqdm = pytest.importorskip("tqdm")
    calls = []

    class Bar:
        def __init__(self, **options):
            calls.append("made")

        def update(self):
            calls.append("update")
            raise RuntimeError("no bar today")

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with open_progress(True, total_steps=3, epochs=1) as progress:
        for _ in range(3):
            progress.step()
    assert calls == ["made", "update"]


def test_an_interrupt_is_no_failure_of_the_display(monkeypatch):
    class Interrupting(Broken):
        def write(self, text):
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stderr", Interrupting(None))
    solver = new_solver()
    solver.progress = True
    with pytest.raises(KeyboardInterrupt):
        fit(solver)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "2>&1 >/dev/full | head -c 1"])
def test_a_full_or_closed_stderr_of_a_process(tmp_path, redirection):
    script = """
        import resumable
        solver = resumable.new_solver()
        solver.progress = True
        resumable.fit(solver, "c")
        open("done", "w").write(str(solver.run.step))
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__), "PYTHONIOENCODING": "ascii"}
    command = ["/bin/sh", "-c", f'"$0" script.py {redirection}', sys.executable]
    subprocess.run(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    assert (tmp_path / "done").read_text() == "24"
