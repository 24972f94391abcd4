# Parameter updates in place: each state is read and written once. Arrays are bound where they lie, and worked through as if
# they were one, cut into runs of fixed size; a run's parts of single arrays are its pieces.
# Coefficients that no element changes (bias corrections, shrinkage) are computed by the caller in float64.

cdef enum:
    UPDATE_BLOCK = 8192  # elements a task


cdef struct Piece:  # n elements of one parameter, of its gradient and of its states, NULL where there are fewer
    void* param
    void* grad
    void* first
    void* second
    Py_ssize_t n


cdef class UpdateTable:
    """Rows of arrays, (param, grad) or (param, grad, state) or (param, grad, state, state), bound for updates in place.

    All are C-contiguous, of one dtype; those of a row have one size.
    """
    cdef readonly list rows  # held, so that the memory stays
    cdef readonly Py_ssize_t size, n_states
    cdef readonly bint double_precision
    cdef Piece* pieces
    cdef Py_ssize_t* starts  # of each run among the pieces, and the number of pieces at the end
    cdef Py_ssize_t n_runs

    def __init__(self, list rows not None, bint double_precision):
        cdef Py_ssize_t at = 0, n_pieces = 0, n, start, taken
        cdef void* bases[4]
        cdef Py_ssize_t width = 8 if double_precision else 4
        if self.pieces != NULL:
            raise TypeError("UpdateTable: it is bound once")
        if not rows or not all(2 <= len(row) == len(rows[0]) <= 4 for row in rows):
            raise ValueError("UpdateTable: every row must have two to four arrays, and as many as the first")
        if any(view_size(array, double_precision) != view_size(row[0], double_precision) for row in rows for array in row):
            raise ValueError("UpdateTable: the arrays of a row must have one size")
        sizes = [view_size(row[0], double_precision) for row in rows]
        self.size, self.n_states = sum(sizes), len(rows[0]) - 2
        self.rows, self.double_precision = rows, double_precision
        self.n_runs = (self.size + UPDATE_BLOCK - 1) // UPDATE_BLOCK
        self.pieces = <Piece*>PyMem_Malloc((len(rows) + self.n_runs) * sizeof(Piece))
        self.starts = <Py_ssize_t*>PyMem_Malloc((self.n_runs + 1) * sizeof(Py_ssize_t))
        if self.pieces == NULL or self.starts == NULL:
            raise MemoryError
        for row, size in zip(rows, sizes):
            for i in range(4):
                bases[i] = view_base(row[i], double_precision) if i < len(row) else NULL
            n, start = size, 0
            while start < n:
                if at % UPDATE_BLOCK == 0:
                    self.starts[at // UPDATE_BLOCK] = n_pieces
                taken = min(n - start, UPDATE_BLOCK - at % UPDATE_BLOCK)
                piece = &self.pieces[n_pieces]
                piece.param, piece.grad = moved(bases[0], start * width), moved(bases[1], start * width)
                piece.first, piece.second = moved(bases[2], start * width), moved(bases[3], start * width)
                piece.n = taken
                n_pieces, start, at = n_pieces + 1, start + taken, at + taken
        self.starts[self.n_runs] = n_pieces

    def __dealloc__(self):
        PyMem_Free(self.pieces)
        PyMem_Free(self.starts)


cdef inline void* moved(void* base, Py_ssize_t bytes) noexcept nogil:
    return NULL if base == NULL else <void*>(<char*>base + bytes)


cdef Py_ssize_t view_size(array, bint double_precision) except -1:
    cdef const double[::1] doubles
    cdef const float[::1] floats
    if double_precision:
        doubles = array
        return doubles.shape[0]
    floats = array
    return floats.shape[0]


cdef void* view_base(array, bint double_precision) except? NULL:
    cdef const double[::1] doubles
    cdef const float[::1] floats
    if double_precision:
        doubles = array
        return <void*>&doubles[0]
    floats = array
    return <void*>&floats[0]


cdef inline real_t square_root(real_t x) noexcept nogil:
    return sqrtf(x) if real_t is float else sqrt(x)


cdef void sgd_piece(const Piece* piece, real_t lr, real_t decay) noexcept nogil:
    cdef real_t* param = <real_t*>piece.param
    cdef const real_t* grad = <const real_t*>piece.grad
    cdef Py_ssize_t i
    for i in range(piece.n):
        param[i] -= lr * (grad[i] + decay * param[i])


cdef void sgd_runs(UpdateTable table, real_t lr, real_t decay, int n_threads):
    cdef Py_ssize_t run, piece
    cdef const Piece* pieces = table.pieces
    cdef const Py_ssize_t* starts = table.starts
    for run in prange(table.n_runs, nogil=True, schedule="static", num_threads=n_threads):
        for piece in range(starts[run], starts[run + 1]):
            sgd_piece(&pieces[piece], lr, decay)


def sgd_update(UpdateTable table not None, double lr, double decay, int n_threads):
    n_threads = team(n_threads)
    if table.double_precision:
        sgd_runs[double](table, lr, decay, n_threads)
    else:
        sgd_runs[float](table, <float>lr, <float>decay, n_threads)


cdef void momentum_piece(const Piece* piece, real_t lr, real_t momentum, bint nesterov, real_t decay) noexcept nogil:
    cdef real_t* param = <real_t*>piece.param
    cdef const real_t* grad = <const real_t*>piece.grad
    cdef real_t* velocity = <real_t*>piece.first
    cdef Py_ssize_t i
    cdef real_t g
    if nesterov:
        for i in range(piece.n):
            g = grad[i] + decay * param[i]
            velocity[i] = momentum * velocity[i] + g
            param[i] -= lr * (g + momentum * velocity[i])
    else:
        for i in range(piece.n):
            velocity[i] = momentum * velocity[i] + (grad[i] + decay * param[i])
            param[i] -= lr * velocity[i]


cdef void momentum_runs(
    UpdateTable table, real_t lr, real_t momentum, bint nesterov, real_t decay, int n_threads
):
    cdef Py_ssize_t run, piece
    cdef const Piece* pieces = table.pieces
    cdef const Py_ssize_t* starts = table.starts
    for run in prange(table.n_runs, nogil=True, schedule="static", num_threads=n_threads):
        for piece in range(starts[run], starts[run + 1]):
            momentum_piece(&pieces[piece], lr, momentum, nesterov, decay)


def momentum_update(
    UpdateTable table not None, double lr, double momentum, bint nesterov, double decay, int n_threads
):
    n_threads = team(n_threads)
    require_states(table, 1)
    if table.double_precision:
        momentum_runs[double](table, lr, momentum, nesterov, decay, n_threads)
    else:
        momentum_runs[float](table, <float>lr, <float>momentum, nesterov, <float>decay, n_threads)


cdef void rmsprop_piece(
    const Piece* piece, real_t lr, real_t alpha, real_t one_less_alpha, real_t eps, real_t decay
) noexcept nogil:
    cdef real_t* param = <real_t*>piece.param
    cdef const real_t* grad = <const real_t*>piece.grad
    cdef real_t* square_avg = <real_t*>piece.first
    cdef Py_ssize_t i
    cdef real_t g
    for i in range(piece.n):
        g = grad[i] + decay * param[i]
        square_avg[i] = alpha * square_avg[i] + one_less_alpha * g * g
        param[i] -= lr * g / (square_root(square_avg[i]) + eps)


cdef void rmsprop_runs(
    UpdateTable table, real_t lr, real_t alpha, real_t one_less_alpha, real_t eps, real_t decay, int n_threads
):
    cdef Py_ssize_t run, piece
    cdef const Piece* pieces = table.pieces
    cdef const Py_ssize_t* starts = table.starts
    for run in prange(table.n_runs, nogil=True, schedule="static", num_threads=n_threads):
        for piece in range(starts[run], starts[run + 1]):
            rmsprop_piece(&pieces[piece], lr, alpha, one_less_alpha, eps, decay)


def rmsprop_update(
    UpdateTable table not None, double lr, double alpha, double eps, double decay, int n_threads
):
    n_threads = team(n_threads)
    require_states(table, 1)
    if table.double_precision:
        rmsprop_runs[double](table, lr, alpha, 1 - alpha, eps, decay, n_threads)
    else:
        rmsprop_runs[float](
            table, <float>lr, <float>alpha, <float>(1 - alpha), <float>eps, <float>decay, n_threads
        )


cdef void adam_piece(
    const Piece* piece, real_t decay, real_t shrink, real_t beta1, real_t one_less_beta1, real_t beta2,
    real_t one_less_beta2, real_t step_size, real_t root, real_t eps,
) noexcept nogil:
    cdef real_t* param = <real_t*>piece.param
    cdef const real_t* grad = <const real_t*>piece.grad
    cdef real_t* m = <real_t*>piece.first
    cdef real_t* v = <real_t*>piece.second
    cdef Py_ssize_t i
    cdef real_t g
    for i in range(piece.n):
        g = grad[i] + decay * param[i]
        m[i] = beta1 * m[i] + one_less_beta1 * g
        v[i] = beta2 * v[i] + one_less_beta2 * g * g
        param[i] = shrink * param[i] - step_size * m[i] / (square_root(v[i]) / root + eps)


cdef void adam_runs(
    UpdateTable table, real_t decay, real_t shrink, real_t beta1, real_t one_less_beta1, real_t beta2,
    real_t one_less_beta2, real_t step_size, real_t root, real_t eps, int n_threads,
):
    cdef Py_ssize_t run, piece
    cdef const Piece* pieces = table.pieces
    cdef const Py_ssize_t* starts = table.starts
    for run in prange(table.n_runs, nogil=True, schedule="static", num_threads=n_threads):
        for piece in range(starts[run], starts[run + 1]):
            adam_piece(
                &pieces[piece], decay, shrink, beta1, one_less_beta1, beta2, one_less_beta2, step_size, root, eps
            )


def adam_update(
    UpdateTable table not None, double decay, double shrink, double beta1, double beta2, double step_size, double root,
    double eps, int n_threads,
):
    n_threads = team(n_threads)
    # step_size = lr / (1 − beta1^t), root = √(1 − beta2^t), shrink = 1 − lr · weight decay where decoupled.
    require_states(table, 2)
    if table.double_precision:
        adam_runs[double](
            table, decay, shrink, beta1, 1 - beta1, beta2, 1 - beta2, step_size, root, eps, n_threads
        )
    else:
        adam_runs[float](
            table, <float>decay, <float>shrink, <float>beta1, <float>(1 - beta1), <float>beta2, <float>(1 - beta2),
            <float>step_size, <float>root, <float>eps, n_threads,
        )


cdef int require_states(UpdateTable table, Py_ssize_t n) except -1:
    if table.n_states != n:
        raise ValueError(f"this update has {n} states, the table {table.n_states}")
    return 0
