"""Makes every system call of a write fail in turn, and looks at what is left.

    python tests/endurance/faults.py

Kinds: a `checkpoint`, a `model`, `results` (results.json), a `report`, and `predictions` (`pynn predict --out`).
The calls of one undisturbed write are counted; then each of them is made to fail, with each error that fits it,
or to write half. After that the file must be the old one whole (or none, where there was none) and the failure
told in one sentence, or the new one whole and nothing said; and no other file may be left in the folder. Even
seeds replace a file, odd ones make it. The failures are made by a library that is compiled from `faults.c`
(gcc) and preloaded: Linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from harness import Outcome, arguments, run

import pynn
from pynn.checkpoint import save_checkpoint
from pynn.cli import main as command_line
from pynn.report.page import write_report
from pynn.report.results import write_rows

SHORT = 0  # half is written, and the rest has to follow
FAULTS = {
    "open": (errno.EACCES, errno.ENOSPC, errno.EMFILE, errno.EROFS, errno.EIO),
    "write": (SHORT, errno.ENOSPC, errno.EIO, errno.EINTR, errno.EDQUOT, errno.EFBIG),
    "fsync": (errno.EIO, errno.ENOSPC, errno.EINTR),
    "close": (errno.EIO, errno.EINTR, errno.ENOSPC),
    "rename": (errno.EACCES, errno.EIO, errno.ENOSPC, errno.EXDEV, errno.EBUSY),
}
OTHERS = (errno.EACCES, errno.EIO)
BESIDE = "timings.json"  # of results.json, and written with it
ROW = {"question": "2.1", "title": "t", "model": "m", "dataset": "d", "origin": "embedded", "test_accuracy": 0.5}


# -- what is written ----------------------------------------------------------------------------------------


def checkpoint_writer(seed: int) -> Callable[[Path], str | None]:
    rng = np.random.default_rng(seed)
    model = pynn.models.mlp(6, 300, 3, rng=rng)
    optimizer = pynn.Adam(model.parameters())
    solver = pynn.Solver(model, pynn.CrossEntropyLoss(), optimizer, rng=rng, progress=False)
    solver.fit(rng.standard_normal((20, 6)).astype(np.float32), rng.integers(0, 3, 20), epochs=1)
    return lambda path: told(lambda: save_checkpoint(path, solver))


def model_writer(seed: int) -> Callable[[Path], str | None]:
    model = pynn.models.mlp(6, 300, 3, rng=np.random.default_rng(seed))
    return lambda path: told(lambda: pynn.save(model, path, metadata={"seed": seed}))


def results_writer(seed: int) -> Callable[[Path], str | None]:
    return lambda path: told(lambda: write_rows(path, [ROW | {"title": f"seed {seed}"}] * 50))


def report_writer(seed: int) -> Callable[[Path], str | None]:
    return lambda path: told(lambda: write_report([ROW | {"title": f"seed {seed}"}], path))


def predictions_writer(seed: int) -> Callable[[Path], str | None]:
    rng = np.random.default_rng(seed)
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    np.savez(folder / "data.npz", X=rng.standard_normal((40, 6)).astype(np.float32), y=rng.integers(0, 2, 40))
    data, model = str(folder / "data.npz"), str(folder / "model")
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        command_line(["train", data, "--out", model, "--epochs", "1", "--seed", str(seed)])

    def write(path: Path) -> str | None:
        stderr = io.StringIO()
        with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):
            code = command_line(["predict", model, data, "--out", str(path)])
        return stderr.getvalue().strip() if code else None

    return write


def told(write: Callable[[], object]) -> str | None:
    """The sentence in which `write` refuses; None where it does not."""
    try:
        write()
    except OSError as error:
        return str(error)
    return None


WRITERS = {
    "checkpoint": checkpoint_writer,
    "model": model_writer,
    "results": results_writer,
    "report": report_writer,
    "predictions": predictions_writer,
}


# -- failing ------------------------------------------------------------------------------------------------


def case(kind: str, seed: int) -> Outcome:
    shim = ctypes.CDLL(None)
    shim.fault_name.restype = ctypes.c_char_p
    outcome, write = Outcome(), WRITERS[kind](seed)
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as elsewhere:
        os.chdir(elsewhere)  # where a result is put that cannot be written where it should be
        path, where = Path(name) / "out", os.fsencode(name)
        write(path)  # what is imported at the first time is not the write's
        new = path.read_bytes()
        old = new[::-1] if seed % 2 == 0 else None
        put(path, old)
        shim.fault_begin(where, -1, 0)
        write(path)
        calls = [shim.fault_name(place).decode() for place in range(shim.fault_end())]
        for place, call in enumerate(calls):
            outcome.counts[f"calls of {call}"] += 1
            for number in FAULTS.get(call.removesuffix("64"), OTHERS):
                put(path, old)
                shim.fault_begin(where, place, number)
                try:
                    sentence, wrong = write(path), None
                except BaseException as error:
                    sentence, wrong = "", f"{type(error).__name__}: {error}"
                finally:
                    shim.fault_end()
                outcome.counts["faults"] += 1
                wrong = wrong or judged(path, old, new, sentence)
                if wrong:
                    what = errno.errorcode.get(number, "half written")
                    outcome.failures.append(f"{call} (call {place + 1} of {len(calls)}), {what}: {wrong}")
    return outcome


def put(path: Path, content: bytes | None) -> None:
    for each in path.parent.iterdir():
        each.unlink()
    if content is not None:
        path.write_bytes(content)


def judged(path: Path, old: bytes | None, new: bytes, sentence: str | None) -> str | None:
    """What is wrong after a write of which one call failed."""
    now = path.read_bytes() if path.exists() else None
    if others := [each.name for each in path.parent.iterdir() if each.name not in {path.name, BESIDE}]:
        return f"left behind: {', '.join(others)}"
    if sentence is None:
        return None if now == new else "nothing is said, but the file is not the new one"
    if now != old:
        return f"the old file is gone, but it says: {sentence}"
    if "\n" in sentence or len(sentence) >= 300 or str(path.parent) not in sentence:
        return f"not one sentence with the file's name: {sentence}"
    return None


def preload(folder: str) -> None:
    """Compiles the library; processes that are started from now on have it."""
    library = Path(folder) / "faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    os.environ["LD_PRELOAD"] = str(library)


if __name__ == "__main__":
    given = arguments(__doc__, cases=2, kinds=tuple(WRITERS))
    with tempfile.TemporaryDirectory() as folder:
        preload(folder)
        code = run(case, given)
    sys.exit(code)
