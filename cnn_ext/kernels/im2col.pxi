# im2col and its adjoint. Pixels are counted in *output rows*: row r is line r mod OH of image r div OH, so that a
# range of rows may be a part of one image or several whole ones. cols has one line per (channel, kernel tap).

cdef struct Window:
    Py_ssize_t channels, height, width, kernel_h, kernel_w, out_h, out_w
    Py_ssize_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w


cdef Window make_window(tuple image, tuple kernel, tuple out, tuple stride, tuple padding, tuple dilation) except *:
    cdef Window w
    w.channels, w.height, w.width = image
    w.kernel_h, w.kernel_w = kernel
    w.out_h, w.out_w = out
    w.stride_h, w.stride_w = stride
    w.pad_h, w.pad_w = padding
    w.dilation_h, w.dilation_w = dilation
    if not (
        axis_has(w.height, w.kernel_h, w.out_h, w.stride_h, w.pad_h, w.dilation_h)
        and axis_has(w.width, w.kernel_w, w.out_w, w.stride_w, w.pad_w, w.dilation_w)
    ):
        raise ValueError(f"kernels: an output of {out} is not that of {kernel} taps on {image[1:]}")
    return w


cdef bint axis_has(
    Py_ssize_t size, Py_ssize_t taps, Py_ssize_t out, Py_ssize_t stride, Py_ssize_t pad, Py_ssize_t dilation
) noexcept:
    """Whether a window has so many places along an axis, none of its numbers being so large that sums overflow."""
    cdef Py_ssize_t most = <Py_ssize_t>1 << 31
    if not (1 <= stride <= most and 0 <= pad <= most and 1 <= dilation <= most and 1 <= size <= most and 1 <= taps <= most):
        return False
    return size + 2 * pad > dilation * (taps - 1) and out == (size + 2 * pad - dilation * (taps - 1) - 1) // stride + 1


cdef inline Py_ssize_t first_inside(Py_ssize_t start, Py_ssize_t stride, Py_ssize_t count) noexcept nogil:
    """The first of `count` positions start, start + stride, … that is ≥ 0."""
    return 0 if start >= 0 else min(count, (-start + stride - 1) // stride)


cdef inline Py_ssize_t first_beyond(
    Py_ssize_t start, Py_ssize_t stride, Py_ssize_t count, Py_ssize_t size
) noexcept nogil:
    """The first of `count` positions start, start + stride, … that is ≥ size."""
    return 0 if start >= size else min(count, (size - start + stride - 1) // stride)


cdef inline Py_ssize_t rows_in_image(Py_ssize_t row, Py_ssize_t last, Py_ssize_t out_h) noexcept nogil:
    """How many of the output rows row … last − 1 belong to the image of `row`."""
    return min(last, (row // out_h + 1) * out_h) - row


cdef inline bint rows_adjoin(const Window* w) noexcept nogil:
    """Whether a tap's pixels on consecutive output rows follow each other in the image as they do in cols.

    Then rows are copied as one run and the few entries beyond the left and right edge are put right afterwards,
    which on small images is several times faster than row by row.
    """
    return w.stride_h == 1 and w.stride_w == 1 and w.out_w == w.width


cdef void im2col_rows(
    const real_t* x, const Window* w, Py_ssize_t first, Py_ssize_t last, real_t* cols, Py_ssize_t ld
) noexcept nogil:
    """cols (C·KH·KW, row stride ld) = the pixels that each kernel tap meets on output rows first … last − 1."""
    cdef Py_ssize_t c, i, j, r, q, row, rows, top, left, begin, end, above, below, image
    cdef const real_t* source
    cdef real_t* target
    for c in range(w.channels):
        for i in range(w.kernel_h):
            for j in range(w.kernel_w):
                left = j * w.dilation_w - w.pad_w
                begin = first_inside(left, w.stride_w, w.out_w)
                end = max(begin, first_beyond(left, w.stride_w, w.out_w, w.width))
                row = first
                while row < last:  # an image, or the part of it at hand, at a time
                    image = row // w.out_h
                    rows = rows_in_image(row, last, w.out_h)
                    top = row % w.out_h * w.stride_h - w.pad_h + i * w.dilation_h
                    above = first_inside(top, w.stride_h, rows)
                    below = max(above, first_beyond(top, w.stride_h, rows, w.height))
                    target = cols + (row - first) * w.out_w
                    for q in range(above * w.out_w):
                        target[q] = 0
                    for q in range(below * w.out_w, rows * w.out_w):
                        target[q] = 0
                    source = x + ((image * w.channels + c) * w.height + top) * w.width + left
                    if begin < end and rows_adjoin(w):
                        for q in range(above * w.width + begin, below * w.width - (w.width - end)):
                            target[q] = source[q]
                        for q in range(begin):
                            for r in range(above, below):
                                target[r * w.width + q] = 0
                        for q in range(end, w.width):
                            for r in range(above, below):
                                target[r * w.width + q] = 0
                    else:
                        for r in range(above, below):
                            for q in range(begin):
                                target[r * w.out_w + q] = 0
                            for q in range(begin, end):
                                target[r * w.out_w + q] = source[r * w.stride_h * w.width + q * w.stride_w]
                            for q in range(end, w.out_w):
                                target[r * w.out_w + q] = 0
                    row += rows
                cols += ld


cdef void col2im_rows(
    real_t* cols, Py_ssize_t ld, const Window* w, Py_ssize_t first, Py_ssize_t last, real_t* x
) noexcept nogil:
    """x += the adjoint of im2col_rows: each entry of cols is added to the pixel it was taken from.

    Uses cols up: its entries that stand for padding may be set to zero.
    """
    cdef Py_ssize_t c, i, j, r, q, row, rows, top, left, begin, end, above, below, image
    cdef real_t* source
    cdef real_t* target
    for c in range(w.channels):
        for i in range(w.kernel_h):
            for j in range(w.kernel_w):
                left = j * w.dilation_w - w.pad_w
                begin = first_inside(left, w.stride_w, w.out_w)
                end = max(begin, first_beyond(left, w.stride_w, w.out_w, w.width))
                row = first
                while row < last:
                    image = row // w.out_h
                    rows = rows_in_image(row, last, w.out_h)
                    top = row % w.out_h * w.stride_h - w.pad_h + i * w.dilation_h
                    above = first_inside(top, w.stride_h, rows)
                    below = max(above, first_beyond(top, w.stride_h, rows, w.height))
                    source = cols + (row - first) * w.out_w
                    target = x + ((image * w.channels + c) * w.height + top) * w.width + left
                    if begin < end and rows_adjoin(w):
                        for q in range(begin):
                            for r in range(above, below):
                                source[r * w.width + q] = 0
                        for q in range(end, w.width):
                            for r in range(above, below):
                                source[r * w.width + q] = 0
                        for q in range(above * w.width + begin, below * w.width - (w.width - end)):
                            target[q] += source[q]
                    else:
                        for r in range(above, below):
                            for q in range(begin, end):
                                target[r * w.stride_h * w.width + q * w.stride_w] += source[r * w.out_w + q]
                    row += rows
                cols += ld


def im2col(
    const real_t[:, :, :, ::1] x not None, real_t[:, :, ::1] cols not None, tuple kernel not None, tuple out not None,
    tuple stride not None, tuple padding not None,
    tuple dilation not None, int n_threads,
):
    """cols (N, C·KH·KW, OH·OW) of x (N, C, H, W), an image a task."""
    cdef Py_ssize_t n
    cdef Window w = make_window((x.shape[1], x.shape[2], x.shape[3]), kernel, out, stride, padding, dilation)
    n_threads = team(n_threads)
    require(
        x.shape[0] and (cols.shape[0], cols.shape[1], cols.shape[2]) == (x.shape[0], w.channels * w.kernel_h * w.kernel_w, w.out_h * w.out_w),
        "im2col",
    )
    for n in prange(x.shape[0], nogil=True, schedule="static", num_threads=n_threads):
        im2col_rows(&x[0, 0, 0, 0], &w, n * w.out_h, (n + 1) * w.out_h, &cols[n, 0, 0], w.out_h * w.out_w)


def col2im(
    real_t[:, :, ::1] cols not None, real_t[:, :, :, ::1] x not None, tuple kernel not None, tuple out not None,
    tuple stride not None, tuple padding not None,
    tuple dilation not None, int n_threads,
):
    """x (N, C, H, W), zeros on entry, += the entries of cols (N, C·KH·KW, OH·OW), which is used up; an image a task."""
    cdef Py_ssize_t n
    cdef Window w = make_window((x.shape[1], x.shape[2], x.shape[3]), kernel, out, stride, padding, dilation)
    n_threads = team(n_threads)
    require(
        x.shape[0] and (cols.shape[0], cols.shape[1], cols.shape[2]) == (x.shape[0], w.channels * w.kernel_h * w.kernel_w, w.out_h * w.out_w),
        "col2im",
    )
    for n in prange(x.shape[0], nogil=True, schedule="static", num_threads=n_threads):
        col2im_rows(&cols[n, 0, 0], w.out_h * w.out_w, &w, n * w.out_h, (n + 1) * w.out_h, &x[0, 0, 0, 0])
