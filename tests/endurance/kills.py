"""Kills trainings at random moments, resumes them, and compares what comes out with the uninterrupted run.

    python tests/endurance/kills.py --cases 100 --jobs 2

Three kinds: `fit` is `Solver.fit` with a checkpoint, `train` is `pynn train … --checkpoint`, `run` is `pynn run
q2 --quick --resume`. Each case runs in processes that get SIGKILL at a moment drawn over the length of an
uninterrupted run, is resumed, and is killed again up to three times before it may finish. Then the SHA-256 of
weights, history and results.json must be those of the run that nobody killed (a history's seconds left out:
they differ in every run), and no temporary file may be left.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
from harness import Outcome, arguments, forked, run

import pynn
from pynn.cli import main as command_line
from pynn.io import read_tensors

VARIANTS = 3  # trainings of each kind, so that their uninterrupted runs are few


# -- the three kinds: work(folder, variant, again) does it or goes on with it; digest(folder) says what came of it


def fit(folder: Path, variant: int, again: bool) -> int:
    rng = np.random.default_rng(variant)
    x = rng.standard_normal((150, 2, 8, 8)).astype(np.float32)
    y = rng.integers(0, 3, len(x))
    model = pynn.models.cnn_bn((2, 8, 8), kernel_size=3, filters=4, hidden=10, n_classes=3, rng=rng)
    optimizers = (
        lambda p: pynn.Adam(p, lr=1e-3),
        lambda p: pynn.SGD(p, lr=0.05, momentum=0.9),
        lambda p: pynn.RMSProp(p, lr=1e-3),
    )
    solver = pynn.Solver(
        model,
        pynn.CrossEntropyLoss(),
        optimizers[variant](model.parameters()),
        batch_size=16,
        schedule=pynn.Cosine(),
        augment=pynn.data.Shift(1),
        rng=np.random.default_rng(variant + 100),
        progress=False,
    )
    checkpoint = folder / "run.checkpoint"
    if again and checkpoint.exists():
        solver.resume(checkpoint)
    history = solver.fit(x, y, epochs=12, validation_data=(x[:40], y[:40]), patience=8, checkpoint=checkpoint)
    pynn.save(model, folder / "out.model", metadata={"history": history})
    return 0


def train(folder: Path, variant: int, again: bool) -> int:
    data = folder / "data.npz"
    if not data.exists():
        rng = np.random.default_rng(variant)
        np.savez(data, X=rng.standard_normal((200, 1, 8, 8)).astype(np.float32), y=rng.integers(0, 3, 200))
    more = ["--model", "mlp"] if variant == 1 else []
    return command_line(
        ["train", str(data), "--out", str(folder / "out.model"), "--epochs", "15", "--hidden", "12"]
        + ["--batch-size", "20", "--seed", str(variant), *more]
        + ["--checkpoint", str(folder / "run.checkpoint")]
        + (["--resume"] if again else [])
    )


def run_question(folder: Path, variant: int, again: bool) -> int:
    return command_line(
        ["run", "q2", "--quick", "--seed", str(variant), "--out", str(folder / "out")]
        + (["--resume"] if again else [])
    )


KINDS = {"fit": fit, "train": train, "run": run_question}


def digest(folder: Path) -> str:
    """SHA-256 over weights and what is beside them, without a clock's seconds in histories, and results.json."""
    sha = hashlib.sha256()
    for model in sorted(folder.glob("*.model")):
        tensors, header = read_tensors(model, "model")
        for name, array in sorted(tensors.items()):
            sha.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
        sha.update(json.dumps(timeless(header["metadata"]), sort_keys=True).encode())
    for results in sorted(folder.glob("*/results.json")):
        sha.update(results.read_bytes())
    return sha.hexdigest()


def timeless(value):
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key != "seconds"}
    return [timeless(item) for item in value] if isinstance(value, list) else value


# -- killing ------------------------------------------------------------------------------------------------


@cache
def uninterrupted(kind: str, variant: int) -> tuple[str, float]:
    """(digest, seconds) of the run that nobody kills."""
    with tempfile.TemporaryDirectory() as name:
        folder, began = Path(name), time.monotonic()
        child = forked(lambda: KINDS[kind](folder, variant, again=False), folder / "output.txt")
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            raise RuntimeError(f"{kind} {variant} uninterrupted ends with {code}: {last_line(folder)}")
        return digest(folder), time.monotonic() - began


def case(kind: str, seed: int) -> Outcome:
    rng = np.random.default_rng((seed, 9))
    variant, kills = seed % VARIANTS, int(rng.integers(1, 4))
    outcome = Outcome()
    expected, seconds = uninterrupted(kind, variant)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        again, code = False, None
        while code is None:
            child = forked(lambda: KINDS[kind](folder, variant, again), folder / "output.txt")  # noqa: B023
            if outcome.counts["kills"] < kills:
                time.sleep(rng.uniform(0, seconds))
                os.kill(child, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if status == -signal.SIGKILL:
                outcome.counts["kills"] += 1
                again = True
            else:
                code = status
        if code:
            outcome.failures.append(f"resumed, it ends with {code}: {last_line(folder)}")
        elif digest(folder) != expected:
            outcome.failures.append("resumed, it ends with other weights, history or results")
        if left := [str(path.relative_to(folder)) for path in folder.rglob("*.tmp")]:
            outcome.failures.append(f"left behind: {', '.join(left)}")
    return outcome


def last_line(folder: Path) -> str:
    lines = (folder / "output.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1] if lines else "it says nothing"


if __name__ == "__main__":
    sys.exit(run(case, arguments(__doc__, cases=100, kinds=tuple(KINDS))))
