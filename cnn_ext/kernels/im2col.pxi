# im2col and its adjoint. Pixels are counted in *output rows*: row r is line r mod OH of image r div OH, so that a
# range of rows may be a part of one image or several whole ones. cols has one line per (channel, kernel tap).

cdef struct Window:
    Py_ssize_t channels, height, width, kernel_h, kernel_w, out_h, out_w
    Py_ssize_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w


cdef Window make_window(tuple image, tuple kernel, tuple out, tuple stride, tuple padding, tuple dilation):
    cdef Window w
    w.channels, w.height, w.width = image
    w.kernel_h, w.kernel_w = kernel
    w.out_h, w.out_w = out
    w.stride_h, w.stride_w = stride
    w.pad_h, w.pad_w = padding
    w.dilation_h, w.dilation_w = dilation
    return w


cdef inline Py_ssize_t first_inside(Py_ssize_t start, Py_ssize_t stride, Py_ssize_t count) noexcept nogil:
    """The first of `count` positions start, start + stride, … that is ≥ 0."""
    return 0 if start >= 0 else min(count, (-start + stride - 1) // stride)


cdef inline Py_ssize_t first_beyond(
    Py_ssize_t start, Py_ssize_t stride, Py_ssize_t count, Py_ssize_t size
) noexcept nogil:
    """The first of `count` positions start, start + stride, … that is ≥ size."""
    return 0 if start >= size else min(count, (size - start + stride - 1) // stride)


cdef void im2col_rows(
    const real_t* x, const Window* w, Py_ssize_t first, Py_ssize_t last, real_t* cols, Py_ssize_t ld
) noexcept nogil:
    """cols (C·KH·KW, row stride ld) = the pixels that each kernel tap meets on output rows first … last − 1."""
    cdef Py_ssize_t c, i, j, r, q, y, left, begin, end, image
    cdef const real_t* source
    cdef real_t* target
    for c in range(w.channels):
        for i in range(w.kernel_h):
            for j in range(w.kernel_w):
                left = j * w.dilation_w - w.pad_w
                begin = first_inside(left, w.stride_w, w.out_w)
                end = max(begin, first_beyond(left, w.stride_w, w.out_w, w.width))
                for r in range(first, last):
                    target = cols + (r - first) * w.out_w
                    image = r // w.out_h
                    y = (r - image * w.out_h) * w.stride_h - w.pad_h + i * w.dilation_h
                    if y < 0 or y >= w.height:
                        memset(target, 0, w.out_w * sizeof(real_t))
                        continue
                    source = x + ((image * w.channels + c) * w.height + y) * w.width + left
                    for q in range(begin):
                        target[q] = 0
                    if w.stride_w == 1:
                        for q in range(begin, end):
                            target[q] = source[q]
                    else:
                        for q in range(begin, end):
                            target[q] = source[q * w.stride_w]
                    for q in range(end, w.out_w):
                        target[q] = 0
                cols += ld


cdef void col2im_rows(
    const real_t* cols, Py_ssize_t ld, const Window* w, Py_ssize_t first, Py_ssize_t last, real_t* x
) noexcept nogil:
    """x += the adjoint of im2col_rows: each entry of cols is added to the pixel it was taken from."""
    cdef Py_ssize_t c, i, j, r, q, y, left, begin, end, image
    cdef const real_t* source
    cdef real_t* target
    for c in range(w.channels):
        for i in range(w.kernel_h):
            for j in range(w.kernel_w):
                left = j * w.dilation_w - w.pad_w
                begin = first_inside(left, w.stride_w, w.out_w)
                end = first_beyond(left, w.stride_w, w.out_w, w.width)
                for r in range(first, last):
                    image = r // w.out_h
                    y = (r - image * w.out_h) * w.stride_h - w.pad_h + i * w.dilation_h
                    if y < 0 or y >= w.height:
                        continue
                    source = cols + (r - first) * w.out_w
                    target = x + ((image * w.channels + c) * w.height + y) * w.width + left
                    if w.stride_w == 1:
                        for q in range(begin, end):
                            target[q] += source[q]
                    else:
                        for q in range(begin, end):
                            target[q * w.stride_w] += source[q]
                cols += ld


def im2col(
    const real_t[:, :, :, ::1] x, real_t[:, :, ::1] cols, tuple kernel, tuple out, tuple stride, tuple padding,
    tuple dilation, int n_threads,
):
    """cols (N, C·KH·KW, OH·OW) of x (N, C, H, W), an image a task."""
    cdef Py_ssize_t n
    cdef Window w = make_window((x.shape[1], x.shape[2], x.shape[3]), kernel, out, stride, padding, dilation)
    for n in prange(x.shape[0], nogil=True, schedule="static", num_threads=n_threads):
        im2col_rows(&x[0, 0, 0, 0], &w, n * w.out_h, (n + 1) * w.out_h, &cols[n, 0, 0], w.out_h * w.out_w)


def col2im(
    const real_t[:, :, ::1] cols, real_t[:, :, :, ::1] x, tuple kernel, tuple out, tuple stride, tuple padding,
    tuple dilation, int n_threads,
):
    """x (N, C, H, W), zeros on entry, += the entries of cols (N, C·KH·KW, OH·OW); an image a task."""
    cdef Py_ssize_t n
    cdef Window w = make_window((x.shape[1], x.shape[2], x.shape[3]), kernel, out, stride, padding, dilation)
    for n in prange(x.shape[0], nogil=True, schedule="static", num_threads=n_threads):
        col2im_rows(&cols[n, 0, 0], w.out_h * w.out_w, &w, n * w.out_h, (n + 1) * w.out_h, &x[0, 0, 0, 0])
