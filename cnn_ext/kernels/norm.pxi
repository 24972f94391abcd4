# Batch normalisation. Images come as (N, C, H·W), one task a channel; feature vectors as (N, C), one task a block
# of channels, so that both run along contiguous memory. A task owns the sums of its channels and takes them in
# float64 in a fixed order: first the mean, then the squares around it, so a large mean costs no accuracy.
# Cost: three passes over x forward, two over x and dout backward, mostly from cache.

cdef enum:
    LANES = 8  # partial sums of a channel: independent, so that they vectorise
    NORM_COLUMNS = 32  # channels a task of the (N, C) kernels


cdef inline double lanes_total(const double* lanes) noexcept nogil:
    cdef Py_ssize_t k
    cdef double total = 0
    for k in range(LANES):
        total = total + lanes[k]
    return total


cdef double channel_mean(const real_t[:, :, ::1] x, Py_ssize_t c) noexcept nogil:
    cdef Py_ssize_t n, i, k, chunks = x.shape[2] // LANES, tail = x.shape[2] % LANES
    cdef double[LANES] lanes
    for k in range(LANES):
        lanes[k] = 0
    for n in range(x.shape[0]):
        for i in range(chunks):
            for k in range(LANES):
                lanes[k] += x[n, c, i * LANES + k]
        for k in range(tail):
            lanes[k] += x[n, c, chunks * LANES + k]
    return lanes_total(lanes) / (x.shape[0] * x.shape[2])


cdef double channel_variance(const real_t[:, :, ::1] x, Py_ssize_t c, double mean) noexcept nogil:
    cdef Py_ssize_t n, i, k, chunks = x.shape[2] // LANES, tail = x.shape[2] % LANES
    cdef double[LANES] lanes
    for k in range(LANES):
        lanes[k] = 0
    for n in range(x.shape[0]):
        for i in range(chunks):
            for k in range(LANES):
                lanes[k] += (x[n, c, i * LANES + k] - mean) * (x[n, c, i * LANES + k] - mean)
        for k in range(tail):
            lanes[k] += (x[n, c, chunks * LANES + k] - mean) * (x[n, c, chunks * LANES + k] - mean)
    return lanes_total(lanes) / (x.shape[0] * x.shape[2])


cdef void batch_norm_channel(
    const real_t[:, :, ::1] x, const real_t[::1] weight, const real_t[::1] bias, real_t[:, :, ::1] out,
    real_t[::1] mean, real_t[::1] var, double eps, Py_ssize_t c,
) noexcept nogil:
    cdef Py_ssize_t n, i
    cdef double mu = channel_mean(x, c), sigma2 = channel_variance(x, c, mu)
    cdef real_t centre = <real_t>mu, scale = <real_t>(weight[c] / sqrt(sigma2 + eps))
    # What rounding μ to real_t lost is put back through the shift.
    cdef real_t shift = <real_t>(bias[c] - (mu - centre) * scale)
    mean[c], var[c] = centre, <real_t>sigma2
    for n in range(x.shape[0]):
        for i in range(x.shape[2]):
            out[n, c, i] = (x[n, c, i] - centre) * scale + shift


def batch_norm_forward(
    const real_t[:, :, ::1] x not None, const real_t[::1] weight not None, const real_t[::1] bias not None, real_t[:, :, ::1] out not None,
    real_t[::1] mean not None, real_t[::1] var not None, double eps, int n_threads,
):
    cdef Py_ssize_t c
    n_threads = team(n_threads)
    require(
        (x.shape[0], x.shape[1], x.shape[2]) == (out.shape[0], out.shape[1], out.shape[2])
        and x.shape[1] == weight.shape[0] == bias.shape[0] == mean.shape[0] == var.shape[0],
        "batch_norm_forward",
    )
    for c in prange(x.shape[1], nogil=True, schedule="static", num_threads=n_threads):
        batch_norm_channel(x, weight, bias, out, mean, var, eps, c)


cdef void batch_norm_columns(
    const real_t[:, ::1] x, const real_t[::1] weight, const real_t[::1] bias, real_t[:, ::1] out,
    real_t[::1] mean, real_t[::1] var, double eps, Py_ssize_t block,
) noexcept nogil:
    cdef Py_ssize_t n, k, first = block * NORM_COLUMNS, columns = min(NORM_COLUMNS, x.shape[1] - first)
    cdef double[NORM_COLUMNS] mu
    cdef double[NORM_COLUMNS] sigma2
    cdef real_t[NORM_COLUMNS] scale
    cdef real_t[NORM_COLUMNS] shift
    for k in range(columns):
        mu[k] = sigma2[k] = 0
    for n in range(x.shape[0]):
        for k in range(columns):
            mu[k] += x[n, first + k]
    for k in range(columns):
        mu[k] /= x.shape[0]
    for n in range(x.shape[0]):
        for k in range(columns):
            sigma2[k] += (x[n, first + k] - mu[k]) * (x[n, first + k] - mu[k])
    for k in range(columns):
        sigma2[k] /= x.shape[0]
        mean[first + k], var[first + k] = <real_t>mu[k], <real_t>sigma2[k]
        scale[k] = <real_t>(weight[first + k] / sqrt(sigma2[k] + eps))
        shift[k] = <real_t>(bias[first + k] - (mu[k] - mean[first + k]) * scale[k])
    for n in range(x.shape[0]):
        for k in range(columns):
            out[n, first + k] = (x[n, first + k] - mean[first + k]) * scale[k] + shift[k]


def batch_norm_columns_forward(
    const real_t[:, ::1] x not None, const real_t[::1] weight not None, const real_t[::1] bias not None, real_t[:, ::1] out not None,
    real_t[::1] mean not None, real_t[::1] var not None, double eps, int n_threads,
):
    cdef Py_ssize_t block, blocks = (x.shape[1] + NORM_COLUMNS - 1) // NORM_COLUMNS
    n_threads = team(n_threads)
    require(
        (x.shape[0], x.shape[1]) == (out.shape[0], out.shape[1])
        and x.shape[1] == weight.shape[0] == bias.shape[0] == mean.shape[0] == var.shape[0],
        "batch_norm_columns_forward",
    )
    for block in prange(blocks, nogil=True, schedule="static", num_threads=n_threads):
        batch_norm_columns(x, weight, bias, out, mean, var, eps, block)


cdef void normalise_image(
    const real_t[:, :, ::1] x, const real_t[::1] mean, const real_t[::1] scale, const real_t[::1] bias,
    real_t[:, :, ::1] out, Py_ssize_t n,
) noexcept nogil:
    cdef Py_ssize_t c, i
    for c in range(x.shape[1]):
        for i in range(x.shape[2]):
            out[n, c, i] = (x[n, c, i] - mean[c]) * scale[c] + bias[c]


def batch_norm_inference(
    const real_t[:, :, ::1] x not None, const real_t[::1] mean not None, const real_t[::1] scale not None, const real_t[::1] bias not None,
    real_t[:, :, ::1] out not None, int n_threads,
):
    cdef Py_ssize_t n
    n_threads = team(n_threads)
    require(
        (x.shape[0], x.shape[1], x.shape[2]) == (out.shape[0], out.shape[1], out.shape[2])
        and x.shape[1] == mean.shape[0] == scale.shape[0] == bias.shape[0],
        "batch_norm_inference",
    )
    for n in prange(x.shape[0], nogil=True, schedule="static", num_threads=n_threads):
        normalise_image(x, mean, scale, bias, out, n)


cdef void normalise_row(
    const real_t[:, ::1] x, const real_t[::1] mean, const real_t[::1] scale, const real_t[::1] bias,
    real_t[:, ::1] out, Py_ssize_t n,
) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(x.shape[1]):
        out[n, c] = (x[n, c] - mean[c]) * scale[c] + bias[c]


def batch_norm_columns_inference(
    const real_t[:, ::1] x not None, const real_t[::1] mean not None, const real_t[::1] scale not None, const real_t[::1] bias not None,
    real_t[:, ::1] out not None, int n_threads,
):
    cdef Py_ssize_t n
    n_threads = team(n_threads)
    require(
        (x.shape[0], x.shape[1]) == (out.shape[0], out.shape[1])
        and x.shape[1] == mean.shape[0] == scale.shape[0] == bias.shape[0],
        "batch_norm_columns_inference",
    )
    for n in prange(x.shape[0], nogil=True, schedule="static", num_threads=n_threads):
        normalise_row(x, mean, scale, bias, out, n)


# Backward, with s = 1/√(σ² + eps) and M values a channel: the two sums D = Σ dout and E = Σ dout·(x − μ) give
# dbias = D, dweight = E·s and dx = weight·s · (dout − D/M − (x − μ)·s²·E/M) = dout·a − (x − μ)·b − c.

cdef void batch_norm_channel_backward(
    const real_t[:, :, ::1] dout, const real_t[:, :, ::1] x, const real_t[::1] weight, const real_t[::1] mean,
    const real_t[::1] var, real_t[:, :, ::1] dx, real_t[::1] dweight, real_t[::1] dbias, double eps, Py_ssize_t c,
) noexcept nogil:
    cdef Py_ssize_t n, i, k, chunks = x.shape[2] // LANES, tail = x.shape[2] % LANES
    cdef double[LANES] d_lanes
    cdef double[LANES] e_lanes
    cdef double d, e, m = x.shape[0] * x.shape[2], mu = mean[c], s = 1 / sqrt(var[c] + eps)
    cdef real_t a, b, shift, centre = mean[c]
    for k in range(LANES):
        d_lanes[k] = e_lanes[k] = 0
    for n in range(x.shape[0]):
        for i in range(chunks):
            for k in range(LANES):
                d_lanes[k] += dout[n, c, i * LANES + k]
                e_lanes[k] += dout[n, c, i * LANES + k] * (x[n, c, i * LANES + k] - mu)
        for k in range(tail):
            d_lanes[k] += dout[n, c, chunks * LANES + k]
            e_lanes[k] += dout[n, c, chunks * LANES + k] * (x[n, c, chunks * LANES + k] - mu)
    d, e = lanes_total(d_lanes), lanes_total(e_lanes)
    dweight[c], dbias[c] = <real_t>(e * s), <real_t>d
    a, b, shift = <real_t>(weight[c] * s), <real_t>(weight[c] * s * s * s * e / m), <real_t>(weight[c] * s * d / m)
    for n in range(x.shape[0]):
        for i in range(x.shape[2]):
            dx[n, c, i] = dout[n, c, i] * a - (x[n, c, i] - centre) * b - shift


def batch_norm_backward(
    const real_t[:, :, ::1] dout not None, const real_t[:, :, ::1] x not None, const real_t[::1] weight not None, const real_t[::1] mean not None,
    const real_t[::1] var not None, real_t[:, :, ::1] dx not None, real_t[::1] dweight not None, real_t[::1] dbias not None, double eps, int n_threads,
):
    cdef Py_ssize_t c
    n_threads = team(n_threads)
    require(
        (x.shape[0], x.shape[1], x.shape[2]) == (dout.shape[0], dout.shape[1], dout.shape[2]) == (dx.shape[0], dx.shape[1], dx.shape[2])
        and x.shape[1] == weight.shape[0] == mean.shape[0] == var.shape[0] == dweight.shape[0] == dbias.shape[0],
        "batch_norm_backward",
    )
    for c in prange(x.shape[1], nogil=True, schedule="static", num_threads=n_threads):
        batch_norm_channel_backward(dout, x, weight, mean, var, dx, dweight, dbias, eps, c)


cdef void batch_norm_columns_backward_block(
    const real_t[:, ::1] dout, const real_t[:, ::1] x, const real_t[::1] weight, const real_t[::1] mean,
    const real_t[::1] var, real_t[:, ::1] dx, real_t[::1] dweight, real_t[::1] dbias, double eps, Py_ssize_t block,
) noexcept nogil:
    cdef Py_ssize_t n, k, first = block * NORM_COLUMNS, columns = min(NORM_COLUMNS, x.shape[1] - first)
    cdef double[NORM_COLUMNS] d
    cdef double[NORM_COLUMNS] e
    cdef real_t[NORM_COLUMNS] a
    cdef real_t[NORM_COLUMNS] b
    cdef real_t[NORM_COLUMNS] shift
    cdef double s, m = x.shape[0]
    for k in range(columns):
        d[k] = e[k] = 0
    for n in range(x.shape[0]):
        for k in range(columns):
            d[k] += dout[n, first + k]
            e[k] += dout[n, first + k] * (<double>x[n, first + k] - mean[first + k])
    for k in range(columns):
        s = 1 / sqrt(var[first + k] + eps)
        dweight[first + k], dbias[first + k] = <real_t>(e[k] * s), <real_t>d[k]
        a[k], shift[k] = <real_t>(weight[first + k] * s), <real_t>(weight[first + k] * s * d[k] / m)
        b[k] = <real_t>(weight[first + k] * s * s * s * e[k] / m)
    for n in range(x.shape[0]):
        for k in range(columns):
            dx[n, first + k] = dout[n, first + k] * a[k] - (x[n, first + k] - mean[first + k]) * b[k] - shift[k]


def batch_norm_columns_backward(
    const real_t[:, ::1] dout not None, const real_t[:, ::1] x not None, const real_t[::1] weight not None, const real_t[::1] mean not None,
    const real_t[::1] var not None, real_t[:, ::1] dx not None, real_t[::1] dweight not None, real_t[::1] dbias not None, double eps, int n_threads,
):
    cdef Py_ssize_t block, blocks = (x.shape[1] + NORM_COLUMNS - 1) // NORM_COLUMNS
    n_threads = team(n_threads)
    require(
        (x.shape[0], x.shape[1]) == (dout.shape[0], dout.shape[1]) == (dx.shape[0], dx.shape[1])
        and x.shape[1] == weight.shape[0] == mean.shape[0] == var.shape[0] == dweight.shape[0] == dbias.shape[0],
        "batch_norm_columns_backward",
    )
    for block in prange(blocks, nogil=True, schedule="static", num_threads=n_threads):
        batch_norm_columns_backward_block(dout, x, weight, mean, var, dx, dweight, dbias, eps, block)
