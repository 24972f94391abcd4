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
    Py_ssize_t start, Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t sh, Py_ssize_t sw, Py_ssize_t ph, Py_ssize_t pw,
) noexcept nogil:
    # Outputs `start` … of row `oh`: the strip takes up one pixel of all its windows after the other.
    cdef Py_ssize_t count = min(STRIP, out.shape[2] - start), width = x.shape[2], left = start * sw - pw
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
    cdef Py_ssize_t oh, strip
    for oh in range(out.shape[1]):
        for strip in range((out.shape[2] + STRIP - 1) // STRIP):
            max_pool_strip(x, out, argmax, p, oh, strip * STRIP, kh, kw, sh, sw, ph, pw)


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


def max_pool2d_forward(
    const real_t[:, :, ::1] x, real_t[:, :, ::1] out, int64_t[:, :, ::1] argmax,
    Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t sh, Py_ssize_t sw, Py_ssize_t ph, Py_ssize_t pw, int n_threads,
):
    cdef Py_ssize_t p
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


def max_pool2d_backward(const real_t[:, ::1] dout, const int64_t[:, ::1] argmax, real_t[:, ::1] dx, int n_threads):
    cdef Py_ssize_t p, outside = 0
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
    const real_t[:, :, ::1] x, real_t[:, :, ::1] out,
    Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t sh, Py_ssize_t sw, Py_ssize_t ph, Py_ssize_t pw, int n_threads,
):
    cdef Py_ssize_t p
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
    const real_t[:, :, ::1] dout, real_t[:, :, ::1] dx,
    Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t sh, Py_ssize_t sw, Py_ssize_t ph, Py_ssize_t pw, int n_threads,
):
    cdef Py_ssize_t p
    for p in prange(dx.shape[0], nogil=True, schedule="static", num_threads=n_threads):
        avg_unpool_plane(dout, dx, p, kh, kw, sh, sw, ph, pw)
