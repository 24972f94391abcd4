"""What the processor and the build can do, asked before any instruction-set variant is imported."""

cdef extern from "cpu.h" nogil:
    bint pynn_openmp()
    bint pynn_has_baseline()
    bint pynn_has_avx2()
    bint pynn_has_avx512()


def openmp_enabled() -> bool:
    """Whether the kernels were built with OpenMP; without it they run on one thread."""
    return pynn_openmp()


def supported_isas() -> tuple:
    """Instruction sets with kernels of their own that this processor runs, best first."""
    known = {"avx512": pynn_has_avx512(), "avx2": pynn_has_avx2(), "baseline": pynn_has_baseline()}
    return tuple(name for name, runs in known.items() if runs)
