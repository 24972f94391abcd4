# Pooling over planes: x (N·C, H, W), out (N·C, OH, OW). One task is one plane, which owns its outputs.
# Cost: KH·KW comparisons or additions an output pixel; memory-bound for the usual 2×2.


cdef inline bint beats(real_t a, real_t best) noexcept nogil:
    # NaN beats numbers; the first of equals stays.
    return a > best or (a != a and best == best)


cdef void max_pool_plane(
    const real_t[:, :, ::1] x, real_t[:, :, ::1] out, int64_t[:, :, ::1] argmax, Py_ssize_t p,
    Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t sh, Py_ssize_t sw, Py_ssize_t ph, Py_ssize_t pw,
) noexcept nogil:
    cdef Py_ssize_t oh, ow, h, w, top, bottom, left, right
    cdef int64_t where
    cdef real_t best
    for oh in range(out.shape[1]):
        top, bottom = max(oh * sh - ph, 0), min(oh * sh - ph + kh, x.shape[1])
        for ow in range(out.shape[2]):
            left, right = max(ow * sw - pw, 0), min(ow * sw - pw + kw, x.shape[2])
            best, where = x[p, top, left], top * x.shape[2] + left
            for h in range(top, bottom):
                for w in range(left, right):
                    if beats(x[p, h, w], best):
                        best, where = x[p, h, w], h * x.shape[2] + w
            out[p, oh, ow] = best
            argmax[p, oh, ow] = where


cdef void max_pool_plane_2x2(
    const real_t[:, :, ::1] x, real_t[:, :, ::1] out, int64_t[:, :, ::1] argmax, Py_ssize_t p
) noexcept nogil:
    # The usual case, windows 2×2 side by side, without a branch: the compiler vectorises it.
    cdef Py_ssize_t oh, ow, corner, width = x.shape[2]
    cdef real_t a, b, c, d, best
    cdef Py_ssize_t where
    for oh in range(out.shape[1]):
        for ow in range(out.shape[2]):
            corner = 2 * oh * width + 2 * ow
            a, b = x[p, 2 * oh, 2 * ow], x[p, 2 * oh, 2 * ow + 1]
            c, d = x[p, 2 * oh + 1, 2 * ow], x[p, 2 * oh + 1, 2 * ow + 1]
            where = 1 if beats(b, a) else 0
            best = b if beats(b, a) else a
            where = width if beats(c, best) else where
            best = c if beats(c, best) else best
            where = width + 1 if beats(d, best) else where
            best = d if beats(d, best) else best
            out[p, oh, ow] = best
            argmax[p, oh, ow] = corner + where


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
