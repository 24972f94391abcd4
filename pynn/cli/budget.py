"""Owns how much memory a training will take, how much there is, and the refusal of what cannot fit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import prod
from pathlib import Path

from pynn.batches import EVALUATION_BATCH
from pynn.cli.errors import UsageError
from pynn.data import DataSize
from pynn.engine import memory_needed
from pynn.module import Module

__all__ = ["COPIES", "available_memory", "in_words", "own_memory", "require_memory", "training_memory"]

# Values for each parameter: itself, its gradient, two moments, the best one, and, while a checkpoint is written,
# all of them as arrays and as bytes of a file, and what the allocator holds back. Measured, of wide MLPs.
COPIES = 18
# Of the memory that a plan asks for, what is ever touched, and so taken. Measured, of images up to 1000×1000.
_TOUCHED_IN_TRAINING, _TOUCHED_IN_EVALUATION = 0.75, 0.65


def training_memory(model: Module, size: DataSize, batch_size: int) -> int:
    """Bytes that `pynn train` takes at its peak beside what the process has already, by what is known of the data.

    The data twice while they are split; then once, with the plans of a training and of an evaluation batch, the
    batch as it is kept and in float32, and of the parameters `COPIES`.
    """
    samples = max(1, size.samples)  # reading refuses none
    batch, evaluated = min(batch_size, -(-8 * samples // 10)), min(EVALUATION_BATCH, -(-samples // 10))
    parameters = sum(parameter.data.nbytes for parameter in model.parameters())
    training = (
        size.nbytes
        + _TOUCHED_IN_TRAINING * memory_needed(model, (batch, *size.shape))
        + _TOUCHED_IN_EVALUATION * memory_needed(model, (evaluated, *size.shape), training_step=False)
        + max(batch, evaluated) * prod(size.shape) * (size.dtype.itemsize + 4)
        + COPIES * parameters
    )
    return max(2 * size.nbytes, round(training))


def require_memory(needed: int, remedy: str) -> None:
    """Raises UsageError, with the `remedy`, where `needed` more bytes are not there."""
    available = available_memory()
    if available is not None and needed > available:
        raise UsageError(
            f"training would take about {in_words(needed)} of memory, but {in_words(available)} are available: "
            f"{remedy}"
        )


def in_words(n: int) -> str:
    """Bytes as people read them: 4.9 GB."""
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.0f} MB"


def own_memory() -> int:
    """Bytes that this process has now; 0 where the system does not tell."""
    pages = " ".join(_lines(Path("/proc/self/statm"))).split()[1:2]
    return int(pages[0]) * os.sysconf("SC_PAGE_SIZE") if pages else 0


def available_memory() -> int | None:
    """Bytes that this process may still take: of the machine's, its container's and its own limit the least.

    None where the system does not tell.
    """
    return min((max(0, limit) for limit in _limits()), default=None)


def _limits(root: str = "/") -> Iterator[int]:
    proc, cgroups = Path(root, "proc"), Path(root, "sys/fs/cgroup")
    if (free := _fields(proc / "meminfo").get("MemAvailable")) is not None:
        yield 1024 * free
    for line in _lines(proc / "self/cgroup"):
        _, controllers, name = line.split(":", 2)
        if controllers == "":  # version 2
            yield from _group_limits(cgroups, name, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _group_limits(cgroups / "memory", name, *files)
    yield from _own_limit(proc / "self/statm")


def _group_limits(root: Path, name: str, limit: str, used: str, idle: str) -> Iterator[int]:
    """What the group `name` and those above it leave; of what they use, the system takes back idle file pages."""
    for group in (root / name.lstrip("/"), *(root / name.lstrip("/")).parents):
        most, now = _number(group / limit), _number(group / used)
        if most is not None and now is not None:
            yield most - now + _fields(group / "memory.stat").get(idle, 0)
        if group == root:
            return


def _own_limit(statm: Path) -> Iterator[int]:
    """What `ulimit -v` leaves."""
    try:
        import resource
    except ImportError:  # not Unix
        return
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    words = " ".join(_lines(statm)).split()
    if soft != resource.RLIM_INFINITY and words:
        yield soft - int(words[0]) * os.sysconf("SC_PAGE_SIZE")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None  # "max" where there is none


def _fields(path: Path) -> dict[str, int]:
    """NAME: NUMBER of each line, with or without the colon and a unit."""
    words = [line.replace(":", " ").split() for line in _lines(path)]
    return {each[0]: int(each[1]) for each in words if len(each) > 1 and each[1].isdigit()}
