# What every entry asks before its loops: that its arrays belong together, and how many threads there are for it.

cdef extern from "team.h" nogil:
    enum:
        MOST_THREADS
    int team_of(int n) nogil

cdef bint forked = False
cdef bint alone = False  # whether it was said that threads cannot be made


def stay_on_one_thread():
    """For a forked process, which would wait for ever for OpenMP's threads: kernels ignore their number of threads."""
    global forked
    forked = True


cdef int team(int n_threads) except 0:
    """The threads that a kernel asked for `n_threads` works on: one where no others can be made, which is said once.

    OpenMP's library ends the process when it cannot make a thread, so team.h tries before it is asked.
    """
    global alone
    cdef int n
    if not 1 <= n_threads <= MOST_THREADS:
        raise ValueError(f"kernels: expected 1 to {MOST_THREADS} threads, got {n_threads}")
    if forked or n_threads == 1:
        return 1
    with nogil:
        n = team_of(n_threads)
    if n < n_threads and not alone:
        alone = True
        warnings.warn(
            f"pynn: {n_threads - 1} more threads cannot be made, so kernels run on one: raise the limits of processes and "
            "of memory, or call set_num_threads(1)", RuntimeWarning, stacklevel=2)
    return n


cdef bint require(bint holds, str who, str what="its arrays do not belong together") except False:
    """Refuses what does not hold."""
    if not holds:
        raise ValueError(f"{who}: {what}")
    return True
