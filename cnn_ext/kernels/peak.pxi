# What benchmarks measure themselves against: multiply-adds that never leave the registers.

cdef extern from "peak.h" nogil:
    enum:
        PEAK_FLOPS
    float multiply_adds(Py_ssize_t steps)


def peak(Py_ssize_t steps, int n_threads):
    """`steps` rounds of independent multiply-adds on each of n_threads threads; returns how many FLOPs that were."""
    cdef int t
    cdef float total = 0
    n_threads = team(n_threads)
    for t in prange(n_threads, nogil=True, schedule="static", num_threads=n_threads):
        total += multiply_adds(steps)
    return PEAK_FLOPS * steps * n_threads if total == total else 0
