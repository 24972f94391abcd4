"""Owns the number of threads that kernels use.

Results never depend on it: work is cut by shape, every piece owns its output or its slot, and slots are
summed in a fixed order.
"""

import math
import os
from pathlib import Path

from cnn_ext._checks import shown
from cnn_ext.isa import kernels, openmp_enabled

__all__ = ["available_cpus", "get_num_threads", "set_num_threads", "threads_for"]

_MAX_THREADS = 256  # more is a typing mistake; scratch memory grows with it
_WORTH_THREADS = 100_000  # about 10 µs of work, twice what waking and joining the other threads takes


def _cgroup_quota(root: str = "/sys/fs/cgroup") -> float:
    """CPUs that the container may use on average (cgroup v2 `cpu.max`, v1 `cpu.cfs_*`), inf without a limit."""
    try:
        quota, period = Path(root, "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = Path(root, "cpu/cpu.cfs_quota_us").read_text().strip()
            period = Path(root, "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return math.inf
    return math.inf if quota in {"max", "-1"} else int(quota) / int(period)


def available_cpus() -> int:
    """CPUs this process may really use: its affinity mask, cut down to the container's quota; at least 1."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cpus = os.cpu_count() or 1
    return max(1, math.floor(min(cpus, _cgroup_quota())))


def get_num_threads() -> int:
    """The number of threads that kernels use; 1 where the build has no OpenMP."""
    return _num_threads


def threads_for(operations: int) -> int:
    """The threads that a kernel of so many elementary operations should use: 1 where waking others costs more."""
    return _num_threads if operations >= _WORTH_THREADS else 1


def set_num_threads(n: int) -> None:
    """Sets the number of threads that kernels use; without OpenMP only 1 is possible.

    Raises TypeError unless `n` is an int and ValueError unless 1 ≤ n ≤ 256 (1 without OpenMP, and in a process
    that was forked from one that had imported this module).
    """
    global _num_threads
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"set_num_threads: expected an int, got {type(n).__name__} {shown(n)}")
    if not 1 <= n <= _MAX_THREADS:
        raise ValueError(f"set_num_threads: expected 1 to {_MAX_THREADS} threads, got {shown(n)}")
    if n > 1 and not openmp_enabled():
        raise ValueError(
            f"set_num_threads: this build has no OpenMP and runs on 1 thread, got {n}: "
            "rebuild with a compiler that has OpenMP"
        )
    if n > 1 and _forked:
        raise ValueError(
            f"set_num_threads: a forked process runs on 1 thread, because OpenMP's threads stay behind, got {n}: "
            "start processes with multiprocessing's 'spawn' or 'forkserver'"
        )
    _num_threads = n


def _single_thread_after_fork() -> None:
    # A forked child inherits the OpenMP pool's bookkeeping without its threads and would wait for them for ever.
    global _num_threads, _forked
    _num_threads, _forked = 1, True
    kernels.stay_on_one_thread()


_forked = False
_num_threads = min(available_cpus(), _MAX_THREADS) if openmp_enabled() else 1
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_single_thread_after_fork)
