# The fully-connected layer: three matrix products, each cut into blocks of the result that one task owns.

cdef enum:
    LINEAR_ROWS = 96
    LINEAR_COLUMNS = 240
    BIAS_COLUMNS = 64


cdef void gemm_task(
    Py_ssize_t task, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    const real_t* a, Py_ssize_t a_row, Py_ssize_t a_col,
    const real_t* b, Py_ssize_t b_row, Py_ssize_t b_col,
    real_t* c, const real_t* bias, real_t* scratch,
) noexcept nogil:
    """One block of C = A · B (+ bias): blocks count along the rows of C first."""
    cdef Py_ssize_t row_blocks = blocks(m, LINEAR_ROWS)
    cdef Py_ssize_t top = task % row_blocks * LINEAR_ROWS, left = task // row_blocks * LINEAR_COLUMNS
    cdef Py_ssize_t rows = min(<Py_ssize_t>LINEAR_ROWS, m - top), columns = min(<Py_ssize_t>LINEAR_COLUMNS, n - left)
    cdef Py_ssize_t i, j
    c += top * n + left
    gemm(rows, columns, k, a + top * a_row, a_row, a_col, b + left * b_col, b_row, b_col, c, n, False, scratch)
    if bias != NULL:
        for i in range(rows):
            for j in range(columns):
                c[i * n + j] += bias[left + j]


cdef void gemm_parallel(
    Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    const real_t* a, Py_ssize_t a_row, Py_ssize_t a_col,
    const real_t* b, Py_ssize_t b_row, Py_ssize_t b_col,
    real_t* c, const real_t* bias, real_t* scratch, int n_threads,
) noexcept nogil:
    cdef Py_ssize_t task
    cdef Py_ssize_t tasks = blocks(m, LINEAR_ROWS) * blocks(n, LINEAR_COLUMNS)
    for task in prange(tasks, schedule="dynamic", num_threads=n_threads):
        gemm_task(task, m, n, k, a, a_row, a_col, b, b_row, b_col, c, bias, scratch + threadid() * GEMM_SCRATCH)


cdef void column_sums(const real_t[:, ::1] y, real_t[::1] sums, Py_ssize_t task) noexcept nogil:
    cdef Py_ssize_t i, j, left = task * BIAS_COLUMNS, right = min((task + 1) * BIAS_COLUMNS, y.shape[1])
    for j in range(left, right):
        sums[j] = 0
    for i in range(y.shape[0]):
        for j in range(left, right):
            sums[j] += y[i, j]


def linear_forward(
    const real_t[:, ::1] x not None, const real_t[:, ::1] weight not None, const real_t[::1] bias,
    real_t[:, ::1] out not None, real_t[::1] scratch not None, int n_threads,
):
    """out = x · weight + bias (bias may be None); scratch: n_threads × gemm_scratch elements."""
    cdef Py_ssize_t n = x.shape[0], d = x.shape[1], m = weight.shape[1]
    cdef const real_t* bias_start = NULL
    n_threads = team(n_threads)
    require(
        x.shape[0] and weight.shape[0] and x.shape[1] == weight.shape[0] and (out.shape[0], out.shape[1]) == (x.shape[0], weight.shape[1])
        and (bias is None or bias.shape[0] == weight.shape[1]) and scratch.shape[0] >= n_threads * GEMM_SCRATCH,
        "linear_forward",
    )
    if bias is not None:
        bias_start = &bias[0]
    with nogil:
        gemm_parallel(
            n, m, d, &x[0, 0], d, 1, &weight[0, 0], m, 1, &out[0, 0], bias_start, &scratch[0], n_threads
        )


def linear_backward(
    const real_t[:, ::1] dout not None, const real_t[:, ::1] x not None, const real_t[:, ::1] weight not None,
    real_t[:, ::1] dx, real_t[:, ::1] dweight not None, real_t[::1] dbias not None, real_t[::1] scratch not None, int n_threads,
):
    """dx = dout · weightᵀ (dx may be None), dweight = xᵀ · dout, dbias = column sums of dout."""
    cdef Py_ssize_t n = x.shape[0], d = x.shape[1], m = weight.shape[1], task
    cdef real_t* dx_start = NULL
    n_threads = team(n_threads)
    require(
        x.shape[0] and weight.shape[0] and x.shape[1] == weight.shape[0] and (dout.shape[0], dout.shape[1]) == (x.shape[0], weight.shape[1])
        and (dweight.shape[0], dweight.shape[1], dbias.shape[0]) == (x.shape[1], weight.shape[1], weight.shape[1])
        and (dx is None or (dx.shape[0], dx.shape[1]) == (x.shape[0], x.shape[1])) and scratch.shape[0] >= n_threads * GEMM_SCRATCH,
        "linear_backward",
    )
    if dx is not None:
        dx_start = &dx[0, 0]
    with nogil:
        if dx_start != NULL:
            gemm_parallel(
                n, d, m, &dout[0, 0], m, 1, &weight[0, 0], 1, m, dx_start, NULL, &scratch[0], n_threads
            )
        gemm_parallel(
            d, m, n, &x[0, 0], 1, d, &dout[0, 0], m, 1, &dweight[0, 0], NULL, &scratch[0], n_threads
        )
        for task in prange(blocks(m, BIAS_COLUMNS), schedule="static", num_threads=n_threads):
            column_sums(dout, dbias, task)
