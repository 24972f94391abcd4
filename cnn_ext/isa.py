"""Owns the choice of the instruction-set variant: `kernels` is the extension module in use."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

try:
    from cnn_ext._cpu import openmp_enabled, supported_isas
except ModuleNotFoundError as error:  # a source folder on sys.path hides the installed package
    raise ImportError(
        f"the compiled kernels are missing from {os.path.dirname(__file__)}: install with "
        "`pip install .` and run from another folder, or install with `pip install -e .`"
    ) from error

__all__ = ["isa", "kernels", "openmp_enabled", "supported_isas"]


def _choose() -> str:
    wanted = os.environ.get("PYNN_ISA", "")
    if not wanted:
        return supported_isas()[0]
    if wanted not in supported_isas():
        raise ImportError(
            f"PYNN_ISA is {wanted!r}, but this processor runs {', '.join(supported_isas())}: "
            "set it to one of these or unset it"
        )
    return wanted


@contextmanager
def _brief_waits() -> Iterator[None]:
    """GNU's OpenMP library reads, when it is loaded, how long a waiting thread spins before it sleeps.

    Its default is several milliseconds. On a busy machine the spinning keeps the CPU from the very thread that is
    waited for, and a step takes several times as long. Waking a thread takes 5 µs, in a virtual machine some 40;
    so threads spin for about 60 µs, which also bridges the steps of a plan that one thread does alone. A user's
    own setting stands.
    """
    if "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ:
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = "3000"
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]


isa: str = _choose()
if TYPE_CHECKING:
    from cnn_ext import _baseline as kernels  # all variants have the same functions
else:
    with _brief_waits():
        kernels = importlib.import_module(f"cnn_ext._{isa}")
