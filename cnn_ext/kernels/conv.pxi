# Convolution as im2col and matrix products, a few output rows at a time so that the columns stay in L2:
#
#   forward            out     = weight (F × K) · cols (K × P)
#   backward, data     dcols   = weightᵀ (K × F) · dout (F × P), then col2im
#   backward, weights  dweight += dout (F × P) · colsᵀ (P × K)
#
# with K = C·KH·KW and P the pixels of the rows at hand. Forward: a range of rows is a task and owns its part of out; a
# row too wide for its columns to stay in memory of moderate size is cut into pieces.
# Backward: a slot of whole images is a task; it owns their dx and a dweight and dbias of its own, which are summed in
# slot order at the end. Ranges and slots depend on shapes alone.

cdef enum:
    SUM_LANES = 16
    REDUCE_BLOCK = 4096


cdef real_t lane_sum(const real_t* x, Py_ssize_t n) noexcept nogil:
    """Σ x in 16 interleaved partial sums, a form that vectorises and rounds less than one running sum."""
    cdef real_t[SUM_LANES] lanes
    cdef Py_ssize_t i, l
    cdef real_t total = 0
    for l in range(SUM_LANES):
        lanes[l] = 0
    for i in range(n // SUM_LANES):
        for l in range(SUM_LANES):
            lanes[l] += x[i * SUM_LANES + l]
    for i in range(n - n % SUM_LANES, n):
        total += x[i]
    for l in range(SUM_LANES):
        total += lanes[l]
    return total


cdef Window columns_of(const Window* w, Py_ssize_t left, Py_ssize_t columns) noexcept nogil:
    """The window of `columns` outputs of a row from `left` on, of as many as there are."""
    cdef Window part = w[0]
    part.out_w, part.pad_w = min(columns, w.out_w - left), w.pad_w - left * w.stride_w
    return part


cdef void conv_forward_rows(
    const real_t* x, const real_t* weight, const real_t* bias, real_t* out, const Window* w,
    Py_ssize_t filters, Py_ssize_t first, Py_ssize_t last, Py_ssize_t left, Py_ssize_t columns, Py_ssize_t ld,
    real_t* scratch,
) noexcept nogil:
    """out on output rows first … last − 1, and `columns` from `left` on; scratch: (K + F) × ld + gemm_scratch elements."""
    cdef Py_ssize_t k = w.channels * w.kernel_h * w.kernel_w, f, q, row, rows, pixels
    cdef real_t* cols = scratch
    cdef real_t* product = cols + k * ld
    cdef real_t* target
    cdef const real_t* source
    cdef real_t b
    cdef Window part = columns_of(w, left, columns)
    im2col_rows(x, &part, first, last, cols, ld)
    gemm(
        filters, (last - first) * part.out_w, k, weight, k, 1, cols, ld, 1, product, ld, False,
        product + filters * ld,
    )
    row = first
    while row < last:
        rows = rows_in_image(row, last, w.out_h)
        pixels = rows * part.out_w
        for f in range(filters):
            source = product + f * ld + (row - first) * part.out_w
            target = out + ((row // w.out_h * filters + f) * w.out_h + row % w.out_h) * w.out_w + left
            b = bias[f] if bias != NULL else 0
            for q in range(pixels):
                target[q] = source[q] + b
        row += rows


cdef void conv_backward_slot(
    const real_t* dout, const real_t* x, const real_t* weight, real_t* dx, real_t* dweight, real_t* dbias,
    const Window* w, Py_ssize_t filters, Py_ssize_t first_image, Py_ssize_t last_image,
    Py_ssize_t rows_at_a_time, Py_ssize_t columns, Py_ssize_t ld, real_t* scratch,
) noexcept nogil:
    """dx of the slot's images (unless NULL), and the slot's dweight and dbias.

    scratch: (K + F) × ld + gemm_scratch elements.
    """
    cdef Py_ssize_t k = w.channels * w.kernel_h * w.kernel_w, f, row, rows, pixels, first, last, left
    cdef Window part
    cdef Py_ssize_t image_size = w.channels * w.height * w.width, end = last_image * w.out_h
    cdef real_t* cols = scratch
    cdef real_t* dout_rows = cols + k * ld
    cdef real_t* packs = dout_rows + filters * ld
    cdef bint accumulate = False
    cdef const real_t* source
    if dx != NULL:
        memset(dx + first_image * image_size, 0, (last_image - first_image) * image_size * sizeof(real_t))
    memset(dbias, 0, filters * sizeof(real_t))
    first = first_image * w.out_h
    while first < end:
        last = min(first + rows_at_a_time, end)
        left = 0
        while left < w.out_w:
            part = columns_of(w, left, columns)
            row = first
            while row < last:
                rows = rows_in_image(row, last, w.out_h)
                pixels = rows * part.out_w
                for f in range(filters):
                    source = dout + ((row // w.out_h * filters + f) * w.out_h + row % w.out_h) * w.out_w + left
                    memcpy(dout_rows + f * ld + (row - first) * part.out_w, source, pixels * sizeof(real_t))
                    dbias[f] += lane_sum(source, pixels)
                row += rows
            pixels = (last - first) * part.out_w
            if dx != NULL:
                gemm(k, pixels, filters, weight, 1, k, dout_rows, ld, 1, cols, ld, False, packs)
                col2im_rows(cols, ld, &part, first, last, dx)
            im2col_rows(x, &part, first, last, cols, ld)
            gemm(filters, k, pixels, dout_rows, ld, 1, cols, 1, ld, dweight, k, accumulate, packs)
            accumulate = True
            left += columns
        first = last


cdef void reduce_slots(
    const real_t* slots, Py_ssize_t n_slots, Py_ssize_t size, real_t* out, Py_ssize_t block
) noexcept nogil:
    """One block of out = Σ slots (n_slots, size), in slot order."""
    cdef Py_ssize_t s, i, begin = block * REDUCE_BLOCK, end = min((block + 1) * REDUCE_BLOCK, size)
    for i in range(begin, end):
        out[i] = slots[i]
    for s in range(1, n_slots):
        for i in range(begin, end):
            out[i] += slots[s * size + i]


def conv2d_forward(
    const real_t[:, :, :, ::1] x not None, const real_t[:, :, :, ::1] weight not None, const real_t[::1] bias,
    real_t[:, :, :, ::1] out not None, tuple stride not None, tuple padding not None, tuple dilation not None,
    Py_ssize_t rows_at_a_time, Py_ssize_t columns, Py_ssize_t ld, real_t[::1] scratch not None, int n_threads,
):
    """bias may be None; scratch: n_threads × ((K + F) × ld + gemm_scratch) elements, ld ≥ rows_at_a_time × OW."""
    cdef Window w = make_window(
        (x.shape[1], x.shape[2], x.shape[3]), (weight.shape[2], weight.shape[3]), (out.shape[2], out.shape[3]),
        stride, padding, dilation,
    )
    cdef Py_ssize_t filters = weight.shape[0], rows = x.shape[0] * w.out_h, task, pieces
    cdef Py_ssize_t share = (w.channels * w.kernel_h * w.kernel_w + filters) * ld + GEMM_SCRATCH
    cdef const real_t* bias_start = NULL
    n_threads = team(n_threads)
    require(
        x.shape[0] and weight.shape[0] and x.shape[0] == out.shape[0] and weight.shape[1] == x.shape[1] and weight.shape[0] == out.shape[1]
        and (bias is None or bias.shape[0] == filters) and 1 <= columns <= w.out_w and rows_at_a_time >= 1
        and (columns == w.out_w or rows_at_a_time == 1) and ld >= rows_at_a_time * columns and scratch.shape[0] >= n_threads * share,
        "conv2d_forward",
    )
    pieces = blocks(w.out_w, columns)
    if bias is not None:
        bias_start = &bias[0]
    for task in prange(
        blocks(rows, rows_at_a_time) * pieces, nogil=True, schedule="dynamic", num_threads=n_threads
    ):
        conv_forward_rows(
            &x[0, 0, 0, 0], &weight[0, 0, 0, 0], bias_start, &out[0, 0, 0, 0], &w, filters,
            task // pieces * rows_at_a_time, min((task // pieces + 1) * rows_at_a_time, rows), task % pieces * columns,
            columns, ld, &scratch[0] + threadid() * share,
        )


def conv2d_backward(
    const real_t[:, :, :, ::1] dout not None, const real_t[:, :, :, ::1] x not None, const real_t[:, :, :, ::1] weight not None,
    real_t[:, :, :, ::1] dx, real_t[:, :, :, ::1] dweight not None, real_t[::1] dbias not None,
    tuple stride not None, tuple padding not None, tuple dilation not None,
    Py_ssize_t n_slots, Py_ssize_t rows_at_a_time, Py_ssize_t columns, Py_ssize_t ld, real_t[::1] scratch not None, int n_threads,
):
    """dx may be None; scratch: n_threads × ((K + F) × ld + gemm_scratch) + n_slots × F × (K + 1) elements."""
    cdef Window w = make_window(
        (x.shape[1], x.shape[2], x.shape[3]), (weight.shape[2], weight.shape[3]),
        (dout.shape[2], dout.shape[3]), stride, padding, dilation,
    )
    cdef Py_ssize_t images = x.shape[0], filters = weight.shape[0], slot, block
    cdef Py_ssize_t k = w.channels * w.kernel_h * w.kernel_w, share = (k + filters) * ld + GEMM_SCRATCH
    cdef real_t* dweights
    cdef real_t* dbiases
    cdef real_t* dx_start = NULL
    n_threads = team(n_threads)
    require(
        x.shape[0] and weight.shape[0] and x.shape[0] == dout.shape[0] and weight.shape[1] == x.shape[1] and filters == dout.shape[1] == dbias.shape[0]
        and (dweight.shape[0], dweight.shape[1], dweight.shape[2], dweight.shape[3]) == (filters, x.shape[1], w.kernel_h, w.kernel_w)
        and (dx is None or (dx.shape[0], dx.shape[1], dx.shape[2], dx.shape[3]) == (x.shape[0], x.shape[1], x.shape[2], x.shape[3]))
        and 1 <= columns <= w.out_w and rows_at_a_time >= 1 and (columns == w.out_w or rows_at_a_time == 1) and 1 <= n_slots <= images
        and ld >= rows_at_a_time * columns and scratch.shape[0] >= n_threads * share + n_slots * filters * (k + 1),
        "conv2d_backward",
    )
    dweights = &scratch[0] + n_threads * share
    dbiases = dweights + n_slots * filters * k
    if dx is not None:
        dx_start = &dx[0, 0, 0, 0]
    for slot in prange(n_slots, nogil=True, schedule="dynamic", num_threads=n_threads):
        conv_backward_slot(
            &dout[0, 0, 0, 0], &x[0, 0, 0, 0], &weight[0, 0, 0, 0], dx_start,
            dweights + slot * filters * k, dbiases + slot * filters, &w, filters,
            slot * images // n_slots, (slot + 1) * images // n_slots, rows_at_a_time, columns, ld,
            &scratch[0] + threadid() * share,
        )
    for block in prange(
        blocks(filters * k, REDUCE_BLOCK), nogil=True, schedule="static", num_threads=n_threads
    ):
        reduce_slots(dweights, n_slots, filters * k, &dweight[0, 0, 0, 0], block)
    for block in range(blocks(filters, REDUCE_BLOCK)):
        reduce_slots(dbiases, n_slots, filters, &dbias[0], block)
