# Element-wise functions: y = f(x) and dx = dout · f′(x), over flat arrays cut into blocks of fixed size.
# Cost: one read (two backward) and one write of memory per element, and the function.

cdef extern from "mathfun.h" nogil:
    float pynn_exp_nonpositive(float x)
    double pynn_exp_nonpositive_double(double x)
    float pynn_tanhf(float x)
    float pynn_normal_cdff(float x, float e)

cdef enum:
    ACTIVATION_BLOCK = 8192  # elements a task: two blocks of float64 in and one out stay within L2

cdef enum:
    RELU
    LEAKY_RELU
    SIGMOID
    TANH
    GELU
    SILU

ACTIVATIONS = {
    "relu": RELU, "leaky_relu": LEAKY_RELU, "sigmoid": SIGMOID, "tanh": TANH, "gelu": GELU, "silu": SILU
}

cdef double SQRT_HALF = 0.70710678118654752440
cdef double DENSITY_AT_0 = 0.39894228040143267794  # 1/√(2π)


# The functions. Each is written so that NaN stays NaN and no argument overflows or cancels: e = exp(−|x|) ≤ 1.


cdef inline real_t relu(real_t x) noexcept nogil:
    return 0 if x <= 0 else x


cdef inline real_t exp_nonpositive(real_t x) noexcept nogil:
    return pynn_exp_nonpositive(x) if real_t is float else pynn_exp_nonpositive_double(x)


cdef inline real_t sigmoid(real_t x) noexcept nogil:
    cdef real_t e = exp_nonpositive(-abs(x))
    return (1 if x >= 0 else e) / (1 + e)


cdef inline real_t sigmoid_slope(real_t x) noexcept nogil:  # σ(x)·σ(−x)
    cdef real_t e = exp_nonpositive(-abs(x))
    return e / ((1 + e) * (1 + e))


cdef inline real_t tanh_value(real_t x) noexcept nogil:
    return pynn_tanhf(x) if real_t is float else tanh(x)


cdef inline real_t tanh_slope(real_t x) noexcept nogil:  # 1 − tanh² x
    return 4 * sigmoid_slope(2 * x)


cdef inline real_t bell(real_t x) noexcept nogil:
    return exp_nonpositive(-x * x / 2)


cdef inline real_t normal_cdf(real_t x) noexcept nogil:  # Φ(x)
    return pynn_normal_cdff(x, bell(x)) if real_t is float else 0.5 * erfc(-x * SQRT_HALF)


cdef inline real_t gelu_slope(real_t x) noexcept nogil:  # Φ(x) + x·φ(x)
    return normal_cdf(x) + x * bell(x) * <real_t>DENSITY_AT_0


cdef inline real_t silu_slope(real_t x) noexcept nogil:
    return sigmoid(x) * (1 + x * sigmoid(-x))


cdef void activate_block(
    int function, const real_t[::1] x, real_t[::1] out, real_t negative_slope, Py_ssize_t block
) noexcept nogil:
    cdef Py_ssize_t i, start = block * ACTIVATION_BLOCK, stop = min(start + ACTIVATION_BLOCK, x.shape[0])
    if function == RELU:
        for i in range(start, stop):
            out[i] = relu(x[i])
    elif function == LEAKY_RELU:
        for i in range(start, stop):
            out[i] = x[i] if x[i] > 0 else negative_slope * x[i]
    elif function == SIGMOID:
        for i in range(start, stop):
            out[i] = sigmoid(x[i])
    elif function == TANH:
        for i in range(start, stop):
            out[i] = tanh_value(x[i])
    elif function == GELU:
        for i in range(start, stop):
            out[i] = x[i] * normal_cdf(x[i])
    elif function == SILU:
        for i in range(start, stop):
            out[i] = x[i] * sigmoid(x[i])


cdef void activate_backward_block(
    int function, const real_t[::1] dout, const real_t[::1] x, real_t[::1] dx, real_t negative_slope, Py_ssize_t block
) noexcept nogil:
    cdef Py_ssize_t i, start = block * ACTIVATION_BLOCK, stop = min(start + ACTIVATION_BLOCK, x.shape[0])
    if function == RELU:
        for i in range(start, stop):
            dx[i] = dout[i] if x[i] > 0 else 0
    elif function == LEAKY_RELU:
        for i in range(start, stop):
            dx[i] = dout[i] if x[i] > 0 else negative_slope * dout[i]
    elif function == SIGMOID:
        for i in range(start, stop):
            dx[i] = dout[i] * sigmoid_slope(x[i])
    elif function == TANH:
        for i in range(start, stop):
            dx[i] = dout[i] * tanh_slope(x[i])
    elif function == GELU:
        for i in range(start, stop):
            dx[i] = dout[i] * gelu_slope(x[i])
    elif function == SILU:
        for i in range(start, stop):
            dx[i] = dout[i] * silu_slope(x[i])


def activation_forward(int function, const real_t[::1] x not None, real_t[::1] out not None, double negative_slope, int n_threads):
    cdef Py_ssize_t block, blocks = (x.shape[0] + ACTIVATION_BLOCK - 1) // ACTIVATION_BLOCK
    n_threads = team(n_threads)
    require(
        x.shape[0] == out.shape[0] and function in ACTIVATIONS.values(),
        "activation_forward",
    )
    for block in prange(blocks, nogil=True, schedule="static", num_threads=n_threads):
        activate_block(function, x, out, <real_t>negative_slope, block)


def activation_backward(
    int function, const real_t[::1] dout not None, const real_t[::1] x not None, real_t[::1] dx not None, double negative_slope, int n_threads
):
    cdef Py_ssize_t block, blocks = (x.shape[0] + ACTIVATION_BLOCK - 1) // ACTIVATION_BLOCK
    n_threads = team(n_threads)
    require(
        dout.shape[0] == x.shape[0] == dx.shape[0] and function in ACTIVATIONS.values(),
        "activation_backward",
    )
    for block in prange(blocks, nogil=True, schedule="static", num_threads=n_threads):
        activate_backward_block(function, dout, x, dx, <real_t>negative_slope, block)
