# Pooling over planes: x (N·C, H, W), out (N·C, OH, OW). One task is one plane, which owns its outputs.
# Cost: KH·KW comparisons or additions an output pixel; memory-bound for the usual 2×2.

cdef enum:
    STRIP = 64  # neighbouring outputs whose maxima are held at once, in local arrays that nothing can alias


cdef inline bint beats(real_t a, real_t best) noexcept nogil:
    return (a > best) | (a != a)  # the first of equals stays, any NaN wins; without a branch, to vectorise


cdef inline void keep_larger(
    const real_t* x, Py_ssize_t stride, int32_t index, real_t* best, int32_t* where, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t k
    cdef int32_t here
    cdef bint larger
    for k in range(count):
        here = index + <int32_t>k * <int32_t>stride
        larger = beats(x[k * stride], best[k])
        best[k] = x[k * stride] if larger else best[k]
        where[k] = here if larger else where[k]


cdef void max_pool_strip(
    const real_t[:, :, ::1] x, real_t[:, :, ::1] out, int64_t[:, :, ::1] argmax, Py_ssize_t p, Py_ssize_t oh,
    Py_ssize_t start, Py_ssize_t each, Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t sh, Py_ssize_t sw, Py_ssize_t ph, Py_ssize_t pw,
) noexcept nogil:
    # Outputs `start` … of row `oh`: the strip takes up one pixel of all its windows after the other.
    cdef Py_ssize_t count = min(each, out.shape[2] - start), width = x.shape[2], left = start * sw - pw
    cdef Py_ssize_t top = max(oh * sh - ph, 0), bottom = min(oh * sh - ph + kh, x.shape[1])
    cdef Py_ssize_t h, j, k, first, last, column
    cdef int32_t index  # planes have fewer than 2³¹ pixels
    cdef real_t[STRIP] best
    cdef int32_t[STRIP] where
    for k in range(count):
        best[k] = -INFINITY
        where[k] = <int32_t>(top * width + max(left + k * sw, 0))
    for h in range(top, bottom):
        for j in range(max(-left - (count - 1) * sw, 0), min(width - left, kw)):
            first = (max(-left - j, 0) + sw - 1) // sw  # windows first … last − 1 have column j inside the image
            last = min((width - 1 - left - j) // sw + 1, count)
            if first >= last:
                continue
            column = left + j + first * sw
            index = <int32_t>(h * width + column)
            if sw == 1:  # constant strides, for the compiler
                keep_larger(&x[p, h, column], 1, index, best + first, where + first, last - first)
            elif sw == 2:
                keep_larger(&x[p, h, column], 2, index, best + first, where + first, last - first)
            else:
                keep_larger(&x[p, h, column], sw, index, best + first, where + first, last - first)
    for k in range(count):
        out[p, oh, start + k] = best[k]
        argmax[p, oh, start + k] = where[k]


cdef void max_pool_plane(
    const real_t[:, :, ::1] x, real_t[:, :, ::1] out, int64_t[:, :, ::1] argmax, Py_ssize_t p,
    Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t sh, Py_ssize_t sw, Py_ssize_t ph, Py_ssize_t pw,
) noexcept nogil:
    # Windows far apart have no neighbouring pixels to take up side by side.
    cdef Py_ssize_t oh, strip, each = STRIP if sw <= STRIP else 1
    for oh in range(out.shape[1]):
        for strip in range((out.shape[2] + each - 1) // each):
            max_pool_strip(x, out, argmax, p, oh, strip * each, each, kh, kw, sh, sw, ph, pw)


cdef void max_pool_plane_2x2(
    const real_t[:, :, ::1] x, real_t[:, :, ::1] out, int64_t[:, :, ::1] argmax, Py_ssize_t p
) noexcept nogil:
    # The usual case, windows of 2×2 side by side, three times as fast with the four pixels at hand.
    cdef Py_ssize_t oh, ow, corner
    cdef int32_t here, below = <int32_t>x.shape[2]
    cdef real_t a, b, c, d
    for oh in range(out.shape[1]):
        for ow in range(out.shape[2]):
            a, b = x[p, 2 * oh, 2 * ow], x[p, 2 * oh, 2 * ow + 1]
            c, d = x[p, 2 * oh + 1, 2 * ow], x[p, 2 * oh + 1, 2 * ow + 1]
            here = 1 if beats(b, a) else 0
            a = b if beats(b, a) else a
            here = below if beats(c, a) else here
            a = c if beats(c, a) else a
            here = below + 1 if beats(d, a) else here
            out[p, oh, ow] = d if beats(d, a) else a
            argmax[p, oh, ow] = 2 * oh * x.shape[2] + 2 * ow + here


cdef bint pool_fits(
    Py_ssize_t planes, Py_ssize_t height, Py_ssize_t width, Py_ssize_t out_planes, Py_ssize_t out_h, Py_ssize_t out_w,
    Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t sh, Py_ssize_t sw, Py_ssize_t ph, Py_ssize_t pw,
) noexcept:
    return (
        planes == out_planes and axis_has(height, kh, out_h, sh, ph, 1) and axis_has(width, kw, out_w, sw, pw, 1)
        and ph < kh and pw < kw and <double>height * width < 2147483648.0
    )


def max_pool2d_forward(
    const real_t[:, :, ::1] x not None, real_t[:, :, ::1] out not None, int64_t[:, :, ::1] argmax not None,
    Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t sh, Py_ssize_t sw, Py_ssize_t ph, Py_ssize_t pw, int n_threads,
):
    cdef Py_ssize_t p
    n_threads = team(n_threads)
    require(
        x.shape[0] and pool_fits(x.shape[0], x.shape[1], x.shape[2], out.shape[0], out.shape[1], out.shape[2], kh, kw, sh, sw, ph, pw)
        and (argmax.shape[0], argmax.shape[1], argmax.shape[2]) == (out.shape[0], out.shape[1], out.shape[2]),
        "max_pool2d_forward",
    )
    if kh == kw == sh == sw == 2 and ph == pw == 0:
        for p in prange(x.shape[0], nogil=True, schedule="static", num_threads=n_threads):
            max_pool_plane_2x2(x, out, argmax, p)
    else:
        for p in prange(x.shape[0], nogil=True, schedule="static", num_threads=n_threads):
            max_pool_plane(x, out, argmax, p, kh, kw, sh, sw, ph, pw)


cdef Py_ssize_t max_unpool_plane(
    const real_t[:, ::1] dout, const int64_t[:, ::1] argmax, real_t[:, ::1] dx, Py_ssize_t p
) noexcept nogil:
    # Returns how many entries of argmax lie outside the plane; they are not written.
    cdef Py_ssize_t i, outside = 0
    for i in range(dx.shape[1]):
        dx[p, i] = 0
    for i in range(dout.shape[1]):
        if 0 <= argmax[p, i] < dx.shape[1]:
            dx[p, argmax[p, i]] += dout[p, i]
        else:
            outside += 1
    return outside


def max_pool2d_backward(const real_t[:, ::1] dout not None, const int64_t[:, ::1] argmax not None, real_t[:, ::1] dx not None, int n_threads):
    cdef Py_ssize_t p, outside = 0
    n_threads = team(n_threads)
    require(
        (dout.shape[0], dout.shape[1]) == (argmax.shape[0], argmax.shape[1]) and dout.shape[0] == dx.shape[0],
        "max_pool2d_backward",
    )
    for p in prange(dx.shape[0], nogil=True, schedule="static", num_threads=n_threads):
        outside += max_unpool_plane(dout, argmax, dx, p)
    return outside


cdef void avg_pool_plane(
    const real_t[:, :, ::1] x, real_t[:, :, ::1] out, Py_ssize_t p,
    Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t sh, Py_ssize_t sw, Py_ssize_t ph, Py_ssize_t pw,
) noexcept nogil:
    cdef Py_ssize_t oh, ow, h, w, top, bottom, left, right
    cdef double total, area = <double>kh * kw
    for oh in range(out.shape[1]):
        top, bottom = max(oh * sh - ph, 0), min(oh * sh - ph + kh, x.shape[1])
        for ow in range(out.shape[2]):
            left, right = max(ow * sw - pw, 0), min(ow * sw - pw + kw, x.shape[2])
            total = 0
            for h in range(top, bottom):
                for w in range(left, right):
                    total = total + x[p, h, w]
            out[p, oh, ow] = <real_t>(total / area)


def avg_pool2d_forward(
    const real_t[:, :, ::1] x not None, real_t[:, :, ::1] out not None,
    Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t sh, Py_ssize_t sw, Py_ssize_t ph, Py_ssize_t pw, int n_threads,
):
    cdef Py_ssize_t p
    n_threads = team(n_threads)
    require(
        x.shape[0] and pool_fits(x.shape[0], x.shape[1], x.shape[2], out.shape[0], out.shape[1], out.shape[2], kh, kw, sh, sw, ph, pw),
        "avg_pool2d_forward",
    )
    for p in prange(x.shape[0], nogil=True, schedule="static", num_threads=n_threads):
        avg_pool_plane(x, out, p, kh, kw, sh, sw, ph, pw)


cdef void avg_unpool_plane(
    const real_t[:, :, ::1] dout, real_t[:, :, ::1] dx, Py_ssize_t p,
    Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t sh, Py_ssize_t sw, Py_ssize_t ph, Py_ssize_t pw,
) noexcept nogil:
    cdef Py_ssize_t oh, ow, h, w, top, bottom, left, right
    cdef real_t share, area = <real_t>(<double>kh * kw)
    for h in range(dx.shape[1]):
        for w in range(dx.shape[2]):
            dx[p, h, w] = 0
    for oh in range(dout.shape[1]):
        top, bottom = max(oh * sh - ph, 0), min(oh * sh - ph + kh, dx.shape[1])
        for ow in range(dout.shape[2]):
            left, right = max(ow * sw - pw, 0), min(ow * sw - pw + kw, dx.shape[2])
            share = dout[p, oh, ow] / area
            for h in range(top, bottom):
                for w in range(left, right):
                    dx[p, h, w] += share


def avg_pool2d_backward(
    const real_t[:, :, ::1] dout not None, real_t[:, :, ::1] dx not None,
    Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t sh, Py_ssize_t sw, Py_ssize_t ph, Py_ssize_t pw, int n_threads,
):
    cdef Py_ssize_t p
    n_threads = team(n_threads)
    require(
        dx.shape[0] and pool_fits(dx.shape[0], dx.shape[1], dx.shape[2], dout.shape[0], dout.shape[1], dout.shape[2], kh, kw, sh, sw, ph, pw),
        "avg_pool2d_backward",
    )
    for p in prange(dx.shape[0], nogil=True, schedule="static", num_threads=n_threads):
        avg_unpool_plane(dout, dx, p, kh, kw, sh, sw, ph, pw)
