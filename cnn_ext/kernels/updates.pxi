# Parameter updates in place, over flat arrays cut into blocks of fixed size: each state is read and written once.
# Coefficients that no element changes (bias corrections, shrinkage) are computed by the caller in float64.

cdef enum:
    UPDATE_BLOCK = 8192  # elements a task


cdef inline real_t square_root(real_t x) noexcept nogil:
    return sqrtf(x) if real_t is float else sqrt(x)


cdef void sgd_block(
    real_t[::1] param, const real_t[::1] grad, real_t lr, real_t decay, Py_ssize_t block
) noexcept nogil:
    cdef Py_ssize_t i, start = block * UPDATE_BLOCK, stop = min(start + UPDATE_BLOCK, param.shape[0])
    for i in range(start, stop):
        param[i] -= lr * (grad[i] + decay * param[i])


def sgd_update(real_t[::1] param, const real_t[::1] grad, double lr, double decay, int n_threads):
    cdef Py_ssize_t block, blocks = (param.shape[0] + UPDATE_BLOCK - 1) // UPDATE_BLOCK
    for block in prange(blocks, nogil=True, schedule="static", num_threads=n_threads):
        sgd_block(param, grad, <real_t>lr, <real_t>decay, block)


cdef void momentum_block(
    real_t[::1] param, const real_t[::1] grad, real_t[::1] velocity, real_t lr, real_t momentum, bint nesterov,
    real_t decay, Py_ssize_t block,
) noexcept nogil:
    cdef Py_ssize_t i, start = block * UPDATE_BLOCK, stop = min(start + UPDATE_BLOCK, param.shape[0])
    cdef real_t g
    if nesterov:
        for i in range(start, stop):
            g = grad[i] + decay * param[i]
            velocity[i] = momentum * velocity[i] + g
            param[i] -= lr * (g + momentum * velocity[i])
    else:
        for i in range(start, stop):
            velocity[i] = momentum * velocity[i] + (grad[i] + decay * param[i])
            param[i] -= lr * velocity[i]


def momentum_update(
    real_t[::1] param, const real_t[::1] grad, real_t[::1] velocity, double lr, double momentum, bint nesterov,
    double decay, int n_threads,
):
    cdef Py_ssize_t block, blocks = (param.shape[0] + UPDATE_BLOCK - 1) // UPDATE_BLOCK
    for block in prange(blocks, nogil=True, schedule="static", num_threads=n_threads):
        momentum_block(param, grad, velocity, <real_t>lr, <real_t>momentum, nesterov, <real_t>decay, block)


cdef void rmsprop_block(
    real_t[::1] param, const real_t[::1] grad, real_t[::1] square_avg, real_t lr, real_t alpha, real_t one_less_alpha,
    real_t eps, real_t decay, Py_ssize_t block,
) noexcept nogil:
    cdef Py_ssize_t i, start = block * UPDATE_BLOCK, stop = min(start + UPDATE_BLOCK, param.shape[0])
    cdef real_t g
    for i in range(start, stop):
        g = grad[i] + decay * param[i]
        square_avg[i] = alpha * square_avg[i] + one_less_alpha * g * g
        param[i] -= lr * g / (square_root(square_avg[i]) + eps)


def rmsprop_update(
    real_t[::1] param, const real_t[::1] grad, real_t[::1] square_avg, double lr, double alpha, double eps,
    double decay, int n_threads,
):
    cdef Py_ssize_t block, blocks = (param.shape[0] + UPDATE_BLOCK - 1) // UPDATE_BLOCK
    for block in prange(blocks, nogil=True, schedule="static", num_threads=n_threads):
        rmsprop_block(
            param, grad, square_avg, <real_t>lr, <real_t>alpha, <real_t>(1 - alpha), <real_t>eps, <real_t>decay, block
        )


cdef void adam_block(
    real_t[::1] param, const real_t[::1] grad, real_t[::1] m, real_t[::1] v, real_t decay, real_t shrink,
    real_t beta1, real_t one_less_beta1, real_t beta2, real_t one_less_beta2, real_t step_size, real_t root,
    real_t eps, Py_ssize_t block,
) noexcept nogil:
    cdef Py_ssize_t i, start = block * UPDATE_BLOCK, stop = min(start + UPDATE_BLOCK, param.shape[0])
    cdef real_t g
    for i in range(start, stop):
        g = grad[i] + decay * param[i]
        m[i] = beta1 * m[i] + one_less_beta1 * g
        v[i] = beta2 * v[i] + one_less_beta2 * g * g
        param[i] = shrink * param[i] - step_size * m[i] / (square_root(v[i]) / root + eps)


def adam_update(
    real_t[::1] param, const real_t[::1] grad, real_t[::1] m, real_t[::1] v, double decay, double shrink,
    double beta1, double beta2, double step_size, double root, double eps, int n_threads,
):
    # step_size = lr / (1 − beta1^t), root = √(1 − beta2^t), shrink = 1 − lr · weight decay where decoupled.
    cdef Py_ssize_t block, blocks = (param.shape[0] + UPDATE_BLOCK - 1) // UPDATE_BLOCK
    for block in prange(blocks, nogil=True, schedule="static", num_threads=n_threads):
        adam_block(
            param, grad, m, v, <real_t>decay, <real_t>shrink, <real_t>beta1, <real_t>(1 - beta1), <real_t>beta2,
            <real_t>(1 - beta2), <real_t>step_size, <real_t>root, <real_t>eps, block,
        )
