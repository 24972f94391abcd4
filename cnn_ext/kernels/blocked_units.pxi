# What stands between two convolutions in the blocked layout: batch normalisation, ReLU and max-pool, in one pass over
# memory. Channels are lanes: a window's maximum is a vertical maximum.

cdef struct PoolWindow:
    Py_ssize_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w


cdef bint set_window(PoolWindow* w, tuple sizes) except False:
    if len(sizes) != 6 or max(sizes) > MOST_SIZE:
        raise ValueError(f"Unit: expected a window (KH, KW, SH, SW, PH, PW) of up to {MOST_SIZE} pixels, got {sizes}")
    w.kernel_h, w.kernel_w, w.stride_h, w.stride_w, w.pad_h, w.pad_w = sizes
    return True


cdef bint windows_apart(const PoolWindow* w) noexcept:
    return w.kernel_h <= w.stride_h and w.kernel_w <= w.stride_w and w.pad_h == w.pad_w == 0


cdef bint pools(const PoolWindow* w, const Layout* x, const Layout* out) noexcept:
    """Whether `out` has a pixel for each window of x, none of which lies in the padding alone."""
    return (
        axis_pools(w.kernel_h, w.stride_h, w.pad_h, x.h, out.h) and axis_pools(w.kernel_w, w.stride_w, w.pad_w, x.w, out.w)
        and x.n == out.n and x.c == out.c and x.lanes == out.lanes and x.batch == out.batch
    )


cdef bint axis_pools(Py_ssize_t kernel, Py_ssize_t stride, Py_ssize_t pad, Py_ssize_t size, Py_ssize_t out) noexcept:
    return 0 <= pad < kernel <= size + 2 * pad and stride >= 1 and out == (size + 2 * pad - kernel) // stride + 1


cdef struct Windows:  # neighbouring ones of equal size: what of the first lies inside, and how many
    Py_ssize_t top, left, height, width, count


cdef Windows windows_at(
    const PoolWindow* w, const Layout* x, Py_ssize_t out_w, Py_ssize_t p, Py_ssize_t q
) noexcept nogil:
    """Window (p, q) and those after it in its row that are as large."""
    cdef Py_ssize_t top = p * w.stride_h - w.pad_h, left = q * w.stride_w - w.pad_w
    cdef Windows found
    found.top, found.left = max(top, 0), max(left, 0)
    found.height = min(top + w.kernel_h, x.h) - found.top
    found.width = min(left + w.kernel_w, x.w) - found.left
    found.count = 1
    if found.width == w.kernel_w:
        found.count = min((x.w + w.pad_w - w.kernel_w) // w.stride_w + 1, out_w) - q
    return found


cdef bint indexes(const uint8_t[::1] index, const PoolWindow* w, Blocks out):
    """Whether an index has a byte for each value of `out`, and a byte numbers the pixels of a window."""
    return index.shape[0] >= out.size and w.kernel_h * w.kernel_w <= 256


cdef class Unit(Slices):
    """out = max over windows of relu((x − mean) · scale + shift), each part as asked for; in one pass over x.

    index : with a window of more than one pixel, which of them was the maximum, a byte a value in out's order.
    picked : x where the maximum was, for a batch norm's backward pass; like out, or None.
    """
    cdef Blocks x, out, picked
    cdef Norm norm
    cdef bint relu
    cdef PoolWindow window
    cdef uint8_t[::1] index

    def __init__(
        self, Blocks x not None, Blocks out not None, Norm norm, bint relu, tuple window not None, uint8_t[::1] index,
        Blocks picked,
    ):
        """window : (KH, KW, SH, SW, PH, PW)."""
        self.bound = False
        self.x, self.out, self.norm, self.relu, self.index, self.picked = x, out, norm, relu, index, picked
        set_window(&self.window, window)
        self.pieces = Pieces(out, out.at.h)
        self.product, self.row_stride, self.apart = x, self.window.stride_h, windows_apart(&self.window)
        self.worth_threads = x.size > 100_000
        if (
            not pools(&self.window, &x.at, &out.at) or (norm is not None and not norm.fits(x))
            or (index is not None and not indexes(index, &self.window, out))
            or (picked is not None and not alike(picked, out))
        ):
            raise ValueError("Unit: x, out, norm, window, index and picked do not belong together")
        self.bound = True

    cdef void rows(self, Py_ssize_t slot, Py_ssize_t first, Py_ssize_t last, float* x) noexcept nogil:
        cdef Py_ssize_t block = self.pieces.block(slot), cb = self.pieces.channel_block(slot), p, q
        cdef PoolWindow* w = &self.window
        if w.kernel_h * w.kernel_w == 1 and w.stride_h * w.stride_w == 1:
            self.pixels(block, cb, first * self.x.at.w, last * self.x.at.w, x)
            return
        for p in range(first, last):
            q = 0
            while q < self.out.at.w:
                q += self.maxima(block, cb, p, q, x, first * w.stride_h)

    cdef void pixels(
        self, Py_ssize_t block, Py_ssize_t cb, Py_ssize_t first, Py_ssize_t last, const float* x
    ) noexcept nogil:
        """Where there is nothing to pool: pixels first … last − 1; `x` is the first."""
        cdef Py_ssize_t each = self.x.lanes, pixel = rows_of(&self.x.at, block) * each, size = (last - first) * pixel, k, v
        cdef float* out = block_at(&self.out.at, block, cb) + first * pixel
        cdef lanes mean, scale, shift, value
        if self.norm is None:
            for k from 0 <= k < size by LANE_WIDTH:
                value = (<const lanes*>(x + k))[0]
                (<lanes*>(out + k))[0] = lanes_relu(value) if self.relu else value
            return
        for v from 0 <= v < each by LANE_WIDTH:
            mean = (<lanes*>&self.norm.mean[cb * each + v])[0]
            scale = (<lanes*>&self.norm.scale[cb * each + v])[0]
            shift = (<lanes*>&self.norm.shift[cb * each + v])[0]
            for k from v <= k < size by each:
                value = ((<const lanes*>(x + k))[0] - mean) * scale + shift
                (<lanes*>(out + k))[0] = lanes_relu(value) if self.relu else value

    cdef Py_ssize_t maxima(
        self, Py_ssize_t block, Py_ssize_t cb, Py_ssize_t p, Py_ssize_t q, const float* x, Py_ssize_t x_row
    ) noexcept nogil:
        """Pixel q of row p of out and those after it whose windows are as large; row x_row begins at `x`. Returns how many."""
        cdef int relu = self.relu
        cdef Py_ssize_t pixel = rows_of(&self.x.at, block) * self.x.lanes, row = self.x.at.w * pixel, v
        # Without a norm all lanes are alike, and memory is gone through in its order.
        cdef Py_ssize_t each = LANE_WIDTH if self.norm is None else self.x.lanes
        cdef Py_ssize_t step = self.window.stride_w * pixel
        cdef Py_ssize_t to = block_at(&self.out.at, block, cb) - self.out.at.data + (p * self.out.at.w + q) * pixel
        cdef Windows w = windows_at(&self.window, &self.x.at, self.out.at.w, p, q)
        cdef float* out = self.out.at.data + to
        cdef float* picked = NULL
        cdef uint8_t* index = NULL
        cdef lanes mean = lanes_all(0), scale = lanes_all(1), shift = lanes_all(0)
        x += (w.top - x_row) * row + w.left * pixel
        if self.index is not None:
            index = &self.index[to]
        if self.picked is not None:
            picked = self.picked.at.data + to
        for v from 0 <= v < each by LANE_WIDTH:
            if self.norm is not None:
                mean = (<lanes*>&self.norm.mean[cb * each + v])[0]
                scale = (<lanes*>&self.norm.scale[cb * each + v])[0]
                shift = (<lanes*>&self.norm.shift[cb * each + v])[0]
            # Two by two is by far the most frequent: constant counts.
            if self.norm is None and index == NULL and picked == NULL:
                if w.height == 2 and w.width == 2:
                    maximum(x, row, pixel, 2, 2, w.count, step, relu, out)
                else:
                    maximum(x, row, pixel, w.height, w.width, w.count, step, relu, out)
            elif w.height == 2 and w.width == 2:
                pool(x + v, row, pixel, 2, 2, w.count, step, each, mean, scale, shift, relu, out + v, index, picked)
            else:
                pool(
                    x + v, row, pixel, w.height, w.width, w.count, step, each, mean, scale, shift, relu, out + v, index,
                    picked)
            if index != NULL:
                index += LANE_WIDTH
            if picked != NULL:
                picked += LANE_WIDTH
        return w.count


cdef inline void pool(
    const float* x, Py_ssize_t row, Py_ssize_t pixel, Py_ssize_t height, Py_ssize_t width, Py_ssize_t count,
    Py_ssize_t step, Py_ssize_t each, lanes mean, lanes scale, lanes shift, bint relu, float* out, uint8_t* index,
    float* picked,
) noexcept nogil:
    """Unit for `count` windows of height × width pixels, `step` floats apart, and of a pixel for LANE_WIDTH of every `each`
    floats."""
    cdef lanes original, value, best, picked_there
    cdef lane_flags number, beats
    cdef Py_ssize_t q, k, i, j
    for q in range(count):
        for k from 0 <= k < pixel by each:
            picked_there = (<const lanes*>(x + k))[0]
            best = (picked_there - mean) * scale + shift
            number = lanes_index(0)
            for i in range(height):
                for j in range(width):
                    if i + j > 0:
                        original = (<const lanes*>(x + k + i * row + j * pixel))[0]
                        value = (original - mean) * scale + shift
                        beats = lanes_beat(value, best)
                        lanes_put(beats, value, &best)
                        lanes_put(beats, original, &picked_there)
                        lanes_put_number(beats, <int>(i * width + j), &number)
            if index != NULL:
                lanes_put_index(index + k, number)
            if picked != NULL:
                # x itself: scale may be zero, so that it cannot be had from the output.
                (<lanes*>(picked + k))[0] = picked_there
            (<lanes*>(out + k))[0] = lanes_relu(best) if relu else best
        x += step
        out += pixel
        if index != NULL:
            index += pixel
        if picked != NULL:
            picked += pixel


cdef inline void maximum(
    const float* x, Py_ssize_t row, Py_ssize_t pixel, Py_ssize_t height, Py_ssize_t width, Py_ssize_t count,
    Py_ssize_t step, bint relu, float* out,
) noexcept nogil:
    """`pool` without a norm, of which nothing need be known but the maximum."""
    cdef lanes value, best
    cdef Py_ssize_t q, k, i, j
    for q in range(count):
        for k from 0 <= k < pixel by LANE_WIDTH:
            best = (<const lanes*>(x + k))[0]
            for i in range(height):
                for j in range(width):
                    if i + j > 0:
                        value = (<const lanes*>(x + k + i * row + j * pixel))[0]
                        lanes_put(lanes_beat(value, best), value, &best)
            (<lanes*>(out + k))[0] = lanes_relu(best) if relu else best
        x += step
        out += pixel
