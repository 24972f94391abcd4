"""Owns the finished pieces of a run: kept in files as they are made, recognised when the run is taken up again.

A folder, `5.3-1f0c2a…`, holds the pieces of one row: values such as `search-4-0`, what one training of a search
found, trainings such as `final-1`, a checkpoint after each long epoch, and at last the `row`, which makes all the
others needless. Its name is a digest of what decides the row: question, configuration, seeds, data, the code of
pynn and the kernels in use. So nothing is recognised that this run would not compute to the same bits.

A file is one line of JSON, `{"identity": …, "piece": …, "sha256": …, "seconds": …}`, and the bytes that it vouches
for. One that is damaged or belongs elsewhere is told and made anew. Removing the folder costs time, never results.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pynn import environment
from pynn.checkpoint import save_checkpoint
from pynn.data import Dataset
from pynn.files import write_atomic
from pynn.io import ModelFileError

if TYPE_CHECKING:
    from pynn.solver import Solver

__all__ = ["Pieces", "TimeIsUp", "Training", "Work", "data_digest"]

SECONDS_AT_RISK = 1.0  # a training is kept after every epoch, but not more often than this: a write takes its time


class TimeIsUp(Exception):
    """The time given to a run is over; what was finished is kept."""


class Work:
    """Where a run keeps its pieces, whether it takes up those of earlier runs, and when it has to end.

    folder : holds a folder for each row; None keeps nothing. resume : False makes every piece anew.
    seconds : after so many, the piece at hand is kept and TimeIsUp raised. tell : is given a line for a piece that
    is damaged, and one where pieces cannot be kept; the work itself goes on.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        resume: bool = False,
        seconds: float = math.inf,
        tell: Callable[[str], object] = lambda line: None,
    ):
        self.folder, self.resume, self.tell = folder, resume, tell
        self._deadline = time.monotonic() + seconds
        self._code = "" if folder is None else _code_digest()
        self._keeps = folder is not None

    def pieces(self, question: str, config, data: str, seeds: np.random.SeedSequence) -> Pieces:
        """The pieces of one row; `config` a dataclass, `data` as `data_digest` gives it."""
        if self.folder is None:
            return Pieces.nowhere()
        described = {
            "question": question,
            "config": asdict(config),
            "seeds": [seeds.entropy, list(seeds.spawn_key)],
            "data": data,
            "code": self._code,
        }
        identity = hashlib.sha256(_json(described)).hexdigest()
        return Pieces(self, self.folder / f"{question}-{identity[:16]}", identity)

    def read(self, path: Path) -> bytes | None:
        """The bytes of a piece's file; None where there is none, nothing is taken up, or it is unreadable."""
        if not self.resume:
            return None
        try:
            return path.read_bytes() if path.is_file() else None
        except OSError as error:
            self.tell(f"{path} cannot be read and is made anew: {error.strerror}")
            return None

    def write(self, path: Path, content: bytes) -> bool:
        """Keeps a piece's file; False where nothing is kept or it cannot be written, which is told, once."""
        if self.folder is None:
            return False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, content)
        except OSError as error:
            self.cannot_keep(error)
            return False
        return True

    def cannot_keep(self, error: OSError) -> None:
        """Tells, once, that finished pieces are not kept: the work goes on, a resumed run makes them again."""
        if self._keeps:
            self.tell(f"finished work can no longer be kept for --resume: {error}")
        self._keeps = False

    def check_time(self) -> None:
        """Raises TimeIsUp where it is; for moments at which something was just kept."""
        if time.monotonic() >= self._deadline:
            raise TimeIsUp


class Pieces:
    """The pieces of one row: values, trainings, and the row itself."""

    def __init__(self, work: Work, folder: Path, identity: str):
        self.work, self.folder, self.identity = work, folder, identity
        self._taken_up = 0.0  # seconds

    @classmethod
    def nowhere(cls) -> Pieces:
        """Those of a row of which nothing is kept."""
        return cls(Work(), Path(), "")

    def clock(self) -> float:
        """Seconds since some moment, to which those count that were spent on pieces when they were made."""
        return time.perf_counter() + self._taken_up

    def value(self, name: str, compute: Callable[[], object]):
        """The value kept under `name`, else what `compute` returns, kept; as JSON gives it back in either case."""
        content = self.read(name)
        if content is None:
            began = self.clock()
            content = _json(compute())
            self.write(name, content, self.clock() - began)
            self.work.check_time()
        return json.loads(content)

    def training(self, name: str) -> Training:
        """The training of this name."""
        return Training(self, name)

    def discard(self, name: str) -> None:
        """Removes what is kept under `name`, where another piece says all that is needed of it."""
        if self.work.folder is not None:
            with suppress(OSError):
                (self.folder / name).unlink()

    def row(self, compute: Callable[[], dict]) -> dict:
        """The row, kept or computed; once it is on file, the pieces that it was made of are removed."""
        content = self.read("row")
        if content is None:
            content = _json(compute())
            if self.write("row", content, 0.0):  # it says itself how long it took
                for path in self.folder.iterdir():
                    if path.name != "row":
                        self.discard(path.name)
        return json.loads(content)

    def read(self, name: str) -> bytes | None:
        """What is kept under `name`, or None; a file that is damaged, or of another run, is told."""
        path = self.folder / name
        content = self.work.read(path)
        if content is None:
            return None
        line, _, content = content.partition(b"\n")
        try:
            seconds = float(json.loads(line)["seconds"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            seconds = math.nan
        if not 0 <= seconds < math.inf or line != self._label(name, content, seconds):
            self.work.tell(f"{path} is damaged or of another run: this piece of work is made anew")
            return None
        self._taken_up += seconds
        return content

    def write(self, name: str, content: bytes, seconds: float) -> bool:
        """Keeps `content`, which took so long to make, under `name`; False where that is impossible."""
        return self.work.write(self.folder / name, self._label(name, content, seconds) + b"\n" + content)

    def _label(self, name: str, content: bytes, seconds: float) -> bytes:
        digest = hashlib.sha256(content).hexdigest()
        return _json({"identity": self.identity, "piece": name, "sha256": digest, "seconds": seconds})


class Training:
    """One training, kept as it goes: `take_up` before `fit`, `epoch` among its callbacks, `keep` at its end."""

    def __init__(self, pieces: Pieces, name: str):
        self._pieces, self._name = pieces, name
        self._began = self._kept = pieces.clock()
        self._step = 0  # of what is on file

    def take_up(self, solver: Solver) -> None:
        """Puts what is kept of this training into `solver`: its next `fit` continues there."""
        content = self._pieces.read(self._name)
        if content is None or not self._pieces.work.write(self._checkpoint, content):
            return
        try:
            solver.resume(self._checkpoint)
            self._step = solver.run.step
        except ModelFileError as error:
            self._pieces.work.tell(f"this training is made anew: {error}")
        self._pieces.discard(self._checkpoint.name)

    def epoch(self, solver: Solver, logs: dict) -> None:
        """A callback: keeps the epochs so far where the last ones were kept long enough ago, or time is up."""
        if solver.run.step == self._step:  # the last epoch on file, which a resumed solver shows once more
            return
        try:
            self._pieces.work.check_time()
        except TimeIsUp:
            self.keep(solver)
            raise
        if self._pieces.clock() - self._kept >= SECONDS_AT_RISK:
            self.keep(solver)

    def keep(self, solver: Solver) -> None:
        """Keeps the training as it is now, unless it is on file."""
        work = self._pieces.work
        if work.folder is None or solver.run.step == self._step:
            return
        try:
            self._checkpoint.parent.mkdir(parents=True, exist_ok=True)
            save_checkpoint(self._checkpoint, solver)
            content = self._checkpoint.read_bytes()
        except OSError as error:
            work.cannot_keep(error)
        else:
            self._pieces.write(self._name, content, self._pieces.clock() - self._began)
        self._pieces.discard(self._checkpoint.name)
        self._kept, self._step = self._pieces.clock(), solver.run.step

    @property
    def _checkpoint(self) -> Path:
        """The solver's own file, on its way into the piece's or out of it."""
        return self._pieces.folder / f"{self._name}.checkpoint"


def data_digest(data: Dataset) -> str:
    """SHA-256 of all that is in a data set: names, arrays, their types and shapes."""
    digest = hashlib.sha256(_json([data.name, data.origin, data.note, data.classes]))
    for part in ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"):
        array = np.ascontiguousarray(getattr(data, part))
        digest.update(_json([array.dtype.str, array.shape]))
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _code_digest() -> str:
    """SHA-256 of the code that results come from: this library's files, kernels among them, NumPy and Python."""
    described = environment.describe()
    digest = hashlib.sha256(_json([described[name] for name in ("pynn", "python", "numpy", "isa")]))
    for package in ("cnn_ext", "pynn"):
        folder = Path(str(files(package)))
        for path in sorted(path for path in folder.rglob("*") if path.suffix in {".py", ".so", ".pyd"}):
            digest.update(_json([package, path.relative_to(folder).as_posix()]))
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _json(value) -> bytes:
    return json.dumps(value, default=_of_numpy).encode()


def _of_numpy(value):
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not a JSON value")
