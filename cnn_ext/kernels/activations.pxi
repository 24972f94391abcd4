# Element-wise functions: y = f(x) and dx = dout · f′(x), over flat arrays cut into blocks of fixed size.
# Cost: one read (two backward) and one write of memory per element.

cdef enum:
    ACTIVATION_BLOCK = 8192  # elements a task: two blocks of float64 in and one out stay within L2


cdef inline real_t relu(real_t x) noexcept nogil:
    return 0 if x <= 0 else x  # written so that NaN stays NaN


cdef void relu_forward_block(const real_t[::1] x, real_t[::1] out, Py_ssize_t block) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(block * ACTIVATION_BLOCK, min((block + 1) * ACTIVATION_BLOCK, x.shape[0])):
        out[i] = relu(x[i])


cdef void relu_backward_block(
    const real_t[::1] dout, const real_t[::1] x, real_t[::1] dx, Py_ssize_t block
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(block * ACTIVATION_BLOCK, min((block + 1) * ACTIVATION_BLOCK, x.shape[0])):
        dx[i] = dout[i] if x[i] > 0 else 0


def relu_forward(const real_t[::1] x, real_t[::1] out, int n_threads):
    cdef Py_ssize_t block, blocks = (x.shape[0] + ACTIVATION_BLOCK - 1) // ACTIVATION_BLOCK
    for block in prange(blocks, nogil=True, schedule="static", num_threads=n_threads):
        relu_forward_block(x, out, block)


def relu_backward(const real_t[::1] dout, const real_t[::1] x, real_t[::1] dx, int n_threads):
    cdef Py_ssize_t block, blocks = (x.shape[0] + ACTIVATION_BLOCK - 1) // ACTIVATION_BLOCK
    for block in prange(blocks, nogil=True, schedule="static", num_threads=n_threads):
        relu_backward_block(dout, x, dx, block)
